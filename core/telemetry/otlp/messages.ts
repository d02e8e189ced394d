/**
 * The requests of OTLP: metrics and spans as a collector reads them.
 *
 *     request ─ resource ─ scope ─ metric ─ points          request ─ resource ─ scope ─ spans
 *
 * Counters and histograms are told as deltas: with cumulative histograms smallest and largest value
 * would never change any more. Levels are cumulative, as their definition wants.
 *
 * Spec: opentelemetry-proto 1.x, `metrics.proto`, `trace.proto`, `common.proto`; the field numbers
 * here are those of these files.
 * @module
 */

import { fromHex } from "../../bytes/mod.ts";
import type { Attributes, AttributeValue } from "../attributes.ts";
import { countOf } from "../distribution.ts";
import type { HistogramPoint, MetricData, SumPoint } from "../metrics.ts";
import type { FinishedSpan } from "../tracing.ts";
import { parseProtobuf, ProtobufWriter } from "./protobuf.ts";

const DELTA = 1;
const CUMULATIVE = 2;
const SPAN_KIND_INTERNAL = 1;
const STATUS_ERROR = 2;
/** W3C trace flags: the span is one of those that are kept. */
const SAMPLED = 1;

/** The time that metrics are about, in milliseconds since 1970. */
export interface MetricTimes {
  /** When the program started. */
  readonly startedMs: number;
  /** When deltas were last delivered. */
  readonly sinceMs: number;
  /** When these were taken. */
  readonly nowMs: number;
}

/** Who tells. */
export interface Teller {
  /** Describes the process. */
  readonly resource: Attributes;
  /** Version of the code that measures. */
  readonly version: string;
}

/** Writes an `ExportMetricsServiceRequest`. */
export function writeMetricsRequest(
  teller: Teller,
  metrics: readonly MetricData[],
  times: MetricTimes,
): Uint8Array {
  return new ProtobufWriter().message(1, (resourceMetrics) => {
    writeResource(resourceMetrics, teller.resource);
    for (const [scope, ofScope] of Map.groupBy(metrics, (m) => m.scope)) {
      resourceMetrics.message(2, (scopeMetrics) => {
        writeScope(scopeMetrics, scope, teller.version);
        for (const metric of ofScope) scopeMetrics.message(2, (m) => writeMetric(m, metric, times));
      });
    }
  }).bytes;
}

/** Writes an `ExportTraceServiceRequest`. */
export function writeTraceRequest(
  teller: Teller,
  scope: string,
  spans: readonly FinishedSpan[],
): Uint8Array {
  return new ProtobufWriter().message(1, (resourceSpans) => {
    writeResource(resourceSpans, teller.resource);
    resourceSpans.message(2, (scopeSpans) => {
      writeScope(scopeSpans, scope, teller.version);
      for (const span of spans) scopeSpans.message(2, (s) => writeSpan(s, span));
    });
  }).bytes;
}

/** What a collector did not take although it answered that all is well. */
export interface PartialSuccess {
  /** Points or spans that it refused. */
  readonly rejected: number;
  /** Why. */
  readonly message: string;
}

/** Reads an answer; `undefined` if it says nothing of what was refused. Never throws. */
export function parsePartialSuccess(response: Uint8Array): PartialSuccess | undefined {
  const inner = parseProtobuf(response)?.find((f) => f.field === 1)?.value;
  if (!(inner instanceof Uint8Array)) return undefined;
  let rejected = 0;
  let message = "";
  for (const { field, value } of parseProtobuf(inner) ?? []) {
    if (field === 1 && typeof value === "bigint") rejected = Number(value);
    if (field === 2 && value instanceof Uint8Array) message = new TextDecoder().decode(value);
  }
  return rejected === 0 && message === "" ? undefined : { rejected, message };
}

function writeResource(writer: ProtobufWriter, resource: Attributes): void {
  writer.message(1, (r) => writeAttributes(r, 1, resource));
}

function writeScope(writer: ProtobufWriter, name: string, version: string): void {
  writer.message(1, (scope) => scope.string(1, name).string(2, version));
}

function writeMetric(writer: ProtobufWriter, metric: MetricData, times: MetricTimes): void {
  writer.string(1, metric.name).string(2, metric.description).string(3, metric.unit);
  switch (metric.kind) {
    case "counter":
      writer.message(7, (sum) => {
        for (const point of metric.points) {
          sum.message(1, (p) => writeSumPoint(p, point, times.sinceMs, times.nowMs));
        }
        sum.varint(2, DELTA).varint(3, true);
      });
      return;
    case "level":
      writer.message(7, (sum) => {
        for (const point of metric.points) {
          sum.message(1, (p) => writeSumPoint(p, point, times.startedMs, times.nowMs));
        }
        sum.varint(2, CUMULATIVE).varint(3, false);
      });
      return;
    case "histogram":
      writer.message(9, (histogram) => {
        for (const point of metric.points) {
          histogram.message(1, (p) => writeHistogramPoint(p, metric.bounds, point, times));
        }
        histogram.varint(2, DELTA);
      });
  }
}

function writeSumPoint(
  writer: ProtobufWriter,
  point: SumPoint,
  startMs: number,
  nowMs: number,
): void {
  writer.fixed64(2, toNanos(startMs)).fixed64(3, toNanos(nowMs));
  if (Number.isSafeInteger(point.value)) writer.fixed64(6, BigInt(point.value));
  else writer.double(4, point.value);
  writeAttributes(writer, 7, point.attributes);
}

function writeHistogramPoint(
  writer: ProtobufWriter,
  bounds: readonly number[],
  point: HistogramPoint,
  times: MetricTimes,
): void {
  const { values } = point;
  writer
    .fixed64(2, toNanos(times.sinceMs))
    .fixed64(3, toNanos(times.nowMs))
    .fixed64(4, BigInt(countOf(values)))
    .double(5, values.sum)
    .packedFixed64(6, values.buckets)
    .packedDouble(7, bounds);
  writeAttributes(writer, 9, point.attributes);
  writer.double(11, values.min).double(12, values.max);
}

function writeSpan(writer: ProtobufWriter, span: FinishedSpan): void {
  writer.blob(1, fromHex(span.traceId)!).blob(2, fromHex(span.spanId)!);
  if (span.parentSpanId !== undefined) writer.blob(4, fromHex(span.parentSpanId)!);
  writer
    .string(5, span.name)
    .varint(6, SPAN_KIND_INTERNAL)
    .fixed64(7, toNanos(span.startMs))
    .fixed64(8, toNanos(span.endMs));
  writeAttributes(writer, 9, span.attributes);
  const { error } = span;
  if (error !== undefined) {
    writer.message(15, (status) => status.string(2, error).varint(3, STATUS_ERROR));
  }
  writer.fixed32(16, SAMPLED);
}

function writeAttributes(writer: ProtobufWriter, field: number, attributes: Attributes): void {
  for (const [name, value] of Object.entries(attributes)) {
    writer.message(field, (pair) => pair.string(1, name).message(2, (v) => writeValue(v, value)));
  }
}

function writeValue(writer: ProtobufWriter, value: AttributeValue): void {
  if (typeof value === "string") writer.string(1, value);
  else if (typeof value === "boolean") writer.varint(2, value);
  else if (Number.isSafeInteger(value)) writer.int64(3, value);
  else writer.double(4, value);
}

function toNanos(milliseconds: number): bigint {
  return BigInt(Math.round(milliseconds * 1000)) * 1000n;
}
