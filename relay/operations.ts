/**
 * What runs beside the relaying, for those who operate it: health checks, the log filter, telemetry,
 * a line of statistics now and then.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import { serveHealth } from "@firezone/core/runtime/health_server";
import { socketAddress } from "@firezone/core/ip";
import {
  type Attributes,
  type LogFilter,
  type Logger,
  resourceAttributes,
  setLogFilter,
} from "@firezone/core/telemetry";
import { buildRevision } from "@firezone/core/version";
import type { RelayConfig } from "./cli.ts";
import { discoverResource } from "./cloud_metadata.ts";
import { serveControl } from "./control.ts";
import { Statistics } from "./statistics.ts";
import type { RelayTelemetry } from "./telemetry.ts";

/** How often a relay says what it does. */
const STATISTICS_INTERVAL_MS = 10_000;
/** How long anybody waits for the workers' reports. */
const REFRESH_MS = 1000;
/** Where the log filter is changed unless the operator says otherwise. */
const DEFAULT_CONTROL_ENDPOINT = socketAddress("127.0.0.1:9999");

/** The relay, as its operator deals with it. */
export interface OperatedRelay {
  /** Whether clients are sent here. */
  readonly isReady: boolean;
  /** Brings metrics up to date, within `limitMs`. */
  refresh(limitMs: number): Promise<void>;
  /** Puts a log filter in force in the workers. */
  setLogFilter(filter: LogFilter): void;
}

/**
 * What describes this relay in metrics and traces.
 *
 * @throws ConfigError for variables that make no sense, or when the cloud does not tell
 */
export async function describeRelay(config: RelayConfig, version: string): Promise<Attributes> {
  const { otlpEndpoint, prometheus, resourceDiscovery, metadataUrl } = config;
  const isWanted = otlpEndpoint !== undefined || prometheus;
  const discovered = isWanted && resourceDiscovery !== undefined
    ? await discoverResource(resourceDiscovery, { baseUrl: metadataUrl?.origin })
    : {};
  const own = {
    "service.name": "relay",
    "service.namespace": "firezone",
    "service.version": version,
    ...discovered,
  };
  const { serviceName, resourceAttributes: attributes } = config;
  return resourceAttributes(own, { serviceName, attributes });
}

/** Says what in the configuration may not do what its author thinks. */
export function warnOfOddities(config: RelayConfig, log: Logger): void {
  if (config.rngSeed !== undefined) {
    log.warn("Randomness is decided by a seed: whoever knows it can use this relay");
  }
  if (config.logFormat === "google-cloud" && config.googleCloudProjectId === undefined) {
    log.warn("Log lines do not lead to their traces: no --google-cloud-project-id was given");
  }
  if (config.telemetry) log.info("This relay sends no crash reports, whatever --telemetry says");
}

/**
 * Starts everything; it ends when disposed of.
 *
 * @param statisticsMs time between two lines of statistics
 * @throws ConfigError when an address that the operator named cannot be used
 */
export function startOperations(
  config: RelayConfig,
  relay: OperatedRelay,
  telemetry: RelayTelemetry,
  log: Logger,
  statisticsMs: number = STATISTICS_INTERVAL_MS,
): AsyncDisposable {
  const { healthCheckAddr, prometheus } = config;
  if (healthCheckAddr === "off" && prometheus) {
    throw new ConfigError(
      "Cannot serve --prometheus-metrics without health checks: give --health-check-addr",
    );
  }
  const running = new AsyncDisposableStack();
  const refresh = () => relay.refresh(REFRESH_MS);
  if (healthCheckAddr !== "off") {
    running.use(serveHealth(healthCheckAddr, {
      isReady: () => relay.isReady,
      revision: buildRevision() ?? "",
      metrics: prometheus ? () => telemetry.prometheusText() : undefined,
      remedy: "name another --health-check-addr, or off",
    }));
  }
  const control = startControl(config, relay, log);
  if (control) running.use(control);
  telemetry.start(refresh);
  const statistics = new Statistics(performance.now());
  const timer = setInterval(async () => {
    if (!log.isEnabled("info")) return;
    await refresh();
    log.info("Relaying", { ...statistics.next(performance.now(), telemetry.metrics.totals) });
  }, statisticsMs);
  running.defer(() => clearInterval(timer));
  return running;
}

function startControl(
  config: RelayConfig,
  relay: OperatedRelay,
  log: Logger,
): AsyncDisposable | undefined {
  const { controlEndpoint } = config;
  if (controlEndpoint === "off") return undefined;
  const setFilter = (filter: LogFilter) => {
    setLogFilter(filter);
    relay.setLogFilter(filter);
  };
  try {
    return serveControl(controlEndpoint ?? DEFAULT_CONTROL_ENDPOINT, setFilter);
  } catch (error) {
    if (controlEndpoint !== undefined || !(error instanceof ConfigError)) throw error;
    // Nobody asked for it, and a second relay on one machine should not need another option.
    log.info("The log filter cannot be changed while this relay runs", { reason: error.message });
    return undefined;
  }
}
