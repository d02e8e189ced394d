import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { MAX_PACKETS_PER_RESOURCE, PendingFlows } from "./pending_flows.ts";

const at = (ms: number) => ms as Millis;
const packet = (n: number) => new Uint8Array([n]);

Deno.test("PendingFlows asks once per resource and two seconds", () => {
  const flows = new PendingFlows();
  assertEquals(flows.add(at(0), "a", packet(0)), true);
  assertEquals(flows.add(at(1999), "a", packet(1)), false);
  assertEquals(flows.add(at(1999), "b", packet(2)), true);
  assertEquals(flows.add(at(2000), "a", packet(3)), true);
  assertEquals(flows.take("a"), [packet(0), packet(1), packet(3)]);
});

Deno.test("PendingFlows asks at once after an answer", () => {
  const flows = new PendingFlows();
  flows.add(at(0), "a", packet(0));
  assertEquals(flows.has("a"), true);
  flows.take("a");
  assertEquals(flows.has("a"), false);
  assertEquals(flows.take("a"), undefined);
  assertEquals(flows.add(at(1), "a", packet(1)), true);
});

Deno.test("PendingFlows keeps the newest packets", () => {
  const flows = new PendingFlows();
  for (let n = 0; n < MAX_PACKETS_PER_RESOURCE + 2; n++) flows.add(at(n), "a", packet(n));
  const packets = flows.take("a")!;
  assertEquals(packets.length, MAX_PACKETS_PER_RESOURCE);
  assertEquals(packets[0], packet(2));
});
