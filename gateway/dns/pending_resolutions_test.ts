import { assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { type Millis, NEVER } from "@firezone/core/units";
import { PendingResolutions, type Resolution } from "./pending_resolutions.ts";

const at = (ms: number) => ms as Millis;

function wish(clientId: string, domain: string, proxy = "100.96.0.1"): Resolution {
  return { clientId, resourceId: "r", writtenDomain: domain, domain, proxyIps: [ip(proxy)] };
}

Deno.test("a wish that is repeated is asked for once, with what was said last", () => {
  const pending = new PendingResolutions();
  const id = pending.add(at(0), wish("c", "a.example")) as number;
  assertEquals(pending.add(at(1), wish("c", "a.example", "100.96.0.9")), "waiting");
  assertEquals(pending.take(id)?.proxyIps[0]?.text, "100.96.0.9");
  assertEquals(pending.take(id), undefined);
  assertEquals(typeof pending.add(at(2), wish("c", "a.example")), "number");
});

Deno.test("clients do not get in each other's way, and one cannot take all places", () => {
  const pending = new PendingResolutions();
  for (let i = 0; i < 128; i++) {
    assertEquals(typeof pending.add(at(0), wish("greedy", `h${i}.example`)), "number");
  }
  assertEquals(pending.add(at(0), wish("greedy", "one-more.example")), "refused");
  assertEquals(typeof pending.add(at(0), wish("other", "h0.example")), "number");
  pending.take(0);
  assertEquals(typeof pending.add(at(0), wish("greedy", "one-more.example")), "number");
  for (let i = 0; pending.size < 1_000; i++) pending.add(at(0), wish(`c${i}`, "a.example"));
  assertEquals(pending.add(at(0), wish("late", "a.example")), "refused");
});

Deno.test("what is not answered for fifteen seconds is given up, in order", () => {
  const pending = new PendingResolutions();
  assertEquals(pending.nextDeadline, NEVER);
  pending.add(at(0), wish("c", "a.example"));
  pending.add(at(1_000), wish("c", "b.example"));
  assertEquals(pending.nextDeadline, 15_000);
  assertEquals(pending.takeOverdue(at(14_999)), undefined);
  assertEquals(pending.takeOverdue(at(15_000))?.domain, "a.example");
  assertEquals(pending.takeOverdue(at(15_000)), undefined);
  assertEquals(pending.nextDeadline, 16_000);
  assertEquals(pending.takeOverdue(at(99_000))?.domain, "b.example");
  assertEquals([pending.size, pending.nextDeadline], [0, NEVER]);
});
