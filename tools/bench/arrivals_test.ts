import { assertEquals } from "@std/assert";
import { Arrivals } from "./arrivals.ts";

Deno.test("Arrivals tells a client that starves from a machine that stands still", () => {
  const arrivals = new Arrivals(2);
  arrivals.begin(1000);
  for (let t = 1001; t <= 1100; t++) {
    arrivals.take(0, t);
    if (t <= 1010 || t === 1050) arrivals.take(1, t, 2);
  }
  assertEquals(arrivals.shares(), [
    { packets: 100, gapMs: 1, starvedMs: 1 },
    { packets: 22, gapMs: 50, starvedMs: 50 },
  ]);

  arrivals.begin(2000);
  arrivals.take(0, 2001);
  arrivals.take(1, 2001);
  arrivals.take(0, 2300);
  arrivals.take(1, 2300);
  assertEquals(arrivals.shares(), [
    { packets: 2, gapMs: 299, starvedMs: 5 },
    { packets: 2, gapMs: 299, starvedMs: 5 },
  ]);
});

Deno.test("Arrivals ignores numbers that are no client's", () => {
  const arrivals = new Arrivals(1);
  arrivals.begin(0);
  arrivals.take(7, 1);
  arrivals.take(NaN, 1);
  assertEquals(arrivals.shares(), [{ packets: 0, gapMs: 0, starvedMs: 0 }]);
});
