/**
 * The relay's main thread: workers, portal, signals, health.
 *
 *     starting ─ workers listen ─► serving ─ first signal ─► draining ─ no allocations ─► exit 0
 *         │                                                      └ time is up, second signal ─┘
 *         └─ refused by the system ─► exit 1          401, refused join ─► exit 1
 *
 * @module
 */

import { ConfigError, EXIT_OK } from "@firezone/core/cli";
import { PortalConnection, type PortalEvent, type PortalOptions } from "@firezone/core/portal";
import type { LogFilter, Logger, Span, Tracer } from "@firezone/core/telemetry";
import type { RelayReport } from "./report.ts";
import { ReportCollector } from "./report_collector.ts";
import type { WorkerPool, WorkerPoolHandlers } from "./worker_pool.ts";

/** What a host is made of. */
export interface RelayHostOptions {
  /** Starts the workers. */
  readonly startWorkers: (handlers: WorkerPoolHandlers) => WorkerPool;
  /** How to reach the portal; undefined: standalone. */
  readonly portal: Omit<PortalOptions, "onEvent"> | undefined;
  /** Called once sockets are open. */
  readonly onListening: () => void;
  /** How long allocations may go on after the first signal. */
  readonly drainTimeoutMs: number;
  /** Takes what a worker reports; workers are numbered from 0. */
  readonly onReport: (worker: number, report: RelayReport) => void;
  /** Where the log lines go. */
  readonly log: Logger;
  /** Tells when this relay was with its portal, and how long it drained. */
  readonly tracer: Tracer;
}

const SIGNALS = ["SIGTERM", "SIGINT"] as const;
/** How long the end waits for the workers' last reports. */
const LAST_REPORT_MS = 500;

/** See the head of this file. */
export class RelayHost {
  readonly #options: RelayHostOptions;
  readonly #log: Logger;
  readonly #portal: PortalConnection | undefined;
  readonly #ended = Promise.withResolvers<number>();
  #state: "starting" | "serving" | "draining" = "starting";
  #isJoined = false;
  #workers: WorkerPool | undefined;
  #drainTimer: ReturnType<typeof setTimeout> | undefined;
  #session: Span | undefined;
  #drain: Span | undefined;
  readonly #reports = new ReportCollector(() => {
    this.#workers?.post({ tag: "report" });
    return this.#workers?.size ?? 0;
  });

  /** Nothing happens until {@link run}. */
  constructor(options: RelayHostOptions) {
    this.#options = options;
    this.#log = options.log;
    this.#portal = options.portal && new PortalConnection({
      ...options.portal,
      onEvent: (event) => this.#onPortal(event),
    });
  }

  /** Whether clients are sent here, by the portal if there is one. */
  get isReady(): boolean {
    return this.#state === "serving" && (this.#portal === undefined || this.#isJoined);
  }

  /** Brings what workers report up to date, within `limitMs`. Never rejects. */
  refresh(limitMs: number): Promise<void> {
    return this.#reports.refresh(limitMs);
  }

  /** Puts a log filter in force in the workers. */
  setLogFilter(filter: LogFilter): void {
    this.#workers?.post({ tag: "log-filter", directives: filter.text });
  }

  /** Runs until signals or a fatal error. @throws ConfigError for what the operator can mend */
  async run(): Promise<number> {
    const onSignal = () => this.#onSignal();
    for (const signal of SIGNALS) Deno.addSignalListener(signal, onSignal);
    try {
      this.#workers = this.#options.startWorkers({
        onListening: () => this.#onListening(),
        onRefused: (reason) => this.#ended.reject(new ConfigError(`Cannot start: ${reason}`)),
        onReport: (worker, report) => {
          this.#options.onReport(worker, report);
          this.#reports.noteReport();
        },
        onIdle: () => this.#onIdle(),
        onFatal: (error) => this.#ended.reject(error),
      });
      const status = await this.#ended.promise;
      // What was counted last shall reach a collector.
      await this.refresh(LAST_REPORT_MS);
      return status;
    } finally {
      clearTimeout(this.#drainTimer);
      this.#endSession();
      this.#drain?.end();
      for (const signal of SIGNALS) Deno.removeSignalListener(signal, onSignal);
      this.#portal?.close();
      const workers = this.#workers;
      this.#workers = undefined;
      await workers?.close();
    }
  }

  #onListening(): void {
    if (this.#state === "starting") this.#state = "serving";
    this.#options.onListening();
    if (this.#state === "serving") this.#portal?.connect();
  }

  #onIdle(): void {
    if (this.#state !== "draining") return;
    this.#log.info("No allocation is left", this.#drain?.logFields);
    this.#ended.resolve(EXIT_OK);
  }

  #onPortal(event: PortalEvent): void {
    switch (event.tag) {
      case "joined":
        this.#isJoined = true;
        this.#session ??= this.#options.tracer.start("portal.session");
        return;
      case "hiccup":
        // Those who know us go on; the portal hears of us again when it can.
        this.#isJoined = false;
        return this.#endSession(event.reason);
      case "message":
        // `init` holds nothing that we need.
        return;
      case "fatal":
        this.#endSession(event.reason);
        return this.#ended.reject(
          new ConfigError(`The portal refused this relay: ${event.reason}`),
        );
    }
  }

  #endSession(reason?: string): void {
    if (reason === undefined) this.#session?.end();
    else this.#session?.fail(reason);
    this.#session = undefined;
  }

  #onSignal(): void {
    const { drainTimeoutMs } = this.#options;
    if (this.#state === "draining" || drainTimeoutMs === 0) return this.#ended.resolve(EXIT_OK);
    const drain = this.#drain = this.#options.tracer.start("relay.drain");
    this.#log.info("Serving until the last allocation ends", {
      at_most_s: Math.round(drainTimeoutMs / 1000),
      ...drain.logFields,
    });
    this.#state = "draining";
    this.#isJoined = false;
    this.#portal?.close();
    this.#endSession();
    this.#drainTimer = setTimeout(() => {
      this.#log.info("Some allocations did not end in time", drain.logFields);
      drain.fail("some allocations did not end in time");
      this.#ended.resolve(EXIT_OK);
    }, drainTimeoutMs);
    if ((this.#workers?.allocationCount ?? 0) === 0) this.#onIdle();
  }
}

/** What {@link describeCredential} tells. */
export interface PrintedCredential {
  /** For whom it is valid. */
  readonly username: string;
  /** Goes with it. */
  readonly password: string;
}

/** A line for each address: URI, username, password. */
export function describeCredential(
  addresses: readonly { readonly key: string }[],
  credential: PrintedCredential,
): string {
  return addresses.map(({ key }) => `turn:${key} ${credential.username} ${credential.password}`)
    .join("\n");
}
