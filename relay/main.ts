/**
 * `firezone-relay`: a STUN and TURN server for those who cannot meet directly.
 * @module
 */

import { ConfigError, runMain, Secret, takeSecretEnvOrFile } from "@firezone/core/cli";
import { base64NoPad, hex } from "@firezone/core/bytes";
import { SocketAddress } from "@firezone/core/ip";
import { raiseFileLimit } from "@firezone/core/os/linux";
import { PORTAL_CLIENT_VERSION, toApiUrl } from "@firezone/core/portal";
import type { RandomBytes } from "@firezone/core/random";
import { spawnWorker, wallClockNow } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import { logFilterText, type Logger, logger, setUpLogging } from "@firezone/core/telemetry";
import { relayCredentials, type TurnCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { buildRevision } from "@firezone/core/version";
import { type RelayArguments, relayCommand, type RelayConfig } from "./cli.ts";
import { discoverAddresses, type PublicAddresses } from "./cloud_metadata.ts";
import { checkPorts, chooseEndpoints, type Endpoint, type Endpoints } from "./config.ts";
import { describeCredential, RelayHost, type RelayHostOptions } from "./host.ts";
import { checkListenPort } from "./listen_port.ts";
import { describeRelay, startOperations, warnOfOddities } from "./operations.ts";
import { slicePorts } from "./port_pool.ts";
import { seededRandom } from "./seeded_random.ts";
import { RelayTelemetry } from "./telemetry.ts";
import { WorkerPipes } from "./worker_mailbox.ts";
import type { RelayNotice, RelayOrder, RelayStart } from "./worker_messages.ts";
import { WorkerPool } from "./worker_pool.ts";

/** How long the credential of a standalone relay is good for. */
const STANDALONE_CREDENTIAL_SECONDS = 24 * 3600;

async function run(config: RelayConfig, positionals: RelayArguments): Promise<number> {
  const { logLevel, logFormat, googleCloudProjectId } = config;
  setUpLogging({ filter: logLevel, format: logFormat, googleCloudProjectId });
  const log = logger("relay");
  const fromEnv = takeSecretEnvOrFile("FIREZONE_TOKEN");
  const token = positionals.token ?? fromEnv;
  const ports = checkPorts(config.lowestPort, config.highestPort);
  const publicAddresses = await findPublicAddresses(config);
  const interfaces = Deno.networkInterfaces().map((i) => i.address);
  const endpoints = chooseEndpoints(
    {
      public4: publicAddresses.v4,
      public6: publicAddresses.v6,
      bind4: config.bindIp4,
      bind6: config.bindIp6,
    },
    token === undefined,
    interfaces.includes("::1"),
  );
  const { rngSeed } = config;
  const random = rngSeed === undefined ? systemRandom : seededRandom(rngSeed, 0);
  const stampSecret = config.stampSecret ?? new Secret(hex(random(32)));
  const standalone = token ? undefined : makeCredential(stampSecret, random);
  const workers = config.numWorkerThreads ?? navigator.hardwareConcurrency;
  const start: Omit<RelayStart, "siblings" | "index"> = {
    v4: texts(endpoints.v4),
    v6: texts(endpoints.v6),
    listenPort: config.listenPort,
    ports,
    stampSecret: stampSecret.reveal(),
    nonceKey: random(32),
    ownAddresses: interfaces.map((address) => address.replace(/%.*$/, "")),
    allowedPeers: [...endpoints.allowedPeers, ...config.allowPeer].map((p) => p.text),
    deniedPeers: config.denyPeer.map((p) => p.text),
    standaloneUsername: standalone?.username,
    logFilter: logFilterText(),
    logFormat,
    googleCloudProjectId,
    rngSeed: rngSeed?.toString(),
    software: softwareName(),
  };
  const portal = token && toPortal(config, positionals, token, endpoints, stampSecret);
  await using telemetry = new RelayTelemetry({
    endpoint: config.otlpEndpoint,
    resource: await describeRelay(config, PORTAL_CLIENT_VERSION),
    version: PORTAL_CLIENT_VERSION,
    intervalMs: config.metricInterval,
    log: log.child("telemetry"),
  });
  warnOfOddities(config, log);
  raiseFileLimit();
  checkListenPort([start.v4, start.v6], start.listenPort);
  using pipes = WorkerPipes.open(slicePorts(ports, workers));
  const { siblings } = pipes;
  const host = new RelayHost({
    startWorkers: (handlers) =>
      new WorkerPool(
        siblings.length,
        (index, handlers) =>
          spawnWorker<RelayOrder, RelayNotice, RelayStart>(
            new URL("./relay_worker.ts", import.meta.url),
            { ...start, siblings, index },
            handlers,
          ),
        handlers,
      ),
    portal,
    onListening: () => {
      log.info("Listening", {
        port: config.listenPort,
        families: families(endpoints),
        workers: siblings.length,
      });
      if (standalone) announceStandalone(log, config, endpoints, standalone);
    },
    onReport: (worker, report) => telemetry.metrics.apply(worker, report),
    drainTimeoutMs: config.drainTimeout,
    log,
    tracer: telemetry.tracer,
  });
  await using _operations = startOperations(config, host, telemetry, log);
  return await host.run();
}

function toPortal(
  config: RelayConfig,
  positionals: RelayArguments,
  token: Secret,
  endpoints: Endpoints,
  stampSecret: Secret,
): RelayHostOptions["portal"] {
  const apiUrl = config.apiUrl && toApiUrl(config.apiUrl.href);
  if (!apiUrl) {
    throw new ConfigError("Cannot reach a portal: give --api-url (or FIREZONE_API_URL)");
  }
  return {
    apiUrl,
    token,
    login: {
      role: "relay",
      name: positionals.name ?? config.firezoneName,
      ipv4: endpoints.v4?.public.text,
      ipv6: endpoints.v6?.public.text,
      port: config.listenPort,
      stampSecret,
    },
  };
}

/** The addresses that were given, completed by those that the cloud knows, if it shall be asked. */
async function findPublicAddresses(config: RelayConfig): Promise<PublicAddresses> {
  const given = { v4: config.publicIp4, v6: config.publicIp6 };
  const { addressDiscovery, metadataUrl } = config;
  return addressDiscovery === undefined
    ? given
    : await discoverAddresses(addressDiscovery, given, { baseUrl: metadataUrl?.origin });
}

/** What clients learn about the program that answers them. */
function softwareName(): string {
  const revision = buildRevision();
  return revision === undefined ? "firezone-relay" : `firezone-relay ${revision.slice(0, 8)}`;
}

function makeCredential(stampSecret: Secret, random: RandomBytes): TurnCredentials {
  const expiresAt = wallClockNow() + STANDALONE_CREDENTIAL_SECONDS as UnixSeconds;
  return relayCredentials(expiresAt, stampSecret.reveal(), base64NoPad(random(12)));
}

/** The one place where a secret is shown: a standalone relay is of no use without a credential. */
function announceStandalone(
  log: Logger,
  config: RelayConfig,
  endpoints: Endpoints,
  credential: TurnCredentials,
): void {
  log.warn("No token, so no portal sends anybody here: running standalone");
  if (endpoints.isImplicitLoopback) {
    log.warn("No public address was given: reachable on loopback alone, peers on loopback allowed");
  }
  const addresses = [endpoints.v4, endpoints.v6].flatMap((e) =>
    e ? [new SocketAddress(e.public, config.listenPort)] : []
  );
  console.log(describeCredential(addresses, credential));
}

function texts(endpoint: Endpoint | undefined): RelayStart["v4"] {
  return endpoint && { public: endpoint.public.text, bind: endpoint.bind.text };
}

function families(endpoints: Endpoints): string {
  return [endpoints.v4 && "IPv4", endpoints.v6 && "IPv6"].filter(Boolean).join(" and ");
}

if (import.meta.main) await runMain((args) => relayCommand(run).execute(args));
