import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { MAX_PACKETS_PER_RESOURCE, PendingFlows } from "./pending_flows.ts";

const at = (ms: number) => ms as Millis;
const packet = (n: number) => new Uint8Array([n]);

const add = (flows: PendingFlows, now: number, id: string, n: number) =>
  flows.add(at(now), id, packet(n), 0, 1);

Deno.test("PendingFlows asks once per resource and two seconds", () => {
  const flows = new PendingFlows();
  assertEquals(add(flows, 0, "a", 0), true);
  assertEquals(add(flows, 1999, "a", 1), false);
  assertEquals(add(flows, 1999, "b", 2), true);
  assertEquals(add(flows, 2000, "a", 3), true);
  assertEquals(flows.take("a"), [packet(0), packet(1), packet(3)]);
});

Deno.test("PendingFlows asks at once after a gateway was named", () => {
  const flows = new PendingFlows();
  add(flows, 0, "a", 0);
  assertEquals(flows.has("a"), true);
  flows.take("a");
  assertEquals(flows.has("a"), false);
  assertEquals(flows.take("a"), undefined);
  assertEquals(add(flows, 1, "a", 1), true);
});

Deno.test("PendingFlows drops what waited for a refused request, and asks again in time", () => {
  const flows = new PendingFlows();
  add(flows, 0, "a", 0);
  flows.refuse("a");
  assertEquals(flows.has("a"), false);
  assertEquals(add(flows, 1, "a", 1), false);
  assertEquals(flows.has("a"), false);
  assertEquals(add(flows, 2000, "a", 2), true);
  assertEquals(flows.has("a"), true);
  assertEquals(flows.take("a"), [packet(2)]);
});

Deno.test("PendingFlows keeps the newest packets", () => {
  const flows = new PendingFlows();
  for (let n = 0; n < MAX_PACKETS_PER_RESOURCE + 2; n++) add(flows, n, "a", n);
  const packets = flows.take("a")!;
  assertEquals(packets.length, MAX_PACKETS_PER_RESOURCE);
  assertEquals(packets[0], packet(2));
});

Deno.test("PendingFlows asks at once, and keeps what waits, when who was asked for is gone", () => {
  const flows = new PendingFlows();
  flows.hurry("a");
  add(flows, 0, "a", 0);
  flows.hurry("a");
  assertEquals(add(flows, 1, "a", 1), true);
  assertEquals(add(flows, 2, "a", 2), false);
  assertEquals(flows.take("a"), [packet(0), packet(1), packet(2)]);
});
