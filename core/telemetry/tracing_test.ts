import { assertEquals, assertMatch } from "@std/assert";
import { seededRandom } from "../testing/random.ts";
import { SpanQueue, Tracer } from "./tracing.ts";

function example(queue: SpanQueue | undefined) {
  let now = 1000;
  const tracer = new Tracer({ queue, random: seededRandom(1), clock: () => now });
  return { tracer, pass: (ms: number) => now += ms };
}

Deno.test("a span tells when it was, what it is part of and how it ended, once", () => {
  const queue = new SpanQueue();
  const { tracer, pass } = example(queue);
  const outer = tracer.start("outer", { port: 3478 });
  pass(5);
  const inner = tracer.start("inner", {}, outer);
  pass(5);
  inner.fail("no answer");
  inner.end();
  outer.set("ok", true);
  outer.end();
  const [first, second] = queue.takeAll();
  assertEquals([first!.name, first!.startMs, first!.endMs, first!.error], [
    "inner",
    1005,
    1010,
    "no answer",
  ]);
  assertEquals(first!.traceId, second!.traceId);
  assertEquals(first!.parentSpanId, second!.spanId);
  assertEquals(second!.attributes, { port: 3478, ok: true });
  assertEquals([second!.parentSpanId, second!.error], [undefined, undefined]);
  assertMatch(first!.traceId, /^[0-9a-f]{32}$/);
  assertMatch(first!.spanId, /^[0-9a-f]{16}$/);
  assertEquals(outer.logFields, { trace_id: first!.traceId, span_id: second!.spanId });
  assertEquals(queue.length, 0);
});

Deno.test("spans that nobody takes have no ids and go nowhere", () => {
  const span = example(undefined).tracer.start("x");
  assertEquals(span.logFields, {});
  span.end();
});

Deno.test("a full queue counts what it has no room for", () => {
  const queue = new SpanQueue(2);
  const { tracer } = example(queue);
  for (const name of ["a", "b", "c"]) tracer.start(name).end();
  assertEquals([queue.length, queue.dropped], [2, 1]);
  const taken = queue.takeAll();
  tracer.start("d").end();
  queue.giveBack(taken);
  assertEquals(queue.takeAll().map((s) => s.name), ["a", "b"]);
  assertEquals(queue.dropped, 2);
});
