import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { attributesKey } from "./attributes.ts";
import { type MetricData, Metrics, type SumPoint } from "./metrics.ts";

Deno.test("a counter tells totals, and deltas once", () => {
  const metrics = new Metrics("test");
  const counter = metrics.counter({ name: "answers", unit: "{answer}", description: "Answers." });
  counter.add(2, { kind: "good" });
  counter.add(1, { kind: "bad", code: 400 });
  counter.add(1, { code: 400, kind: "bad" });
  const points = [
    { attributes: { kind: "good" }, value: 2 },
    { attributes: { kind: "bad", code: 400 }, value: 2 },
  ];
  assertEquals(sums(metrics.totals()), points);
  assertEquals(sums(metrics.takeDeltas().metrics), points);
  counter.add(5, { kind: "good" });
  assertEquals(sums(metrics.takeDeltas().metrics), [{ attributes: { kind: "good" }, value: 5 }]);
  assertEquals(metrics.takeDeltas().metrics, []);
  assertEquals(sums(metrics.totals())[0]!.value, 7);
});

Deno.test("deltas that are given back are part of the next", () => {
  const metrics = new Metrics("test");
  const counter = metrics.counter({ name: "a", unit: "1", description: "" });
  const histogram = metrics.histogram({ name: "h", unit: "By", description: "", bounds: [10] });
  counter.add(1);
  histogram.record(3);
  const taken = metrics.takeDeltas();
  counter.add(10);
  histogram.record(30);
  taken.giveBack();
  const [a, h] = metrics.takeDeltas().metrics;
  assertEquals(a!.points, [{ attributes: {}, value: 11 }]);
  assertEquals(h!.points, [
    { attributes: {}, values: { buckets: [1, 1], sum: 33, min: 3, max: 30 } },
  ]);
});

Deno.test("a level is told every time, as it is", () => {
  const metrics = new Metrics("test");
  const level = metrics.upDownCounter({ name: "a", unit: "1", description: "" });
  assertEquals(metrics.takeDeltas().metrics, []);
  level.set(3);
  metrics.takeDeltas().giveBack();
  level.set(2);
  for (let i = 0; i < 2; i++) {
    assertEquals(sums(metrics.takeDeltas().metrics), [{ attributes: {}, value: 2 }]);
  }
});

Deno.test("instruments carry the scope of their metrics unless they have their own", () => {
  const metrics = new Metrics("relay");
  metrics.counter({ name: "a", unit: "1", description: "" });
  metrics.counter({ name: "b", unit: "1", description: "", scope: "connlib" });
  assertEquals(metrics.totals().map((m) => m.scope), ["relay", "connlib"]);
});

Deno.test("whatever is delivered or given back, deltas add up to the totals", () => {
  const step = fc.record({ count: fc.nat(1000), isDelivered: fc.boolean() });
  fc.assert(fc.property(fc.array(step), (steps) => {
    const metrics = new Metrics("test");
    const counter = metrics.counter({ name: "a", unit: "1", description: "" });
    let delivered = 0;
    for (const { count, isDelivered } of [...steps, { count: 0, isDelivered: true }]) {
      counter.add(count);
      const taken = metrics.takeDeltas();
      if (isDelivered) delivered += sums(taken.metrics)[0]?.value ?? 0;
      else taken.giveBack();
    }
    assertEquals(delivered, steps.reduce((sum, s) => sum + s.count, 0));
  }));
});

Deno.test("attributes are the same in any order, and different if a value is of another type", () => {
  assertEquals(attributesKey({ a: 1, b: "x" }), attributesKey({ b: "x", a: 1 }));
  assertEquals(new Set([{ a: 1 }, { a: "1" }, { a: true }, {}].map(attributesKey)).size, 4);
});

function sums(metrics: readonly MetricData[]): readonly SumPoint[] {
  return metrics.flatMap((m) => m.kind === "histogram" ? [] : [...m.points]);
}
