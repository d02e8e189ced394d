import { assert, assertEquals } from "@std/assert";
import { RateLimit } from "./rate_limit.ts";
import { medianHeapGrowth } from "./testing/heap_growth.ts";
import type { Millis } from "./units.ts";

const at = (ms: number) => ms as Millis;

Deno.test("RateLimit gives its capacity at once and then so much per second", () => {
  const rateLimit = new RateLimit(3, 2);
  const take = (ms: number) => rateLimit.take(at(ms));
  assertEquals([take(0), take(0), take(0), take(0)], [true, true, true, false]);
  assertEquals([take(499), take(500), take(501)], [false, true, false]);
  assertEquals(rateLimit.isFull(at(2000)), true);
  assertEquals([take(60_000), take(60_000), take(60_000), take(60_000)], [true, true, true, false]);
});

Deno.test("RateLimit.take allocates nothing once it is compiled", () => {
  const rateLimit = new RateLimit(50, 1000);
  const clock = new Float64Array([0.5]); // a plain number that grows would be garbage itself
  let taken = 0;
  const batch = () => {
    for (let i = 0; i < 1000; i++) if (rateLimit.take(at(clock[0]! += 0.7))) taken++;
  };
  const growth = medianHeapGrowth(batch, 4000);
  assert(growth < 4000, `grew by ${growth} bytes per 1000 calls`);
  assert(taken > 1000);
});
