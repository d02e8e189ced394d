/**
 * Metrics as Prometheus scrapes them: the text format 0.0.4, names as OpenTelemetry maps them.
 *
 *     relay.packet.size (By), histogram ──► relay_packet_size_bytes_bucket{le="100"} 7
 *     relay.responses, counter          ──► relay_responses_total{response_class="success"} 12
 *
 * @module
 */

import type { Attributes, AttributeValue } from "./attributes.ts";
import { countOf, type DistributionValues } from "./distribution.ts";
import type { MetricData } from "./metrics.ts";

/** The type of what {@link prometheusText} answers. */
export const PROMETHEUS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** Units as words; those in braces are remarks and left out. */
const UNIT_WORDS: Readonly<Record<string, string>> = {
  By: "bytes",
  s: "seconds",
  ns: "nanoseconds",
};

/** Values since the start of the program, and `target_info` with what describes the process. */
export function prometheusText(metrics: readonly MetricData[], resource: Attributes): string {
  const lines = [
    "# HELP target_info What runs here.",
    "# TYPE target_info gauge",
    `target_info${labels(resource)} 1`,
  ];
  for (const metric of metrics) writeMetric(lines, metric);
  return lines.join("\n") + "\n";
}

function writeMetric(lines: string[], metric: MetricData): void {
  const name = nameOf(metric);
  lines.push(`# HELP ${name} ${metric.description.replace(/\\/g, "\\\\").replace(/\n/g, "\\n")}`);
  lines.push(`# TYPE ${name} ${metric.kind === "level" ? "gauge" : metric.kind}`);
  if (metric.kind === "histogram") {
    for (const { attributes, values } of metric.points) {
      writeHistogram(lines, name, metric.bounds, attributes, values);
    }
    return;
  }
  for (const { attributes, value } of metric.points) {
    lines.push(`${name}${labels(attributes)} ${value}`);
  }
}

/** Buckets are cumulative here: each holds those below it too. */
function writeHistogram(
  lines: string[],
  name: string,
  bounds: readonly number[],
  attributes: Attributes,
  values: DistributionValues,
): void {
  let count = 0;
  for (const [i, bound] of bounds.entries()) {
    count += values.buckets[i] ?? 0;
    lines.push(`${name}_bucket${labels({ ...attributes, le: String(bound) })} ${count}`);
  }
  const total = countOf(values);
  lines.push(`${name}_bucket${labels({ ...attributes, le: "+Inf" })} ${total}`);
  lines.push(`${name}_sum${labels(attributes)} ${values.sum}`);
  lines.push(`${name}_count${labels(attributes)} ${total}`);
}

function nameOf(metric: MetricData): string {
  const unit = UNIT_WORDS[metric.unit];
  const parts = [metric.name.replace(/[^a-zA-Z0-9_:]/g, "_")];
  if (unit !== undefined) parts.push(unit);
  if (metric.kind === "counter") parts.push("total");
  return parts.join("_");
}

function labels(attributes: Attributes): string {
  const entries = Object.entries(attributes);
  if (entries.length === 0) return "";
  const texts = entries.map(([name, value]) =>
    `${name.replace(/[^a-zA-Z0-9_]/g, "_").replace(/^(?=\d)/, "_")}="${escaped(value)}"`
  );
  return `{${texts.join(",")}}`;
}

function escaped(value: AttributeValue): string {
  return String(value).replace(/\\/g, "\\\\").replace(/"/g, '\\"').replace(/\n/g, "\\n");
}
