/**
 * `firezone-portal`: the control plane of a small installation.
 * @module
 */

import { ConfigError, EXIT_FAILURE, EXIT_OK, runMain } from "@firezone/core/cli";
import { SocketAddress } from "@firezone/core/ip";
import { ip } from "@firezone/core/ip";
import { type Logger, logger, setUpLogging } from "@firezone/core/telemetry";
import { type PortalCliConfig, portalCommand } from "./cli.ts";
import { formatMistake, type Mistake, parseConfig, starterConfig } from "./config/mod.ts";
import { type ConfigChange, ConfigWatcher, findConfigPath, readConfigText } from "./config_file.ts";
import { PortalServer } from "./server.ts";
import { SqliteStore } from "./sqlite_store.ts";

const DEFAULT_PORT = 8080;

async function run(options: PortalCliConfig): Promise<number> {
  setUpLogging({ filter: options.logLevel, format: options.logFormat });
  const log = logger("portal");
  const path = findConfigPath(options.config);
  const text = readConfigText(path);
  const parsed = parseConfig(text);
  if (!parsed.ok) throw mistakesError(path, parsed.mistakes);
  warnOfReaders(path, log);
  const tls = readTls(options.tlsCert, options.tlsKey);
  using store = new SqliteStore(options.database, (error) => {
    log.error("cannot write to the database; what is new is lost at the end", { error });
  });
  const server = PortalServer.start({
    config: parsed.config,
    store,
    listen: options.listen ?? [defaultAddress()],
    ...(options.healthCheckAddr && { health: options.healthCheckAddr }),
    ...(tls && { tls }),
    trustForwardedFor: options.trustForwardedFor,
    log,
  });
  const addresses = server.addresses.map(({ hostname, port }) =>
    hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`
  );
  log.info("listening", { addresses: addresses.join(" "), config: path });
  using watcher = new ConfigWatcher(
    path,
    text,
    (change) => applyChange(change, path, server, log),
  );
  const signal = await untilSignal(() => watcher.reload());
  log.info("ending", { signal });
  await server.shutdown();
  return EXIT_OK;
}

function applyChange(change: ConfigChange, path: string, server: PortalServer, log: Logger): void {
  if (change.tag === "unreadable") {
    return log.warn("cannot read the configuration; the last one stays in force", {
      reason: change.reason,
    });
  }
  if (change.parsed.ok) {
    server.applyConfig(change.parsed.config);
    return log.info("applied the changed configuration", { config: path });
  }
  for (const { line, column, path: key, message } of change.parsed.mistakes) {
    log.error("mistake in the configuration", { at: `${path}:${line}:${column}`, key, message });
  }
  log.error("the changed configuration is not applied; the last valid one stays in force", {
    mistakes: change.parsed.mistakes.length,
  });
}

/** SIGHUP reads the configuration; SIGINT and SIGTERM end the wait. */
async function untilSignal(onHangup: () => void): Promise<Deno.Signal> {
  const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
  const ends = (["SIGINT", "SIGTERM"] as const).map((signal) =>
    [signal, () => resolve(signal)] as const
  );
  const handlers: (readonly [Deno.Signal, () => void])[] = Deno.build.os === "windows"
    ? [...ends.slice(0, 1)]
    : [...ends, ["SIGHUP", onHangup]];
  for (const [signal, handler] of handlers) Deno.addSignalListener(signal, handler);
  const signal = await promise;
  for (const [name, handler] of handlers) Deno.removeSignalListener(name, handler);
  return signal;
}

function init(path: string): number {
  const text = starterConfig((length) => crypto.getRandomValues(new Uint8Array(length)));
  try {
    Deno.writeTextFileSync(path, text, { createNew: true, mode: 0o600 });
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) {
      throw new ConfigError(`Cannot write ${path}: it exists already; name another file`);
    }
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`Cannot write ${path}: ${reason}`, { cause: error });
  }
  console.log(`Wrote ${path}: name your networks in it, then run firezone-portal.`);
  return EXIT_OK;
}

function check(given: string | undefined): number {
  const path = findConfigPath(given);
  const parsed = parseConfig(readConfigText(path));
  if (!parsed.ok) {
    for (const mistake of parsed.mistakes) console.error(formatMistake(path, mistake));
    return EXIT_FAILURE;
  }
  const { sites, accounts, resources, policies } = parsed.config;
  const counts = [
    count(sites.length, "site", "sites"),
    count(accounts.length, "account", "accounts"),
    count(resources.length, "resource", "resources"),
    count(policies.length, "policy", "policies"),
  ];
  console.log(`${path} is valid: ${counts.join(", ")}`);
  return EXIT_OK;
}

function count(n: number, one: string, many: string): string {
  return `${n} ${n === 1 ? one : many}`;
}

/** Lists all mistakes but the last, which becomes part of the error's own line. */
function mistakesError(path: string, mistakes: readonly Mistake[]): ConfigError {
  for (const mistake of mistakes) console.error(formatMistake(path, mistake));
  const number = count(mistakes.length, "mistake", "mistakes");
  return new ConfigError(`Cannot use configuration ${path}: ${number}, listed above`);
}

/** The file holds tokens, or hashes that are as good for guessing. */
function warnOfReaders(path: string, log: Logger): void {
  const mode = Deno.statSync(path).mode;
  if (mode !== null && (mode & 0o044) !== 0) {
    log.warn("others may read the configuration and the tokens in it: chmod 600", { path });
  }
}

function readTls(
  certPath: string | undefined,
  keyPath: string | undefined,
): { readonly cert: string; readonly key: string } | undefined {
  if (certPath === undefined && keyPath === undefined) return undefined;
  if (certPath === undefined || keyPath === undefined) {
    throw new ConfigError("Cannot speak TLS: expected both --tls-cert and --tls-key");
  }
  return { cert: readPem(certPath), key: readPem(keyPath) };
}

function readPem(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError(`Cannot read PEM file ${path}: ${reason}`, { cause: error });
  }
}

/** All addresses of both families, or of IPv4 where there is no IPv6. */
function defaultAddress(): SocketAddress {
  try {
    Deno.listen({ hostname: "::", port: 0 }).close();
    return new SocketAddress(ip("::"), DEFAULT_PORT);
  } catch {
    return new SocketAddress(ip("0.0.0.0"), DEFAULT_PORT);
  }
}

if (import.meta.main) {
  await runMain((args) => portalCommand({ run, init, check }).execute(args));
}
