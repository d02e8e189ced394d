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
  flag,
  hostPort,
  integer,
  listOf,
  logFormatOption,
  logLevelOption,
  oneOf,
  option,
  port,
  prefix,
  type Secret,
  socketAddressOrOff,
  text,
  toSecret,
  toToken,
  uint64,
  url,
  type Values,
} from "@firezone/core/cli";
import {
  type Prefix,
  type SocketAddress,
  socketAddress as socketAddressConstant,
} from "@firezone/core/ip";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";
import { LOG_FORMATS, type LogFormat } from "@firezone/core/telemetry";
import type { Port } from "@firezone/core/units";
import {
  ADDRESS_METHODS,
  type AddressMethod,
  RESOURCE_METHODS,
  type ResourceMethod,
} from "./cloud_metadata.ts";
import { DEFAULT_PORTS } from "./port_pool.ts";

const GROUP = {
  addresses: "Addresses and ports",
  portal: "Portal",
  service: "Service",
  logging: "Logging",
  telemetry: "Telemetry",
} as const;

/** The relay's options; names and variables are those of Firezone's relay where it has them. */
export const RELAY_OPTIONS = {
  publicIp4: option({
    flags: "--public-ip4-addr <address>",
    env: "PUBLIC_IP4_ADDR",
    description: "IPv4 address at which clients and peers reach this relay",
    group: GROUP.addresses,
    kind: address4,
  }),
  publicIp6: option({
    flags: "--public-ip6-addr <address>",
    env: "PUBLIC_IP6_ADDR",
    description: "IPv6 address at which clients and peers reach this relay",
    group: GROUP.addresses,
    kind: address6,
  }),
  addressDiscovery: option<AddressMethod>({
    flags: "--listen-address-discovery-method <method>",
    env: "LISTEN_ADDRESS_DISCOVERY_METHOD",
    description: "how to find out the public addresses that are not given",
    group: GROUP.addresses,
    kind: oneOf(...ADDRESS_METHODS),
  }),
  bindIp4: option({
    flags: "--bind-ip4-addr <address>",
    env: "BIND_IP4_ADDR",
    description: "IPv4 address to listen at",
    group: GROUP.addresses,
    kind: address4,
    defaultText: "0.0.0.0",
  }),
  bindIp6: option({
    flags: "--bind-ip6-addr <address>",
    env: "BIND_IP6_ADDR",
    description: "IPv6 address to listen at",
    group: GROUP.addresses,
    kind: address6,
    defaultText: "::",
  }),
  listenPort: option({
    flags: "--listen-port <port>",
    env: "LISTEN_PORT",
    description: "UDP port for clients",
    group: GROUP.addresses,
    kind: port,
    default: 3478 as Port,
  }),
  lowestPort: option({
    flags: "--lowest-port <port>",
    env: "LOWEST_PORT",
    description: "first UDP port for allocations",
    group: GROUP.addresses,
    kind: port,
    default: DEFAULT_PORTS.lowest as Port,
  }),
  highestPort: option({
    flags: "--highest-port <port>",
    env: "HIGHEST_PORT",
    description: "last UDP port for allocations",
    group: GROUP.addresses,
    kind: port,
    default: DEFAULT_PORTS.highest as Port,
  }),
  allowPeer: option<readonly Prefix[]>({
    flags: "--allow-peer <range>",
    env: "ALLOW_PEER",
    description: "peers to reach although they are refused otherwise; may be repeated",
    group: GROUP.addresses,
    kind: listOf(prefix),
    default: [],
    defaultText: "none",
  }),
  denyPeer: option<readonly Prefix[]>({
    flags: "--deny-peer <range>",
    env: "DENY_PEER",
    description: "peers to refuse, beside this machine, its link and multicast; may be repeated",
    group: GROUP.addresses,
    kind: listOf(prefix),
    default: [],
    defaultText: "none",
  }),
  apiUrl: option({
    flags: "-u, --api-url <url>",
    env: "FIREZONE_API_URL",
    description: "the portal; needed with a token",
    group: GROUP.portal,
    kind: url("wss", "ws", "https", "http"),
  }),
  firezoneName: option({
    flags: "-n, --firezone-name <name>",
    env: "FIREZONE_NAME",
    description: "name of this relay in the portal",
    group: GROUP.portal,
    kind: text,
  }),
  numWorkerThreads: option({
    flags: "--num-worker-threads <count>",
    env: "NUM_WORKER_THREADS",
    description: "threads that relay",
    group: GROUP.service,
    kind: integer(1, 256),
    defaultText: "one per core",
  }),
  drainTimeout: option({
    flags: "--drain-timeout <duration>",
    env: "DRAIN_TIMEOUT",
    description: "how long to go on for the sake of allocations after the first SIGTERM",
    group: GROUP.service,
    kind: durationMs,
    default: 5 * 60_000,
    defaultText: "5m",
  }),
  healthCheckAddr: option<SocketAddress | "off">({
    flags: "--health-check-addr <address>",
    env: "HEALTH_CHECK_ADDR",
    description: "where GET /healthz and /readyz are answered, or off",
    group: GROUP.service,
    kind: socketAddressOrOff,
    default: socketAddressConstant("0.0.0.0:8080"),
  }),
  controlEndpoint: option<SocketAddress | "off">({
    flags: "--control-endpoint <address>",
    env: "CONTROL_ENDPOINT",
    description: "where POST /log_filter changes what is logged, or off",
    group: GROUP.service,
    kind: socketAddressOrOff,
    defaultText: "127.0.0.1:9999",
  }),
  logLevel: { ...logLevelOption, group: GROUP.logging },
  logFormat: option<LogFormat>({
    ...logFormatOption,
    env: "LOG_FORMAT",
    group: GROUP.logging,
    kind: oneOf(...LOG_FORMATS),
    default: "human",
    defaultText: "human",
  }),
  googleCloudProjectId: option({
    flags: "--google-cloud-project-id <id>",
    env: "GOOGLE_CLOUD_PROJECT_ID",
    description: "project in which Google Cloud finds the traces of log lines",
    group: GROUP.logging,
    kind: text,
  }),
  otlpEndpoint: option({
    flags: "--otlp-grpc-endpoint <host:port>",
    env: "OTLP_GRPC_ENDPOINT",
    description: "OpenTelemetry collector that metrics and traces are sent to",
    group: GROUP.telemetry,
    kind: hostPort,
  }),
  prometheus: flag({
    flags: "--prometheus-metrics",
    env: "PROMETHEUS_METRICS",
    description: "answer GET /metrics beside the health checks",
    group: GROUP.telemetry,
  }),
  resourceDiscovery: option<ResourceMethod>({
    flags: "--otel-metadata-discovery-method <method>",
    env: "OTEL_METADATA_DISCOVERY_METHOD",
    description: "how to find out what describes this machine to collectors",
    group: GROUP.telemetry,
    kind: oneOf(...RESOURCE_METHODS),
  }),
  serviceName: option({
    flags: "--otel-service-name <name>",
    env: "OTEL_SERVICE_NAME",
    description: "name of this service in metrics and traces",
    group: GROUP.telemetry,
    kind: text,
    defaultText: "relay",
  }),
  resourceAttributes: option({
    flags: "--otel-resource-attributes <pairs>",
    env: "OTEL_RESOURCE_ATTRIBUTES",
    description: "what else describes it: name=value, with commas between them",
    group: GROUP.telemetry,
    kind: text,
  }),
  metricInterval: option({
    flags: "--otel-metric-export-interval <ms>",
    env: "OTEL_METRIC_EXPORT_INTERVAL",
    description: "milliseconds between metrics",
    group: GROUP.telemetry,
    kind: integer(100, 86_400_000),
    default: 60_000,
  }),
  telemetry: flag({
    flags: "--telemetry",
    env: "TELEMETRY",
    description: "accepted for compatibility; this relay sends no crash reports",
    hidden: true,
  }),
  metadataUrl: option({
    flags: "--metadata-base-url <url>",
    env: "METADATA_BASE_URL",
    description: "where the cloud's metadata server is; for tests",
    kind: url("http"),
    hidden: true,
  }),
  rngSeed: option({
    flags: "--rng-seed <number>",
    env: "RNG_SEED",
    description: "makes secret, ports and nonces the same at every start; for tests",
    kind: uint64,
    hidden: true,
  }),
  stampSecret: option<Secret>({
    flags: "--stamp-secret <secret>",
    env: "STAMP_SECRET",
    description: "from which credentials derive; for tests",
    kind: { expected: "some text", parse: toSecret },
    hidden: true,
  }),
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
    epilogue:
      "FIREZONE_TOKEN holds the relay's token or names the file that does. Without a token " +
      "the relay runs\nstandalone and prints a credential that TURN clients can use.",
    run: (config, [token, name]) =>
      run(config, {
        token: token === undefined ? undefined : toToken(token, "the command line"),
        name,
      }),
  });
}
