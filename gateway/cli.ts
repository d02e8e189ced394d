/**
 * The gateway's command line.
 * @module
 */

import {
  type Command,
  command,
  durationMs,
  flag,
  logFormatOption,
  logLevelOption,
  oneOf,
  option,
  socketAddress,
  statusCommand,
  text,
  url,
  type Values,
} from "@firezone/core/cli";
import { socketAddress as socketAddressConstant } from "@firezone/core/ip";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";

/** The gateway's options. */
export const GATEWAY_OPTIONS = {
  apiUrl: option({
    flags: "-u, --api-url <url>",
    env: "FIREZONE_API_URL",
    description: "the portal",
    kind: url("wss", "ws", "https", "http"),
    default: new URL("wss://api.firezone.dev/"),
  }),
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
  healthCheckAddr: option({
    flags: "--health-check-addr <address>",
    env: "HEALTH_CHECK_ADDR",
    description: "where GET /healthz is answered",
    kind: socketAddress,
    default: socketAddressConstant("0.0.0.0:8080"),
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
  crypto: option({
    flags: "--crypto <backend>",
    env: "FIREZONE_CRYPTO",
    description: "AEAD backend",
    kind: oneOf("libcrypto", "node", "noble"),
    defaultText: "the fastest that works",
  }),
  interfaceName: option({
    flags: "--interface <name>",
    env: "FIREZONE_INTERFACE",
    description: "name of the TUN device",
    kind: text,
    default: "tun-firezone",
    hidden: true,
  }),
  logDirectory: option({
    flags: "-l, --log-dir <path>",
    env: "LOG_DIR",
    description: "directory that the log is written to as well",
    kind: text,
  }),
  logLevel: logLevelOption,
  logFormat: logFormatOption,
};

/** What the command line and the environment say. */
export type GatewayConfig = Values<typeof GATEWAY_OPTIONS>;

/** The command; `run` does the work, with the token if it was given as an argument. */
export function gatewayCommand(
  run: (config: GatewayConfig) => Promise<number>,
): Command {
  return command({
    name: "firezone-gateway",
    description: "Lets authorised clients into the network that it stands in.",
    version: PORTAL_CLIENT_VERSION,
    options: GATEWAY_OPTIONS,
    commands: [
      statusCommand({ program: "firezone-gateway", statusSocket: GATEWAY_OPTIONS.statusSocket }),
    ],
    epilogue: "FIREZONE_TOKEN holds the token of the gateway's site; a systemd credential of " +
      "that name does as well.",
    run,
  });
}
