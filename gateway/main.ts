/**
 * `firezone-gateway`: lets authorised clients into the network that it stands in.
 * @module
 */

import { ConfigError, defaultName, runMain } from "@firezone/core/cli";
import { Capability, hasCapability, ServiceManager } from "@firezone/core/os/linux";
import {
  type DataPlaneCommand,
  type DataPlaneNotice,
  type DataPlaneStart,
  spawnWorker,
  TunnelHost,
} from "@firezone/core/runtime";
import { serveHealth } from "@firezone/core/runtime/health_server";
import {
  LogDirectory,
  logFilterText,
  logger,
  setUpLogging,
  writeBoth,
} from "@firezone/core/telemetry";
import { buildRevision } from "@firezone/core/version";
import { gatewayCommand, type GatewayConfig } from "./cli.ts";
import { DnsProxy, SystemResolver } from "./dns/mod.ts";
import { setUpForwarding } from "./os/forwarding.ts";
import { loadGatewayId } from "./os/gateway_id.ts";
import { loadToken } from "./os/token.ts";
import type { GatewayCommand, GatewayNotice } from "./worker_messages.ts";

type Command = DataPlaneCommand<GatewayCommand>;

/** What belongs into the tunnel: the addresses of clients and gateways. */
const ROUTES = ["100.64.0.0/11", "fd00:2021:1111::/107"];

async function run(config: GatewayConfig): Promise<number> {
  const manager = ServiceManager.fromEnvironment();
  const logs = config.logDirectory === undefined
    ? undefined
    : LogDirectory.open(config.logDirectory, { json: config.logFormat === "json" });
  setUpLogging({
    filter: config.logLevel,
    format: config.logFormat,
    ...logs && { write: writeBoth(logs) },
  });
  const log = logger("gateway");
  const token = loadToken();
  const id = loadGatewayId(config.firezoneId);
  if (!config.noCheck && !hasCapability(Capability.NET_ADMIN)) {
    throw new ConfigError(
      "Cannot configure the network: run as root or with CAP_NET_ADMIN, or pass --no-check",
    );
  }
  const resolver = new SystemResolver();
  const proxy = new DnsProxy({ log: logger("gateway", "dns") });
  const host = new TunnelHost<GatewayCommand, GatewayNotice>({
    portal: {
      apiUrl: config.apiUrl,
      token,
      login: { role: "gateway", id, name: config.firezoneName ?? defaultName() },
      maxPartitionMs: config.maxPartitionTime,
    },
    startWorker: (handlers) =>
      spawnWorker<Command, DataPlaneNotice<GatewayNotice>, DataPlaneStart<undefined>>(
        new URL("./data_plane_worker.ts", import.meta.url),
        {
          interfaceName: config.interfaceName,
          crypto: config.crypto,
          logFilter: logFilterText(),
          logFormat: config.logFormat,
          logDirectory: config.logDirectory,
          settings: undefined,
        },
        handlers,
      ),
    onNotice: ({ id, domain }) => void answer(id, domain),
    statusSocket: config.statusSocket,
    manager,
    log,
    routes: ROUTES,
    onAddresses: (ipv4, ipv6) => proxy.listen([ipv4, ipv6]),
    close: () => proxy.close(),
    ...config.noMasquerade ? {} : { setUp: setUpForwarding },
  });
  await using _health = serveHealth(config.healthCheckAddr, {
    isReady: () => host.isConnected,
    revision: buildRevision() ?? "",
    remedy: "name another --health-check-addr",
  });
  return await host.run();

  async function answer(id: number, domain: string): Promise<void> {
    try {
      host.post({ id, addresses: await resolver.resolve(domain) });
    } catch (error) {
      log.debug("Cannot resolve a name", { domain, error: (error as Error).message });
      host.post({ id, addresses: undefined });
    }
  }
}

if (import.meta.main) await runMain((args) => gatewayCommand(run).execute(args));
