/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * One of the relay's workers: {@link RelayServer} in its loop.
 * @module
 */

import { type Family, ip, type IpAddress, prefix } from "@firezone/core/ip";
import { OsError, UdpSocket } from "@firezone/core/os/linux";
import { acceptWorkerSide, monotonicNow, type WorkerSide } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import { parseLogFilter, setLogFilter, setUpLogging } from "@firezone/core/telemetry";
import { RelayLoop } from "./loop.ts";
import { WorkerReporter } from "./report.ts";
import { DEFAULT_BUDGET, shareOfBudget } from "./response_budget.ts";
import { seededRandom } from "./seeded_random.ts";
import { RelayServer } from "./server.ts";
import { WorkerMailbox } from "./worker_mailbox.ts";
import type { RelayNotice, RelayOrder, RelayStart } from "./worker_messages.ts";

function run(side: WorkerSide<RelayOrder, RelayNotice>, start: RelayStart): void {
  setUpLogging({
    filter: start.logFilter,
    format: start.logFormat,
    googleCloudProjectId: start.googleCloudProjectId,
  });
  const random = start.rngSeed === undefined
    ? systemRandom
    : seededRandom(BigInt(start.rngSeed), 1 + start.index);
  const { siblings, index } = start;
  const publicAddresses = new Map<Family, IpAddress>();
  const bind = new Map<Family, IpAddress>();
  const sendFrom = new Map<Family, IpAddress>();
  for (const [family, texts] of [[4, start.v4], [6, start.v6]] as const) {
    if (texts === undefined) continue;
    publicAddresses.set(family, ip(texts.public));
    bind.set(family, ip(texts.bind));
    if (isUnspecified(texts.bind) && isOurs(family, texts.public)) {
      sendFrom.set(family, ip(texts.public));
    }
  }
  const server = new RelayServer({
    publicAddresses: { v4: publicAddresses.get(4), v6: publicAddresses.get(6) },
    stampSecret: start.stampSecret,
    random,
    software: start.software,
    ports: siblings[index]!.ports,
    relayPorts: start.ports,
    nonceKey: start.nonceKey,
    budget: shareOfBudget(DEFAULT_BUDGET, siblings.length),
    ownAddresses: start.ownAddresses.map(ip),
    allowedPeers: start.allowedPeers.map(prefix),
    deniedPeers: start.deniedPeers.map(prefix),
    sharedUsernames: start.standaloneUsername === undefined ? [] : [start.standaloneUsername],
    legacyChannels: start.standaloneUsername !== undefined,
  });
  const reporter = new WorkerReporter(server, () => loop.drops);
  const onOrder = (order: RelayOrder) => {
    switch (order.tag) {
      case "serve":
        return loop.serve();
      case "superseded":
        return server.handleSuperseded(monotonicNow(), order.id, order.username);
      case "report":
        return side.post({ tag: "report", report: reporter.take() });
      case "log-filter":
        return setLogFilter(parseLogFilter(order.directives)!);
    }
  };
  let loop: RelayLoop;
  try {
    loop = new RelayLoop({
      server,
      bind,
      sendFrom,
      publicAddresses,
      listenPort: start.listenPort,
      siblings: siblings.length > 1 ? new WorkerMailbox(siblings, index) : undefined,
      controlFd: side.fd,
      onControl: () => {
        if (!side.receiveAll(onOrder)) loop.stop();
      },
      onAllocated: ({ id, soleOf }) => side.post({ tag: "allocated", id, soleOf }),
      onEnded: ({ id, soleOf }) => side.post({ tag: "ended", id, soleOf }),
      onTurn: (durationMs, isExhausted) => reporter.noteTurn(durationMs / 1000, isExhausted),
    });
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    return side.post({ tag: "refused", reason: error.message });
  }
  side.post({ tag: "bound" });
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
