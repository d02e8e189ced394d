/**
 * Sends metrics and spans to an OpenTelemetry collector, now and then.
 *
 *     every interval ──► beforeMetrics ──► Metrics.takeDeltas ──► Export ─┬─► delivered
 *     spans waiting ───► SpanQueue.takeAll ─────────────────────► Export ─┼─► not now: given back
 *                                                                         └─► refused: dropped
 *
 * A collector that is down, slow or mad costs a connection attempt per interval: nothing waits for
 * it, what is kept for it is bounded, and the log hears of it once a minute at most. Deltas that
 * could not be delivered are part of the next ones. When an answer is lost on its way, what was
 * delivered is delivered again: rather twice than never.
 *
 * Spec: opentelemetry.io/docs/specs/otlp. Deviation: no retries of their own, since the next
 * interval brings the same data.
 * @module
 */

import type { Logger } from "../logging.ts";
import type { Attributes } from "../attributes.ts";
import type { Metrics } from "../metrics.ts";
import type { SpanQueue } from "../tracing.ts";
import { authorityOf, type GrpcCall, type HostPort, startGrpcCall } from "./grpc_call.ts";
import {
  type MetricTimes,
  parsePartialSuccess,
  type Teller,
  writeMetricsRequest,
  writeTraceRequest,
} from "./messages.ts";

/** What an {@link OtlpExporter} is made of. */
export interface OtlpOptions {
  /** The collector. */
  readonly endpoint: HostPort;
  /** Describes the process. */
  readonly resource: Attributes;
  /** Version of the program. */
  readonly version: string;
  /** Names the part of the program that spans come from. */
  readonly scope: string;
  /** Whose deltas are sent. */
  readonly metrics: Metrics;
  /** Spans to send. */
  readonly spans: SpanQueue;
  /** Time between metrics. */
  readonly intervalMs: number;
  /** Called before metrics are taken, so that they can be brought up to date; never rejects. */
  readonly beforeMetrics?: () => Promise<void>;
  /** Where trouble is told. */
  readonly log: Logger;
  /** Time for a call; 10 s, as OTLP has it. */
  readonly timeoutMs?: number;
  /** Time that spans wait for others to join them; 5 s. */
  readonly spanDelayMs?: number;
  /** Wall-clock milliseconds since 1970. */
  readonly clock?: () => number;
}

const METRICS_PATH = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const TRACE_PATH = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/** Time between two complaints about the collector. */
const COMPLAIN_EVERY_MS = 60_000;

/** What became of data. */
type Delivery = "delivered" | "not-now" | "refused";

/** See the head of this file. */
export class OtlpExporter {
  readonly #options: OtlpOptions;
  readonly #teller: Teller;
  readonly #clock: () => number;
  readonly #timeoutMs: number;
  readonly #startedMs: number;
  #sinceMs: number;
  #timers: ReturnType<typeof setTimeout>[] = [];
  #isClosed = false;
  readonly #calls = new Set<GrpcCall>();
  readonly #running = new Set<Promise<void>>();
  #lastComplaintMs = -Infinity;
  #isDown = false;

  /** Sends nothing until {@link start}. */
  constructor(options: OtlpOptions) {
    this.#options = options;
    this.#teller = { resource: options.resource, version: options.version };
    this.#clock = options.clock ?? Date.now;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#startedMs = this.#sinceMs = this.#clock();
  }

  /** Begins to send at its intervals. */
  start(): void {
    const { intervalMs, spanDelayMs = 5000 } = this.#options;
    this.#every(intervalMs, () => this.sendMetrics());
    this.#every(spanDelayMs, () => this.sendSpans());
  }

  /** Sends what has changed since the last delivery. Never rejects. */
  async sendMetrics(timeoutMs: number = this.#timeoutMs): Promise<void> {
    await this.#options.beforeMetrics?.();
    const taken = this.#options.metrics.takeDeltas();
    if (taken.metrics.length === 0) return;
    const nowMs = this.#clock();
    const times: MetricTimes = { startedMs: this.#startedMs, sinceMs: this.#sinceMs, nowMs };
    const request = writeMetricsRequest(this.#teller, taken.metrics, times);
    const delivery = await this.#send(METRICS_PATH, request, timeoutMs);
    if (delivery === "not-now") taken.giveBack();
    else this.#sinceMs = nowMs;
  }

  /** Sends the spans that wait, if any. Never rejects. */
  async sendSpans(timeoutMs: number = this.#timeoutMs): Promise<void> {
    const spans = this.#options.spans.takeAll();
    if (spans.length === 0) return;
    const request = writeTraceRequest(this.#teller, this.#options.scope, spans);
    const delivery = await this.#send(TRACE_PATH, request, timeoutMs);
    if (delivery === "not-now") this.#options.spans.giveBack(spans);
  }

  /** Sends what is left, within `limitMs` at most, and stops. */
  async close(limitMs: number): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    for (const call of this.#calls) call.abort("the program ends");
    await Promise.all(this.#running);
    await Promise.all([this.sendMetrics(limitMs), this.sendSpans(limitMs)]);
  }

  /** Runs `action` again and again; a slow one is not overtaken by the next. */
  #every(intervalMs: number, action: () => Promise<void>): void {
    const slot = this.#timers.length;
    const arm = () => {
      this.#timers[slot] = setTimeout(() => {
        const done = action().then(() => {
          this.#running.delete(done);
          if (!this.#isClosed) arm();
        });
        this.#running.add(done);
      }, intervalMs);
    };
    arm();
  }

  async #send(path: string, request: Uint8Array, timeoutMs: number): Promise<Delivery> {
    const call = startGrpcCall(this.#options.endpoint, path, request, timeoutMs);
    this.#calls.add(call);
    const outcome = await call.outcome;
    this.#calls.delete(call);
    switch (outcome.tag) {
      case "ok": {
        const partial = parsePartialSuccess(outcome.message);
        if (partial) {
          this.#complain("The OTLP collector refused a part of what it was sent", {
            rejected: partial.rejected,
            reason: partial.message.slice(0, 200),
          });
        } else if (this.#isDown) {
          this.#isDown = false;
          this.#options.log.info("The OTLP collector answers again");
        }
        return "delivered";
      }
      case "refused":
        this.#complain("The OTLP collector refuses what it is sent", { reason: outcome.reason });
        return outcome.mayRetry ? "not-now" : "refused";
      case "unreachable":
        if (!this.#isClosed) {
          this.#complain("Cannot reach the OTLP collector", { reason: outcome.reason });
        }
        return "not-now";
    }
  }

  #complain(message: string, fields: Readonly<Record<string, string | number>>): void {
    this.#isDown = true;
    const sinceMs = this.#clock() - this.#lastComplaintMs;
    // A clock that was set back is no reason to be silent.
    if (sinceMs >= 0 && sinceMs < COMPLAIN_EVERY_MS) return;
    this.#lastComplaintMs = this.#clock();
    const endpoint = authorityOf(this.#options.endpoint);
    this.#options.log.warn(message, { endpoint, ...fields });
  }
}
