import { assertEquals } from "@std/assert";
import { type Millis, NEVER } from "@firezone/core/units";
import { GIVE_UP_AFTER_MS, LostResources } from "./lost_resources.ts";
import { REQUEST_INTERVAL_MS } from "./pending_flows.ts";

const at = (ms: number) => ms as Millis;

Deno.test("LostResources are asked for at once and again, for a minute", () => {
  const lost = new LostResources();
  assertEquals([lost.pollTimeout(), lost.takeDue(at(5))], [NEVER, []]);
  lost.add("a");
  assertEquals(lost.pollTimeout(), at(0));
  assertEquals(lost.takeDue(at(7)), ["a"]);
  const asked = [0];
  lost.add("a"); // lost once more, which is no new minute
  assertEquals(lost.takeDue(at(7)), ["a"]);
  for (let now = lost.pollTimeout(); now !== NEVER; now = lost.pollTimeout()) {
    if (lost.takeDue(now).length > 0) asked.push(now - 7);
  }
  assertEquals(asked.slice(0, 3), [0, REQUEST_INTERVAL_MS, 2 * REQUEST_INTERVAL_MS]);
  assertEquals(asked.at(-1)! < GIVE_UP_AFTER_MS, true);
  assertEquals(asked.length, GIVE_UP_AFTER_MS / REQUEST_INTERVAL_MS);
});

Deno.test("LostResources that are carried again are not asked for", () => {
  const lost = new LostResources();
  lost.add("a");
  lost.add("b");
  lost.delete("a");
  assertEquals(lost.takeDue(at(1)), ["b"]);
  lost.delete("b");
  assertEquals(lost.pollTimeout(), NEVER);
  lost.add("c");
  lost.clear();
  assertEquals([lost.pollTimeout(), lost.takeDue(at(2))], [NEVER, []]);
});
