/**
 * The options that client and gateway have in common.
 * @module
 */

import type { AeadName } from "../crypto/mod.ts";
import { type LogFilter, parseLogFilter } from "../telemetry/filter.ts";
import { flag, option, type OptionSpec } from "./command.ts";
import type { HostPort } from "../telemetry/otlp/grpc_call.ts";
import { hostPort, integer, oneOf, text, url, type ValueKind } from "./values.ts";

/** `--api-url`, with `FIREZONE_API_URL` behind it. */
export const apiUrlOption: OptionSpec<URL> = option({
  flags: "-u, --api-url <url>",
  env: "FIREZONE_API_URL",
  description: "the portal",
  kind: url("wss", "ws", "https", "http"),
  default: new URL("wss://api.firezone.dev/"),
});

/** `--crypto`, with `FIREZONE_CRYPTO` behind it. */
export const cryptoOption: OptionSpec<AeadName | undefined> = option({
  flags: "--crypto <backend>",
  env: "FIREZONE_CRYPTO",
  description: "AEAD backend: ipsec-mb (Debian's libipsec-mb1), libcrypto, node or noble",
  kind: oneOf("ipsec-mb", "libcrypto", "node", "noble"),
  defaultText: "the fastest that works",
});

/** `--threads`, with `FIREZONE_THREADS` behind it. */
export const threadsOption: OptionSpec<number> = option({
  flags: "--threads <n>",
  env: "FIREZONE_THREADS",
  description: "threads that carry packets; three make sense where that many cores are idle",
  kind: integer(1, 16),
  default: 1,
});

/** As the kernel takes it (dev_valid_name); a percent sign would number devices. */
const interfaceName: ValueKind<string> = {
  expected: "an interface name of up to 15 letters, digits, dots, dashes and underscores",
  parse: (text) => /^(?!\.{1,2}$)[\w.-]{1,15}$/.test(text) ? text : undefined,
};

/** `--interface`, hidden. */
export const interfaceOption: OptionSpec<string> = option({
  flags: "--interface <name>",
  env: "FIREZONE_INTERFACE",
  description: "name of the TUN device",
  kind: interfaceName,
  default: "tun-firezone",
  hidden: true,
});

/** `--log-dir`, with `LOG_DIR` behind it. */
export const logDirectoryOption: OptionSpec<string | undefined> = option({
  flags: "-l, --log-dir <path>",
  env: "LOG_DIR",
  description: "directory that the log is written to as well",
  kind: text,
});

const METRICS_SINKS = oneOf("stdout", "otel-collector");

/** Where metrics may go; to `sentry`, which other programs know, nothing is sent. */
export type MetricsSink = "stdout" | "otel-collector" | "sentry";

/** `--metrics`, with `FIREZONE_METRICS` behind it. */
export const metricsOption: OptionSpec<MetricsSink | undefined> = option<MetricsSink>({
  flags: "--metrics <sink>",
  env: "FIREZONE_METRICS",
  description: "where metrics go once a minute",
  kind: {
    ...METRICS_SINKS,
    parse: (text) => text === "sentry" ? text : METRICS_SINKS.parse(text),
  },
  defaultText: "nowhere",
});

/** `--otlp-grpc-endpoint`, with `OTLP_GRPC_ENDPOINT` behind it. */
export const otlpEndpointOption: OptionSpec<HostPort | undefined> = option({
  flags: "--otlp-grpc-endpoint <host:port>",
  env: "OTLP_GRPC_ENDPOINT",
  description: "OpenTelemetry collector that metrics are sent to",
  kind: hostPort,
});

/** `--no-telemetry`, which changes nothing. */
export const noTelemetryOption: OptionSpec<boolean> = flag({
  flags: "--no-telemetry",
  env: "FIREZONE_NO_TELEMETRY",
  description: "accepted for compatibility: no crash reports are sent in any case",
  hidden: true,
});

/** `--flow-logs`, with `FIREZONE_FLOW_LOGS` behind it. */
export const flowLogsOption: OptionSpec<boolean> = flag({
  flags: "--flow-logs",
  env: "FIREZONE_FLOW_LOGS",
  description: "log each TCP and UDP flow through the tunnel once it is over, addresses included",
});

/** The filter, with the lines about flows let through whatever else it says. */
export function withFlowLogs(filter: LogFilter): LogFilter {
  return parseLogFilter(`${filter.text},flow_logs=info`)!;
}
