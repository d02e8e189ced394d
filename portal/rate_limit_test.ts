import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { RateLimit, RateLimits } from "./rate_limit.ts";

const at = (ms: number) => ms as Millis;

Deno.test("RateLimit gives its capacity at once and then so much per second", () => {
  const rateLimit = new RateLimit(at(0), 3, 2);
  const take = (ms: number) => rateLimit.take(at(ms));
  assertEquals([take(0), take(0), take(0), take(0)], [true, true, true, false]);
  assertEquals([take(499), take(500), take(501)], [false, true, false]);
  assertEquals(rateLimit.isFull(at(2000)), true);
  assertEquals([take(60_000), take(60_000), take(60_000), take(60_000)], [true, true, true, false]);
});

Deno.test("RateLimits tell strangers apart, and do not grow without bound", () => {
  const limits = new RateLimits(1, 1, 3);
  const take = (name: string, ms = 0) => limits.take(at(ms), name);
  assertEquals([take("a"), take("a"), take("b"), take("c")], [true, false, true, true]);
  assertEquals(take("d"), true);
  assertEquals(take("a"), true, "forgotten, being the longest known");
  assertEquals(take("d"), false, "still remembered");
});
