/**
 * The portal's command line.
 * @module
 */

import {
  type Command,
  command,
  flag,
  logFormatOption,
  logLevelOption,
  option,
  socketAddress,
  text,
  type ValueKind,
  type Values,
} from "@firezone/core/cli";
import type { SocketAddress } from "@firezone/core/ip";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";

const addresses: ValueKind<readonly SocketAddress[]> = {
  expected: "addresses such as 0.0.0.0:8080 or 192.0.2.1:80,[2001:db8::1]:80",
  parse: (text) => {
    const list = text.split(",").map((part) => socketAddress.parse(part.trim()));
    return list.some((address) => address === undefined) ? undefined : list as SocketAddress[];
  },
};

const configOption = option({
  flags: "-c, --config <path>",
  env: "FIREZONE_PORTAL_CONFIG",
  description: "the configuration file",
  kind: text,
  defaultText: "portal.jsonc, else portal.json",
});

/** The portal's options. */
export const PORTAL_OPTIONS = {
  config: configOption,
  listen: option({
    flags: "-l, --listen <addresses>",
    env: "FIREZONE_PORTAL_LISTEN",
    description: "where clients, gateways and relays connect, comma-separated",
    kind: addresses,
    defaultText: "port 8080 of every address",
  }),
  database: option({
    flags: "-d, --database <path>",
    env: "FIREZONE_PORTAL_DATABASE",
    description: "SQLite file that remembers devices and their tunnel addresses",
    kind: text,
    default: "portal.db",
  }),
  healthCheckAddr: option({
    flags: "--health-check-addr <address>",
    env: "HEALTH_CHECK_ADDR",
    description: "where GET /healthz and GET /status (who is online) are answered; not for the " +
      "public",
    kind: socketAddress,
    defaultText: "nowhere; /healthz is also answered where peers connect",
  }),
  tlsCert: option({
    flags: "--tls-cert <path>",
    env: "FIREZONE_PORTAL_TLS_CERT",
    description: "PEM file with the certificate chain; makes the portal speak TLS itself",
    kind: text,
  }),
  tlsKey: option({
    flags: "--tls-key <path>",
    env: "FIREZONE_PORTAL_TLS_KEY",
    description: "PEM file with the certificate's private key",
    kind: text,
  }),
  trustForwardedFor: flag({
    flags: "--trust-forwarded-for",
    env: "FIREZONE_PORTAL_TRUST_FORWARDED_FOR",
    description: "believe the last entry of X-Forwarded-For, which a proxy in front has set",
  }),
  logLevel: logLevelOption,
  logFormat: logFormatOption,
};

/** What the command line and the environment say. */
export type PortalCliConfig = Values<typeof PORTAL_OPTIONS>;

/** What the commands do. */
export interface PortalCommands {
  /** Serves until it is told to end. */
  run(config: PortalCliConfig): Promise<number>;
  /** Writes a starter file. */
  init(path: string): number;
  /** Lists the mistakes of a file. */
  check(path: string | undefined): number;
}

/** The command with its sub-commands. */
export function portalCommand(commands: PortalCommands): Command {
  return command({
    name: "firezone-portal",
    description: "A small control plane for clients, gateways and relays, configured by one file.",
    version: PORTAL_CLIENT_VERSION,
    options: PORTAL_OPTIONS,
    commands: [
      command({
        name: "init",
        description: "writes a commented configuration with fresh tokens; its path may follow",
        options: {},
        positionals: [{ name: "path", description: "file to write (default: portal.jsonc)" }],
        run: (_values, [path]) => commands.init(path ?? "portal.jsonc"),
      }),
      command({
        name: "check",
        description: "lists every mistake of a configuration",
        options: { config: configOption },
        positionals: [{ name: "path", description: "file to check, instead of --config" }],
        run: ({ config }, [path]) => commands.check(path ?? config),
      }),
    ],
    epilogue: "A changed configuration is applied while the portal runs; SIGHUP reads it at once.",
    run: commands.run,
  });
}
