/**
 * `firezone-headless-client`: gives this machine access to private resources.
 * @module
 */

import { defaultName, runMain, withFlowLogs } from "@firezone/core/cli";
import { ServiceManager } from "@firezone/core/os/linux";
import { PORTAL_CLIENT_VERSION } from "@firezone/core/portal";
import { DataPlaneStarter, requireNetworkAdministration, TunnelHost } from "@firezone/core/runtime";
import { exportMetrics, TunnelMetrics } from "@firezone/core/runtime/tunnel_metrics";
import { logger, setUpProgramLogging } from "@firezone/core/telemetry";
import { clientCommand, type ClientConfig } from "./cli.ts";
import { ClientDns } from "./client_dns.ts";
import { dnsControl } from "./os/dns_control/mod.ts";
import { loadDeviceId } from "./os/device_id.ts";
import { readHardwareIds } from "./os/hardware_ids.ts";
import { loadToken } from "./os/token.ts";
import type { ClientCommand, ClientNotice, ClientSettings } from "./worker_messages.ts";

const PROGRAM = "firezone-headless-client";

async function run(config: ClientConfig): Promise<number> {
  const manager = ServiceManager.fromEnvironment();
  setUpProgramLogging({
    program: PROGRAM,
    filter: config.flowLogs ? withFlowLogs(config.logLevel) : config.logLevel,
    format: config.logFormat,
    directory: config.logDirectory,
  });
  const log = logger("client");
  if (!config.check) requireNetworkAdministration();
  const token = loadToken(config.tokenPath);
  const id = loadDeviceId(config.firezoneId, `${config.stateDirectory}/firezone-id.json`);
  const control = dnsControl(config.dnsControl);
  if (config.check) {
    await control.check();
    log.info("The configuration is valid", { dnsControl: control.method });
    return 0;
  }
  const dns = new ClientDns({
    control,
    systemNames: [config.apiUrl.hostname],
    recordsPath: `${config.stateDirectory}/dns-records.json`,
    post: (command) => host.post(command),
    setServiceAddresses: (addresses) => host.setServiceAddresses(addresses),
    interfaceName: config.interfaceName,
    log: logger("client", "dns"),
  });
  const exported = exportMetrics({
    program: PROGRAM,
    version: PORTAL_CLIENT_VERSION,
    metrics: new TunnelMetrics(),
    sink: config.metrics,
    endpoint: config.otlpEndpoint,
    status: () => host.status(),
    log: log.child("metrics"),
  });
  await using dataPlane = new DataPlaneStarter<ClientCommand, ClientNotice, ClientSettings>(
    new URL("./data_plane_worker.ts", import.meta.url),
    {
      program: PROGRAM,
      interfaceName: config.interfaceName,
      crypto: config.crypto,
      logFormat: config.logFormat,
      logDirectory: config.logDirectory,
      inspection: {
        validatesChecksums: false,
        flowRole: config.flowLogs ? "initiator" : undefined,
      },
      settings: { usesInternet: config.activateInternetResource },
    },
    config.threads,
  );
  const host: TunnelHost<ClientCommand, ClientNotice> = new TunnelHost({
    portal: {
      apiUrl: config.apiUrl,
      token,
      login: {
        role: "client",
        id,
        name: config.firezoneName ?? defaultName(),
        hardware: readHardwareIds(),
      },
      maxPartitionMs: config.maxPartitionTime,
    },
    startWorker: (handlers) => dataPlane.startWorker(handlers),
    statusSocket: config.statusSocket,
    manager,
    log,
    watchedFiles: control.watchedFiles,
    onAddresses: () => dns.handleAddresses(),
    onNotice: (notice) => dns.handleNotice(notice),
    onFileChange: () => void dns.handleSystemChange(),
    onNetworkChange: () => void dns.handleNetworkChange(),
    exitWhenReady: config.exit,
    close: async () => {
      await exported[Symbol.asyncDispose]();
      await dns.close();
    },
  });
  try {
    await dns.start();
  } catch (error) {
    await dns.close();
    throw error;
  }
  return await host.run();
}

if (import.meta.main) await runMain((args) => clientCommand(run).execute(args));
