/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * The relay's worker: {@link RelayServer} in its loop.
 * @module
 */

import { type Family, ip, type IpAddress, prefix } from "@firezone/core/ip";
import { OsError, raiseFileLimit, UdpSocket } from "@firezone/core/os/linux";
import { acceptWorkerSide, monotonicNow, type WorkerSide } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import { parseLogFilter, setLogFilter, setUpLogging } from "@firezone/core/telemetry";
import { RelayLoop } from "./loop.ts";
import { WorkerReporter } from "./report.ts";
import { seededRandom } from "./seeded_random.ts";
import { RelayServer } from "./server.ts";
import type { RelayNotice, RelayOrder, RelayStart } from "./worker_messages.ts";

function run(side: WorkerSide<RelayOrder, RelayNotice>, start: RelayStart): void {
  setUpLogging({
    filter: start.logFilter,
    format: start.logFormat,
    googleCloudProjectId: start.googleCloudProjectId,
  });
  const random = start.rngSeed === undefined
    ? systemRandom
    : seededRandom(BigInt(start.rngSeed), 1);
  const server = new RelayServer({
    publicAddresses: {
      v4: start.v4 && ip(start.v4.public),
      v6: start.v6 && ip(start.v6.public),
    },
    stampSecret: start.stampSecret,
    random,
    software: start.software,
    ports: start.ports,
    ownAddresses: start.ownAddresses.map(ip),
    allowedPeers: start.allowedPeers.map(prefix),
    sharedUsernames: start.standaloneUsername === undefined ? [] : [start.standaloneUsername],
    legacyChannels: start.standaloneUsername !== undefined,
  });
  const bind = new Map<Family, IpAddress>();
  if (start.v4) bind.set(4, ip(start.v4.bind));
  if (start.v6) bind.set(6, ip(start.v6.bind));

  const sendFrom = new Map<Family, IpAddress>();
  for (const [family, texts] of [[4, start.v4], [6, start.v6]] as const) {
    if (texts && isUnspecified(texts.bind) && isOurs(family, texts.public)) {
      sendFrom.set(family, ip(texts.public));
    }
  }

  const reporter = new WorkerReporter(server);
  let isDraining = false;
  const onOrder = (order: RelayOrder) => {
    switch (order.tag) {
      case "drain":
        isDraining = true;
        return;
      case "report":
        return side.post({ tag: "report", report: reporter.take() });
      case "log-filter":
        return setLogFilter(parseLogFilter(order.directives)!);
    }
  };
  let loop: RelayLoop;
  try {
    raiseFileLimit();
    loop = new RelayLoop({
      server,
      bind,
      sendFrom,
      listenPort: start.listenPort,
      controlFd: side.fd,
      onControl: () => {
        if (!side.receiveAll(onOrder)) loop.stop();
      },
      onTurn: (now, isExhausted) => {
        reporter.noteTurn((monotonicNow() - now) / 1000, isExhausted);
        if (!isDraining || server.allocationCount > 0) return;
        isDraining = false;
        side.post({ tag: "drained" });
      },
    });
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    return side.post({ tag: "refused", reason: error.message });
  }
  side.post({ tag: "listening" });
  loop.run();
}

/** Whether datagrams can be sent from an address: behind a 1:1 NAT the public one is not ours. */
function isOurs(family: Family, address: string): boolean {
  try {
    UdpSocket.open({ family, address: ip(address), port: 0 }).close();
    return true;
  } catch (error) {
    if (error instanceof OsError) return false;
    throw error;
  }
}

function isUnspecified(address: string): boolean {
  return ip(address).bytes.every((byte) => byte === 0);
}

acceptWorkerSide(run);
