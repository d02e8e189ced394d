/**
 * The relay's command line.
 * @module
 */

import {
  address4,
  address6,
  type Command,
  command,
  durationMs,
  logFormatOption,
  logLevelOption,
  option,
  port,
  type Secret,
  socketAddress,
  text,
  toSecret,
  url,
  type Values,
} from "@firezone/core/cli";
import { type SocketAddress, socketAddress as socketAddressConstant } from "@firezone/core/ip";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";
import type { Port } from "@firezone/core/units";
import { DEFAULT_PORTS } from "./port_pool.ts";

/** The relay's options. */
export const RELAY_OPTIONS = {
  publicIp4: option({
    flags: "--public-ip4-addr <address>",
    env: "PUBLIC_IP4_ADDR",
    description: "IPv4 address at which clients and peers reach this relay",
    kind: address4,
  }),
  publicIp6: option({
    flags: "--public-ip6-addr <address>",
    env: "PUBLIC_IP6_ADDR",
    description: "IPv6 address at which clients and peers reach this relay",
    kind: address6,
  }),
  bindIp4: option({
    flags: "--bind-ip4-addr <address>",
    env: "BIND_IP4_ADDR",
    description: "IPv4 address to listen at",
    kind: address4,
    defaultText: "0.0.0.0",
  }),
  bindIp6: option({
    flags: "--bind-ip6-addr <address>",
    env: "BIND_IP6_ADDR",
    description: "IPv6 address to listen at",
    kind: address6,
    defaultText: "::",
  }),
  listenPort: option({
    flags: "--listen-port <port>",
    env: "LISTEN_PORT",
    description: "UDP port for clients",
    kind: port,
    default: 3478 as Port,
  }),
  lowestPort: option({
    flags: "--lowest-port <port>",
    env: "LOWEST_PORT",
    description: "first UDP port for allocations",
    kind: port,
    default: DEFAULT_PORTS.lowest as Port,
  }),
  highestPort: option({
    flags: "--highest-port <port>",
    env: "HIGHEST_PORT",
    description: "last UDP port for allocations",
    kind: port,
    default: DEFAULT_PORTS.highest as Port,
  }),
  apiUrl: option({
    flags: "-u, --api-url <url>",
    env: "FIREZONE_API_URL",
    description: "the portal; needed with a token",
    kind: url("wss", "ws", "https", "http"),
  }),
  firezoneName: option({
    flags: "-n, --firezone-name <name>",
    env: "FIREZONE_NAME",
    description: "name of this relay in the portal",
    kind: text,
  }),
  healthCheckAddr: option<SocketAddress | "off">({
    flags: "--health-check-addr <address>",
    env: "HEALTH_CHECK_ADDR",
    description: "where GET /healthz and /readyz are answered, or off",
    kind: {
      expected: `${socketAddress.expected}, or off`,
      parse: (text) => text === "off" ? text : socketAddress.parse(text),
    },
    default: socketAddressConstant("0.0.0.0:8080"),
  }),
  drainTimeout: option({
    flags: "--drain-timeout <duration>",
    env: "DRAIN_TIMEOUT",
    description: "how long to go on for the sake of allocations after the first SIGTERM",
    kind: durationMs,
    default: 5 * 60_000,
    defaultText: "5m",
  }),
  stampSecret: option<Secret>({
    flags: "--stamp-secret <secret>",
    env: "STAMP_SECRET",
    description: "from which credentials derive; for tests",
    kind: { expected: "some text", parse: toSecret },
    hidden: true,
  }),
  logLevel: logLevelOption,
  logFormat: { ...logFormatOption, env: "LOG_FORMAT" },
};

/** What the command line and the environment say. */
export type RelayConfig = Values<typeof RELAY_OPTIONS>;

/** Arguments known by their place. */
export interface RelayArguments {
  /** Proves to the portal who we are; none: standalone. */
  readonly token: Secret | undefined;
  /** Overrides {@link RelayConfig.firezoneName}. */
  readonly name: string | undefined;
}

/** The command; `run` does the work. */
export function relayCommand(
  run: (config: RelayConfig, positionals: RelayArguments) => Promise<number>,
): Command {
  return command({
    name: "firezone-relay",
    description: "Relays traffic (STUN and TURN over UDP) between those who cannot meet directly.",
    version: PORTAL_CLIENT_VERSION,
    options: RELAY_OPTIONS,
    positionals: [
      { name: "token", description: "the relay's token; better given as FIREZONE_TOKEN" },
      { name: "name", description: "name of this relay in the portal" },
    ],
    epilogue: "FIREZONE_TOKEN holds the relay's token. Without a token the relay runs standalone " +
      "and prints a credential\nthat TURN clients can use.",
    run: (config, [token, name]) =>
      run(config, { token: token === undefined ? undefined : toSecret(token), name }),
  });
}
