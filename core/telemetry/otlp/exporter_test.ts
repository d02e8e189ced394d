import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { acceptance, OtlpCollector, refusal, silence } from "../../testing/otlp_collector.ts";
import { seededRandom } from "../../testing/random.ts";
import { logger, setUpLogging } from "../logging.ts";
import { Metrics } from "../metrics.ts";
import { resourceAttributes } from "../resource.ts";
import { SpanQueue, Tracer } from "../tracing.ts";
import { OtlpExporter, type OtlpOptions } from "./exporter.ts";
import { ProtobufWriter } from "./protobuf.ts";

const STARTED_MS = 1_700_000_000_000;
const NANOS = 1_000_000n;
const METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

Deno.test("metrics arrive with names, units, values, attributes, times and temporality", async () => {
  await using collector = OtlpCollector.listen();
  const rig = example(collector.port);
  rig.active.set(3);
  rig.responses.add(2, { response_class: "error", message_type: "allocate", error_code: 401 });
  for (const size of [50, 100, 150, 250]) rig.sizes.record(size, { isIt: true });
  rig.now += 60_000;
  await rig.exporter.sendMetrics();

  const resource = {
    "telemetry.sdk.name": "firezone",
    "telemetry.sdk.language": "typescript",
    "service.name": "mine",
    "service.namespace": "firezone",
  };
  const startNanos = BigInt(STARTED_MS) * NANOS;
  const times = { startNanos, timeNanos: startNanos + 60_000n * NANOS };
  const common = { resource, scope: "relay" };
  assertEquals(collector.requests, [METRICS]);
  assertEquals(collector.metrics, [
    {
      ...common,
      name: "active",
      unit: "{thing}",
      type: "sum",
      temporality: "cumulative",
      isMonotonic: false,
      points: [{ attributes: {}, ...times, value: 3 }],
    },
    {
      ...common,
      name: "responses",
      unit: "{response}",
      type: "sum",
      temporality: "delta",
      isMonotonic: true,
      points: [{
        attributes: { response_class: "error", message_type: "allocate", error_code: 401 },
        ...times,
        value: 2,
      }],
    },
    {
      ...common,
      name: "sizes",
      unit: "By",
      type: "histogram",
      temporality: "delta",
      isMonotonic: false,
      points: [{
        attributes: { isIt: true },
        ...times,
        histogram: {
          count: 4,
          sum: 550,
          min: 50,
          max: 250,
          buckets: [2, 1, 1],
          bounds: [100, 200],
        },
      }],
    },
  ]);
});

Deno.test("deltas begin where the last delivered ones ended; levels at the start", async () => {
  await using collector = OtlpCollector.listen();
  const rig = example(collector.port);
  rig.active.set(1);
  for (const count of [5, 0, 7]) {
    if (count > 0) rig.responses.add(count);
    rig.now += 1000;
    await rig.exporter.sendMetrics();
  }
  const pointsOf = (name: string) =>
    collector.metrics.filter((m) => m.name === name).flatMap((m) => m.points).map((p) => [
      p.value,
      Number(p.startNanos / NANOS) - STARTED_MS,
      Number(p.timeNanos / NANOS) - STARTED_MS,
    ]);
  assertEquals(pointsOf("responses"), [[5, 0, 1000], [7, 2000, 3000]]);
  assertEquals(pointsOf("active"), [[1, 0, 1000], [1, 0, 2000], [1, 0, 3000]]);
});

Deno.test("spans arrive with ids, times, attributes and what went wrong", async () => {
  await using collector = OtlpCollector.listen();
  const rig = example(collector.port);
  const outer = rig.tracer.start("outer", { port: 3478, share: 0.5, negative: -3 });
  const inner = rig.tracer.start("inner", {}, outer);
  rig.now += 10;
  inner.fail("no answer");
  outer.end();
  await rig.exporter.sendSpans();
  await rig.exporter.sendSpans();
  assertEquals(collector.requests, [TRACES]);
  const startNanos = BigInt(STARTED_MS) * NANOS;
  const times = { startNanos, endNanos: startNanos + 10n * NANOS };
  const common = { resource: collector.spans[0]!.resource, traceId: outer.traceId, ...times };
  assertEquals(common.resource["service.namespace"], "firezone");
  assertEquals(collector.spans, [
    {
      ...common,
      spanId: inner.spanId,
      parentSpanId: outer.spanId,
      name: "inner",
      attributes: {},
      statusCode: 2,
      statusMessage: "no answer",
    },
    {
      ...common,
      spanId: outer.spanId,
      parentSpanId: "",
      name: "outer",
      attributes: { port: 3478, share: 0.5, negative: -3 },
      statusCode: 0,
      statusMessage: "",
    },
  ]);
});

Deno.test("what a busy collector did not take is part of what comes next; what it refused is not", async () => {
  await using collector = OtlpCollector.listen();
  const rig = example(collector.port);
  const deliver = async (count: number, code: number) => {
    collector.answer = () => code === 0 ? acceptance() : refusal(code);
    rig.responses.add(count);
    rig.tracer.start(`span ${count}`).end();
    await rig.exporter.sendMetrics();
    await rig.exporter.sendSpans();
    const point = collector.metrics.findLast((m) => m.name === "responses")!.points[0]!;
    return point.value;
  };
  assertEquals(await deliver(1, 14), 1);
  assertEquals(await deliver(10, 14), 11);
  assertEquals(await deliver(100, 0), 111);
  assertEquals(await deliver(1000, 3), 1000);
  assertEquals(await deliver(10_000, 0), 10_000);
  assertEquals(
    collector.spans.slice(3).map((s) => s.name),
    ["span 1", "span 10", "span 100", "span 1000", "span 10000"],
  );
});

Deno.test("a collector that is down is complained of once a minute, with its address", async () => {
  let port: number;
  {
    await using gone = OtlpCollector.listen();
    port = gone.port;
  }
  const rig = example(port);
  const lines = await captureLog(async () => {
    for (let second = 0; second < 180; second += 10) {
      rig.active.set(1);
      await rig.exporter.sendMetrics();
      rig.now += 10_000;
    }
    // A clock that is set back does not silence it.
    rig.now -= 3_600_000;
    await rig.exporter.sendMetrics();
    await using collector = OtlpCollector.listen(port);
    await rig.exporter.sendMetrics();
    await rig.exporter.sendMetrics();
    assertEquals(collector.requests.length, 2);
  });
  assertEquals(lines.length, 5);
  for (const line of lines.slice(0, 4)) {
    assertStringIncludes(line, `WARN test: Cannot reach the OTLP collector endpoint=127.0.0.1:`);
    assertStringIncludes(line, "Connection refused");
  }
  assertStringIncludes(lines[4]!, "INFO test: The OTLP collector answers again");
});

Deno.test("a collector that takes only a part is complained of", async () => {
  await using collector = OtlpCollector.listen();
  const rig = example(collector.port);
  const inner = new ProtobufWriter().message(1, (p) => p.int64(1, 3).string(2, "too old")).bytes;
  collector.answer = () => acceptance(inner);
  const lines = await captureLog(async () => {
    rig.active.set(1);
    await rig.exporter.sendMetrics();
  });
  assertEquals(lines.length, 1);
  assertStringIncludes(lines[0]!, 'rejected=3 reason="too old"');
});

Deno.test("once started it sends by itself, brings metrics up to date first, and stops", async () => {
  await using collector = OtlpCollector.listen();
  let updates = 0;
  const rig = example(collector.port, {
    intervalMs: 10,
    spanDelayMs: 10,
    beforeMetrics: () => {
      rig.active.set(++updates);
      return Promise.resolve();
    },
  });
  rig.exporter.start();
  rig.tracer.start("a").end();
  await collector.until((c) => c.spans.length > 0 && c.metrics.length > 1 ? true : undefined);
  rig.tracer.start("last").end();
  await rig.exporter.close(5000);
  assertEquals(collector.spans.at(-1)!.name, "last");
  assertEquals(collector.metrics.at(-1)!.points[0]!.value, updates);
  const { length } = collector.requests;
  await rig.exporter.close(5000);
  assertEquals(collector.requests.length, length);
});

Deno.test("closing waits for a silent collector no longer than it was told", async () => {
  await using collector = OtlpCollector.listen();
  collector.answer = silence;
  const rig = example(collector.port, { intervalMs: 1 });
  rig.active.set(1);
  rig.exporter.start();
  await collector.until((c) => c.requests.length > 0 ? true : undefined);
  const start = performance.now();
  await rig.exporter.close(50);
  assert(performance.now() - start < 5000);
  assertEquals(collector.requests.length, 2);
});

function example(port: number, options: Partial<OtlpOptions> = {}) {
  const metrics = new Metrics("relay");
  const spans = new SpanQueue();
  const time = { now: STARTED_MS };
  return {
    get now() {
      return time.now;
    },
    set now(ms: number) {
      time.now = ms;
    },
    active: metrics.upDownCounter({ name: "active", unit: "{thing}", description: "Things." }),
    responses: metrics.counter({ name: "responses", unit: "{response}", description: "Answers." }),
    sizes: metrics.histogram({ name: "sizes", unit: "By", description: "", bounds: [100, 200] }),
    tracer: new Tracer({ queue: spans, random: seededRandom(1), clock: () => time.now }),
    exporter: new OtlpExporter({
      endpoint: { host: "127.0.0.1", port },
      resource: resourceAttributes(
        { "service.name": "relay", "service.namespace": "firezone" },
        { serviceName: "mine" },
      ),
      version: "1.5.0",
      scope: "relay",
      metrics,
      spans,
      intervalMs: 60_000,
      log: logger("test"),
      clock: () => time.now,
      ...options,
    }),
  };
}

async function captureLog(run: () => Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  setUpLogging({ filter: "info", colour: false, write: (line) => lines.push(line) });
  try {
    await run();
  } finally {
    setUpLogging({ filter: "off" });
  }
  return lines;
}
