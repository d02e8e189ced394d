/**
 * What a program with a tunnel measures, and where that goes: to stdout or to a collector.
 *
 * Everything is made of the program's status, asked for once per interval. It has an entry of its
 * own, for main threads alone: workers speak to no collector.
 * @module
 */

import { ConfigError } from "../cli/errors.ts";
import type { MetricsSink } from "../cli/tunnel_options.ts";
import { type ConnectionStatus, pathKind } from "../connectivity/mod.ts";
import { type HostPort, OtlpExporter } from "../telemetry/otlp/mod.ts";
import {
  type Attributes,
  type Counter,
  type Histogram,
  type Logger,
  Metrics,
  prometheusText,
  resourceAttributes,
  SpanQueue,
  type UpDownCounter,
} from "../telemetry/mod.ts";

/** The part of a program's status that metrics are made of. */
export interface MeasuredStatus {
  /** Whether the portal is there. */
  readonly portal: string;
  /** Tunnels. */
  readonly connections?: readonly ConnectionStatus[];
  /** Packets dropped since the start, by reason. */
  readonly drops?: Readonly<Record<string, number>>;
}

/** In an order that stays, so that a kind that is gone counts zero. */
const PATH_KINDS = ["none", "direct", "relayed", "relayed-by-peer", "relayed-twice"] as const;

const TRANSMIT: Attributes = { "network.io.direction": "transmit" };
const RECEIVE: Attributes = { "network.io.direction": "receive" };
/** In seconds; those that OpenTelemetry recommends for DNS. */
const LOOKUP_BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

/** The instruments, and how they follow a status. */
export class TunnelMetrics {
  /** All of them. */
  readonly all: Metrics = new Metrics("connlib");
  readonly #portal: UpDownCounter = this.all.upDownCounter({
    name: "portal.connected",
    unit: "{connection}",
    description: "1 while the portal is connected.",
  });
  readonly #connections: UpDownCounter = this.all.upDownCounter({
    name: "connections",
    unit: "{connection}",
    description: "Connections by the kind of their path.",
  });
  readonly #io: Counter = this.all.counter({
    name: "system.network.io",
    unit: "By",
    description: "Bytes of tunnel messages.",
  });
  readonly #packets: Counter = this.all.counter({
    name: "system.network.packets",
    unit: "{packet}",
    description: "Tunnel messages.",
  });
  readonly #lookups: Histogram = this.all.histogram({
    name: "dns.lookup.duration",
    unit: "s",
    description: "Time that resolving a name took.",
    bounds: LOOKUP_BOUNDS,
  });
  readonly #lost: Counter = this.all.counter({
    name: "tunnel.lost",
    unit: "{packet}",
    description: "Tunnel messages of peers that did not arrive.",
  });
  readonly #dropped: Counter = this.all.counter({
    name: "system.network.packet.dropped",
    unit: "{packet}",
    description: "Packets dropped, by reason.",
  });
  readonly #seen = new Map<string, number>();

  /** Nothing measured yet. */
  constructor() {
    this.apply({ portal: "connecting" });
  }

  /** Counts a name that was resolved, or was not. */
  recordLookup(durationMs: number, hasAddresses: boolean): void {
    this.#lookups.record(durationMs / 1000, { found: hasAddresses });
  }

  /** Takes in how the program is doing. */
  apply({ portal, connections = [], drops = {} }: MeasuredStatus): void {
    this.#portal.set(portal === "connected" ? 1 : 0);
    const kinds = connections.map(({ path }) => path === undefined ? "none" : pathKind(path));
    for (const kind of PATH_KINDS) {
      const count = kinds.filter((one) => one === kind).length;
      this.#connections.set(count, { "path.kind": kind });
    }
    const grown = new Map<string, number>();
    const add = (counter: Counter, key: string, total: number, attributes: Attributes) => {
      const before = this.#seen.get(key) ?? 0;
      // A peer that is connected anew counts from zero.
      const growth = total >= before ? total - before : total;
      if (growth > 0) counter.add(growth, attributes);
      grown.set(key, total);
    };
    for (const { peerId, txBytes, rxBytes, txPackets, rxPackets, rxLost } of connections) {
      add(this.#io, `tx ${peerId}`, txBytes, TRANSMIT);
      add(this.#io, `rx ${peerId}`, rxBytes, RECEIVE);
      add(this.#packets, `tx packets ${peerId}`, txPackets, TRANSMIT);
      add(this.#packets, `rx packets ${peerId}`, rxPackets, RECEIVE);
      add(this.#lost, `lost ${peerId}`, rxLost, {});
    }
    for (const [reason, count] of Object.entries(drops)) {
      add(this.#dropped, `drop ${reason}`, count, { reason });
    }
    // Of peers that are gone nothing is kept.
    this.#seen.clear();
    for (const [key, total] of grown) this.#seen.set(key, total);
  }
}

/** What {@link exportMetrics} is given. */
export interface MetricsExportOptions {
  /** `firezone-gateway`. */
  readonly program: string;
  /** Version of the program. */
  readonly version: string;
  /** Where they shall go. */
  readonly sink: MetricsSink | undefined;
  /** What is exported. */
  readonly metrics: TunnelMetrics;
  /** The collector; one that is given is meant even if `sink` is not. */
  readonly endpoint: HostPort | undefined;
  /** The program's status; a failure leaves the metrics as they were. */
  readonly status: () => Promise<MeasuredStatus>;
  /** Where trouble is told. */
  readonly log: Logger;
  /** Time between two exports; a minute if left out. */
  readonly intervalMs?: number;
  /** Takes what goes to stdout; for tests. */
  readonly write?: (text: string) => void;
}

const INTERVAL_MS = 60_000;
/** How long a status is waited for: a thread that hangs shall not keep the program from ending. */
const STATUS_MS = 1_000;
/** How long the end of the program waits for a collector. */
const FAREWELL_MS = 2_000;

/**
 * Exports metrics until it is disposed of, which exports them once more.
 *
 * @throws ConfigError for a collector without an address
 */
export function exportMetrics(options: MetricsExportOptions): AsyncDisposable {
  const { sink, endpoint, metrics, log, intervalMs = INTERVAL_MS } = options;
  const resource = resourceAttributes({
    "service.name": options.program,
    "service.namespace": "firezone",
    "service.version": options.version,
  }, {});
  const refresh = async () => {
    const { promise: late, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => resolve(undefined), STATUS_MS);
    try {
      const status = await Promise.race([options.status(), late]);
      if (status !== undefined) metrics.apply(status);
    } catch {
      // Levels and sums stay as they were.
    } finally {
      clearTimeout(timer);
    }
  };
  if (sink === "stdout") {
    const write = options.write ?? ((text: string) => console.log(text));
    const print = async () => {
      await refresh();
      try {
        write(prometheusText(metrics.all.totals(), resource));
      } catch {
        // Nobody reads them any more; packets go on.
      }
    };
    const timer = setInterval(print, intervalMs);
    return {
      async [Symbol.asyncDispose]() {
        clearInterval(timer);
        await print();
      },
    };
  }
  if (sink === "otel-collector" && endpoint === undefined) {
    throw new ConfigError(
      "Cannot send metrics: give the collector's address by --otlp-grpc-endpoint",
    );
  }
  if (sink === "sentry" || endpoint === undefined) {
    return { [Symbol.asyncDispose]: () => Promise.resolve() };
  }
  const exporter = new OtlpExporter({
    endpoint,
    resource,
    version: options.version,
    scope: options.program,
    metrics: metrics.all,
    spans: new SpanQueue(),
    intervalMs,
    beforeMetrics: refresh,
    log,
  });
  exporter.start();
  return { [Symbol.asyncDispose]: () => exporter.close(FAREWELL_MS) };
}
