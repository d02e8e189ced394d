/**
 * The gateway's command line.
 * @module
 */

import {
  apiUrlOption,
  type Command,
  command,
  cryptoOption,
  durationMs,
  flag,
  flowLogsOption,
  interfaceOption,
  logDirectoryOption,
  logFormatOption,
  logLevelOption,
  metricsOption,
  noTelemetryOption,
  option,
  otlpEndpointOption,
  type Secret,
  socketAddressOrOff,
  statusCommand,
  text,
  threadsOption,
  toToken,
  type Values,
} from "@firezone/core/cli";
import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";

/** The gateway's options. */
export const GATEWAY_OPTIONS = {
  apiUrl: apiUrlOption,
  firezoneId: option({
    flags: "-i, --firezone-id <id>",
    env: "FIREZONE_ID",
    description: "this gateway's id",
    kind: text,
    defaultText: "made at the first start and kept in /var/lib/firezone/gateway_id",
  }),
  firezoneName: option({
    flags: "-n, --firezone-name <name>",
    env: "FIREZONE_NAME",
    description: "name of this gateway in the portal",
    kind: text,
    defaultText: "the host name",
  }),
  healthCheckAddr: option<SocketAddress | "off">({
    flags: "--health-check-addr <address>",
    env: "HEALTH_CHECK_ADDR",
    description: "where GET /healthz and /readyz are answered, or off",
    kind: socketAddressOrOff,
    default: socketAddress("0.0.0.0:8080"),
  }),
  noMasquerade: flag({
    flags: "--no-masquerade",
    env: "FIREZONE_NO_MASQUERADE",
    description: "leave masquerading and forwarding to the administrator",
  }),
  noCheck: flag({
    flags: "--no-check",
    description: "start without CAP_NET_ADMIN, too",
  }),
  maxPartitionTime: option({
    flags: "-m, --max-partition-time <duration>",
    env: "FIREZONE_MAX_PARTITION_TIME",
    description: "how long the portal may be away before the gateway ends",
    kind: durationMs,
    default: 24 * 3_600_000,
    defaultText: "24h",
  }),
  statusSocket: option({
    flags: "--status-socket <path>",
    env: "FIREZONE_STATUS_SOCKET",
    description: "Unix socket that answers GET /status",
    kind: text,
    default: "/run/firezone/gateway.sock",
  }),
  crypto: cryptoOption,
  threads: threadsOption,
  interfaceName: interfaceOption,
  logDirectory: logDirectoryOption,
  logLevel: logLevelOption,
  logFormat: logFormatOption,
  metrics: metricsOption,
  otlpEndpoint: otlpEndpointOption,
  validateChecksums: flag({
    flags: "--validate-checksums",
    env: "FIREZONE_VALIDATE_CHECKSUMS",
    description: "warn of packets from clients whose checksums are wrong; slow, for tests",
    hidden: true,
  }),
  noTelemetry: noTelemetryOption,
  flowLogs: flowLogsOption,
  noIncBuf: flag({
    flags: "--no-inc-buf",
    env: "FIREZONE_NO_INC_BUF",
    description: "accepted for compatibility: the system's limits on buffers are never changed",
    hidden: true,
  }),
};

/** What the command line and the environment say. */
export type GatewayConfig = Values<typeof GATEWAY_OPTIONS>;

/** The command; `run` does the work, with the token if it was given as an argument. */
export function gatewayCommand(
  run: (config: GatewayConfig, token: Secret | undefined) => Promise<number>,
): Command {
  return command({
    name: "firezone-gateway",
    description: "Lets authorised clients into the network that it stands in.",
    version: PORTAL_CLIENT_VERSION,
    options: GATEWAY_OPTIONS,
    commands: [
      statusCommand({ program: "firezone-gateway", statusSocket: GATEWAY_OPTIONS.statusSocket }),
    ],
    positionals: [
      { name: "token", description: "a token of the gateway's site; better given otherwise" },
    ],
    epilogue: "FIREZONE_TOKEN holds the token of the gateway's site or names the file that does; " +
      "a systemd\ncredential of that name does as well.",
    run: (config, [token]) =>
      run(config, token === undefined ? undefined : toToken(token, "the command line")),
  });
}
