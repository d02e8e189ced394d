/**
 * `firezone-headless-client`: gives this machine access to private resources.
 * @module
 */

import { defaultName, runMain } from "@firezone/core/cli";
import {
  type DataPlaneCommand,
  type DataPlaneNotice,
  type DataPlaneStart,
  spawnWorker,
  TunnelHost,
} from "@firezone/core/runtime";
import { logFilterText, logger, setUpLogging } from "@firezone/core/telemetry";
import { clientCommand, type ClientConfig } from "./cli.ts";
import { loadDeviceId } from "./os/device_id.ts";
import { readHardwareIds } from "./os/hardware_ids.ts";
import { loadToken } from "./os/token.ts";
import type { ClientCommand, ClientNotice, ClientSettings } from "./worker_messages.ts";

async function run(config: ClientConfig): Promise<number> {
  setUpLogging({ filter: config.logLevel, format: config.logFormat });
  const log = logger("client");
  const token = loadToken(config.tokenPath);
  const id = loadDeviceId(config.firezoneId);
  if (config.check) {
    log.info("The configuration is valid");
    return 0;
  }
  const host = new TunnelHost<ClientCommand, ClientNotice>({
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
    startWorker: (handlers) =>
      spawnWorker<
        DataPlaneCommand<ClientCommand>,
        DataPlaneNotice<ClientNotice>,
        DataPlaneStart<ClientSettings>
      >(
        new URL("./data_plane_worker.ts", import.meta.url),
        {
          interfaceName: config.interfaceName,
          crypto: config.crypto,
          logFilter: logFilterText(),
          logFormat: config.logFormat,
          settings: { usesInternet: config.activateInternetResource },
        },
        handlers,
      ),
    onNotice: () => {},
    statusSocket: config.statusSocket,
    log,
  });
  return await host.run();
}

if (import.meta.main) await runMain((args) => clientCommand(run).execute(args));
