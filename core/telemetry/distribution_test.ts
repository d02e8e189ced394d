import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import { countOf, Distribution } from "./distribution.ts";

const BOUNDS = [100, 200, 300];

Deno.test("Distribution counts a value on a bound below it, and large ones in the last bucket", () => {
  const distribution = new Distribution(BOUNDS);
  for (const value of [0, 100, 101, 200, 300, 301, 65_535]) distribution.record(value);
  assertEquals(distribution.values, { buckets: [2, 2, 1, 2], sum: 66_537, min: 0, max: 65_535 });
});

Deno.test("Distribution agrees with a search from below", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.double({ noNaN: true }), { maxLength: 20 }),
      fc.array(fc.double({ noNaN: true, noDefaultInfinity: true })),
      (unsorted, values) => {
        const bounds = unsorted.sort((a, b) => a - b);
        const distribution = new Distribution(bounds);
        const expected = new Array(bounds.length + 1).fill(0);
        for (const value of values) {
          distribution.record(value);
          const i = bounds.findIndex((bound) => value <= bound);
          expected[i < 0 ? bounds.length : i]++;
        }
        assertEquals(distribution.values.buckets, expected);
        assertEquals(countOf(distribution.values), values.length);
      },
    ),
  );
});

Deno.test("Distribution: parts that were taken and merged make the whole", () => {
  const sizes = fc.array(fc.nat(70_000));
  fc.assert(fc.property(sizes, sizes, (first, second) => {
    const whole = new Distribution(BOUNDS);
    const part = new Distribution(BOUNDS);
    const sum = new Distribution(BOUNDS);
    for (const values of [first, second]) {
      for (const value of values) {
        whole.record(value);
        part.record(value);
      }
      sum.merge(part.take());
    }
    assertEquals(sum.values, whole.values);
    assertEquals(countOf(part.values), 0);
  }));
});

Deno.test("Distribution.record allocates nothing once it is compiled, also where sums are large", () => {
  const distribution = new Distribution([...Array(15).keys()].map((i) => (i + 1) * 100));
  distribution.record(2 ** 40);
  const batch = () => {
    for (let i = 0; i < 1000; i++) distribution.record(i * 2);
  };
  const growth = medianHeapGrowth(batch, 4000);
  assert(growth < 4000, `grew by ${growth} bytes per 1000 values`);
});
