/**
 * `firezone-gateway`: lets authorised clients into the network that it stands in.
 * @module
 */

import { defaultName, runMain, type Secret, withFlowLogs } from "@firezone/core/cli";
import { ServiceManager } from "@firezone/core/os/linux";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";
import { DataPlaneStarter, requireNetworkAdministration, TunnelHost } from "@firezone/core/runtime";
import { serveHealth } from "@firezone/core/runtime/health_server";
import { exportMetrics, TunnelMetrics } from "@firezone/core/runtime/tunnel_metrics";
import { logger, setUpProgramLogging } from "@firezone/core/telemetry";
import { buildRevision } from "@firezone/core/version";
import { gatewayCommand, type GatewayConfig } from "./cli.ts";
import { DnsProxy, SystemResolver } from "./dns/mod.ts";
import { setUpForwarding } from "./os/forwarding.ts";
import { loadGatewayId } from "./os/gateway_id.ts";
import { loadToken } from "./os/token.ts";
import type { GatewayCommand, GatewayNotice } from "./worker_messages.ts";

/** What belongs into the tunnel: the addresses of clients and gateways. */
const ROUTES = ["100.64.0.0/11", "fd00:2021:1111::/107"];

const PROGRAM = "firezone-gateway";

async function run(config: GatewayConfig, givenToken: Secret | undefined): Promise<number> {
  const manager = ServiceManager.fromEnvironment();
  setUpProgramLogging({
    program: PROGRAM,
    filter: config.flowLogs ? withFlowLogs(config.logLevel) : config.logLevel,
    format: config.logFormat,
    directory: config.logDirectory,
  });
  const log = logger("gateway");
  if (!config.noCheck) requireNetworkAdministration("pass --no-check");
  const token = loadToken(givenToken);
  const id = loadGatewayId(config.firezoneId);
  const resolver = new SystemResolver();
  const proxy = new DnsProxy({ log: logger("gateway", "dns") });
  const metrics = new TunnelMetrics();
  const exported = exportMetrics({
    program: PROGRAM,
    version: PORTAL_CLIENT_VERSION,
    metrics,
    sink: config.metrics,
    endpoint: config.otlpEndpoint,
    status: () => host.status(),
    log: log.child("metrics"),
  });
  await using dataPlane = new DataPlaneStarter<GatewayCommand, GatewayNotice, undefined>(
    new URL("./data_plane_worker.ts", import.meta.url),
    {
      program: PROGRAM,
      interfaceName: config.interfaceName,
      crypto: config.crypto,
      logFormat: config.logFormat,
      logDirectory: config.logDirectory,
      inspection: {
        validatesChecksums: config.validateChecksums,
        flowRole: config.flowLogs ? "responder" : undefined,
      },
      settings: undefined,
    },
    config.threads,
  );
  const host: TunnelHost<GatewayCommand, GatewayNotice> = new TunnelHost({
    portal: {
      apiUrl: config.apiUrl,
      token,
      login: { role: "gateway", id, name: config.firezoneName ?? defaultName() },
      maxPartitionMs: config.maxPartitionTime,
    },
    startWorker: (handlers) => dataPlane.startWorker(handlers),
    onNotice: ({ id, domain }) => void answer(id, domain),
    statusSocket: config.statusSocket,
    manager,
    log,
    routes: ROUTES,
    onAddresses: (ipv4, ipv6) => proxy.listen([ipv4, ipv6]),
    close: async () => {
      await exported[Symbol.asyncDispose]();
      await proxy.close();
    },
    ...config.noMasquerade ? {} : { setUp: setUpForwarding },
  });
  await using _health = config.healthCheckAddr === "off"
    ? undefined
    : serveHealth(config.healthCheckAddr, {
      isReady: () => host.isConnected,
      revision: buildRevision() ?? "",
      remedy: "name another --health-check-addr",
    });
  return await host.run();

  async function answer(id: number, domain: string): Promise<void> {
    const start = performance.now();
    try {
      const addresses = await resolver.resolve(domain);
      metrics.recordLookup(performance.now() - start, addresses.length > 0);
      if (addresses.length === 0) log.debug("A name has no addresses", { domain });
      host.post({ id, addresses });
    } catch (error) {
      metrics.recordLookup(performance.now() - start, false);
      log.debug("Cannot resolve a name", { domain, error: (error as Error).message });
      host.post({ id, addresses: undefined });
    }
  }
}

if (import.meta.main) await runMain((args) => gatewayCommand(run).execute(args));
