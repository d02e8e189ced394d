import { assertEquals } from "@std/assert";
import { formatRate, Statistics } from "./statistics.ts";

Deno.test("rates have decimal units and two decimals", () => {
  const cases: [number, string][] = [
    [0, "0.00 B/s"],
    [999, "999.00 B/s"],
    [999.996, "1.00 kB/s"],
    [1000, "1.00 kB/s"],
    [1_254_900, "1.25 MB/s"],
    [125e6, "125.00 MB/s"],
    [1.5e9, "1.50 GB/s"],
    [2e12, "2.00 TB/s"],
    [5e15, "5000.00 TB/s"],
  ];
  for (const [rate, text] of cases) assertEquals(formatRate(rate), text);
});

Deno.test("a line tells levels as they are and throughput since the last line", () => {
  const statistics = new Statistics(1000);
  const totals = (bytes: number) => ({ allocations: 2, channels: 3, bytes, packets: 1 });
  const fields = (throughput: string) => ({ allocations: 2, channels: 3, throughput });
  assertEquals(statistics.next(11_000, totals(50_000)), fields("5.00 kB/s"));
  assertEquals(statistics.next(21_000, totals(50_000)), fields("0.00 B/s"));
  assertEquals(statistics.next(26_000, totals(5_050_000)), fields("1.00 MB/s"));
  assertEquals(statistics.next(26_000, totals(5_050_000)), fields("0.00 B/s"));
});
