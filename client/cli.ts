/**
 * The client's command line.
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
  oneOf,
  option,
  otlpEndpointOption,
  statusCommand,
  text,
  threadsOption,
  type Values,
} from "@firezone/core/cli";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";
import { DNS_CONTROL_METHODS } from "./os/dns_control/mod.ts";
import { signInCommand, signOutCommand } from "./sign_in.ts";

/** The client's options. */
export const CLIENT_OPTIONS = {
  apiUrl: apiUrlOption,
  tokenPath: option({
    flags: "--token-path <path>",
    env: "FIREZONE_TOKEN_PATH",
    description: "file that holds the token, unless FIREZONE_TOKEN does",
    kind: text,
    default: "/etc/dev.firezone.client/token",
  }),
  firezoneId: option({
    flags: "-i, --firezone-id <id>",
    env: "FIREZONE_ID",
    description: "this device's id",
    kind: text,
    defaultText: "made at the first start and kept",
  }),
  firezoneName: option({
    flags: "--firezone-name <name>",
    env: "FIREZONE_NAME",
    description: "name of this device in the portal",
    kind: text,
    defaultText: "the host name",
  }),
  dnsControl: option({
    flags: "--dns-control <method>",
    env: "FIREZONE_DNS_CONTROL",
    description: "how DNS is configured",
    kind: oneOf(...DNS_CONTROL_METHODS),
    default: "systemd-resolved" as const,
  }),
  maxPartitionTime: option({
    flags: "-m, --max-partition-time <duration>",
    env: "MAX_PARTITION_TIME",
    description: "how long the portal may be away before the client ends",
    kind: durationMs,
    defaultText: "for ever",
  }),
  activateInternetResource: flag({
    flags: "--activate-internet-resource",
    env: "FIREZONE_ACTIVATE_INTERNET_RESOURCE",
    description: "send all other traffic through the Internet resource, if one is granted",
  }),
  statusSocket: option({
    flags: "--status-socket <path>",
    env: "FIREZONE_STATUS_SOCKET",
    description: "Unix socket that answers GET /status",
    kind: text,
    default: "/run/dev.firezone.client/status.sock",
  }),
  crypto: cryptoOption,
  threads: threadsOption,
  stateDirectory: option({
    flags: "--state-dir <path>",
    env: "FIREZONE_STATE_DIR",
    description: "where the device id and proxy addresses are kept",
    kind: text,
    default: "/var/lib/dev.firezone.client/config",
  }),
  interfaceName: interfaceOption,
  check: flag({
    flags: "--check",
    description: "check the configuration, and whether DNS can be controlled, and exit",
  }),
  exit: flag({
    flags: "--exit",
    description: "exit as soon as the tunnel is configured",
  }),
  logDirectory: logDirectoryOption,
  logLevel: logLevelOption,
  logFormat: logFormatOption,
  metrics: metricsOption,
  otlpEndpoint: otlpEndpointOption,
  noTelemetry: noTelemetryOption,
  flowLogs: flowLogsOption,
  incBuf: flag({
    flags: "--inc-buf",
    env: "FIREZONE_INC_BUF",
    description: "accepted for compatibility: sockets get large buffers without it",
    hidden: true,
  }),
};

/** What the command line and the environment say. */
export type ClientConfig = Values<typeof CLIENT_OPTIONS>;

/** The command; `run` does the work. */
export function clientCommand(run: (config: ClientConfig) => Promise<number>): Command {
  return command({
    name: "firezone-headless-client",
    description: "Gives this machine access to private resources.",
    version: PORTAL_CLIENT_VERSION,
    options: CLIENT_OPTIONS,
    commands: [
      statusCommand({
        program: "firezone-headless-client",
        statusSocket: CLIENT_OPTIONS.statusSocket,
      }),
      signInCommand(CLIENT_OPTIONS.tokenPath),
      signOutCommand(CLIENT_OPTIONS.tokenPath),
      command({
        name: "standalone",
        description: "same as without it; units for older clients have it",
        hidden: true,
        options: CLIENT_OPTIONS,
        run,
      }),
    ],
    epilogue: "FIREZONE_TOKEN holds the token of a service account; it is best kept in a file.",
    run,
  });
}
