/**
 * What a relay measures, and where it goes: a collector by OTLP, Prometheus by its page.
 * @module
 */

import { systemRandom } from "@firezone/core/system_random";
import {
  type Attributes,
  type Logger,
  prometheusText,
  SpanQueue,
  Tracer,
} from "@firezone/core/telemetry";
import { type HostPort, OtlpExporter } from "@firezone/core/telemetry/otlp";
import { RelayMetrics } from "./metrics.ts";

/** What a {@link RelayTelemetry} is made of. */
export interface RelayTelemetryOptions {
  /** The collector; undefined: none. */
  readonly endpoint: HostPort | undefined;
  /** Describes the process. */
  readonly resource: Attributes;
  /** Version of the program. */
  readonly version: string;
  /** Time between metrics. */
  readonly intervalMs: number;
  /** Where trouble is told. */
  readonly log: Logger;
}

/** How long the end of the program waits for a collector. */
const FAREWELL_MS = 2000;

/** See the head of this file. */
export class RelayTelemetry implements AsyncDisposable {
  /** Takes what workers report. */
  readonly metrics: RelayMetrics = new RelayMetrics();
  /** Starts spans, which go nowhere without a collector. */
  readonly tracer: Tracer;
  readonly #resource: Attributes;
  readonly #exporter: OtlpExporter | undefined;
  #refresh: () => Promise<void> = () => Promise.resolve();

  /** Sends nothing until {@link start}. */
  constructor(options: RelayTelemetryOptions) {
    const { endpoint, ...rest } = options;
    const spans = endpoint && new SpanQueue();
    this.#resource = options.resource;
    this.tracer = new Tracer({ queue: spans, random: systemRandom, clock: Date.now });
    this.#exporter = endpoint && new OtlpExporter({
      ...rest,
      endpoint,
      scope: "relay",
      metrics: this.metrics.all,
      spans: spans!,
      beforeMetrics: () => this.#refresh(),
    });
  }

  /** Begins to send. @param refresh brings the metrics up to date, in little time; never rejects */
  start(refresh: () => Promise<void>): void {
    this.#refresh = refresh;
    this.#exporter?.start();
  }

  /** Metrics, brought up to date, for Prometheus. */
  async prometheusText(): Promise<string> {
    await this.#refresh();
    return prometheusText(this.metrics.all.totals(), this.#resource);
  }

  /** Sends what is left, if the collector is quick. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#exporter?.close(FAREWELL_MS);
  }
}
