import { assertEquals } from "@std/assert";
import type { Millis } from "@firezone/core/units";
import { RateLimits } from "./rate_limit.ts";

const at = (ms: number) => ms as Millis;

Deno.test("RateLimits tell strangers apart, and do not grow without bound", () => {
  const limits = new RateLimits(1, 1, 3);
  const take = (name: string, ms = 0) => limits.take(at(ms), name);
  assertEquals([take("a"), take("a"), take("b"), take("c")], [true, false, true, true]);
  assertEquals(take("d"), true);
  assertEquals(take("a"), true, "forgotten, being the longest known");
  assertEquals(take("d"), false, "still remembered");
});
