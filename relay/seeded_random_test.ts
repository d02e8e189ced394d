import { assertEquals, assertNotEquals } from "@std/assert";
import { seededRandom } from "./seeded_random.ts";

Deno.test("a seed decides what is drawn, and every draw and stream is another", () => {
  const [one, same] = [seededRandom(7n, 0), seededRandom(7n, 0)];
  const first = one(32);
  assertEquals(same(32), first);
  const second = one(32);
  assertNotEquals(second, first);
  assertEquals(same(32), second);
  for (const other of [seededRandom(7n, 1), seededRandom(8n, 0), seededRandom(2n ** 63n, 0)]) {
    assertNotEquals(other(32), first);
  }
});
