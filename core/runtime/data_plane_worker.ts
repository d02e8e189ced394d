/**
 * The worker's side of a program with a data plane: makes the machine, runs the loop, carries
 * commands in and notices out.
 * @module
 */

import { base64 } from "../bytes/mod.ts";
import { type AeadBackend, selectAead } from "../crypto/mod.ts";
import { OsError, TunDevice } from "../os/linux/mod.ts";
import type { RandomBytes } from "../random.ts";
import { systemRandom } from "../system_random.ts";
import { logger, setUpLogging } from "../telemetry/mod.ts";
import type { Millis } from "../units.ts";
import { unixMillisAtZero } from "./clock.ts";
import { DataPlane, type DataPlaneState } from "./data_plane.ts";
import type { DataPlaneCommand, DataPlaneNotice, DataPlaneStart } from "./data_plane_messages.ts";
import { acceptWorkerSide, type WorkerSide } from "./worker_channel.ts";

/** What every machine of a data plane is made of. */
export interface MachineOptions {
  /** A fresh WireGuard key, 32 bytes. */
  readonly privateKey: Uint8Array;
  /** Seals and opens. */
  readonly aead: AeadBackend;
  /** The system's randomness. */
  readonly random: RandomBytes;
  /** Wall clock at monotonic time zero, in milliseconds since 1970. */
  readonly unixMillisAtZero: number;
}

/** A machine with the words that its program has for the main thread. */
export interface DataPlaneProgram {
  /** The machine that the loop drives. */
  readonly state: DataPlaneState;
  /** Our WireGuard public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Takes a message of the portal; whatever it holds, never throws. */
  handlePortalMessage(now: Millis, event: string, payload: unknown): void;
  /** Takes the answer to a notice `resolve`. */
  handleResolved?(now: Millis, id: number, addresses: readonly string[] | undefined): void;
  /** Starts over with another key. */
  reset(now: Millis, privateKey: Uint8Array): void;
  /** Says goodbye to peers. */
  shutDown(now: Millis): void;
  /** A snapshot for the status page; plain data. */
  status(now: Millis): unknown;
  /** The next thing that the main thread must know. */
  pollNotice(): DataPlaneNotice | undefined;
}

const KEY_LENGTH = 32;

/**
 * The body of a data-plane worker's entry file; see {@link acceptWorkerSide}.
 *
 * A TUN device that cannot be had ends it with the notice `refused`.
 */
export function serveDataPlane(makeProgram: (options: MachineOptions) => DataPlaneProgram): void {
  acceptWorkerSide<DataPlaneCommand, DataPlaneNotice, DataPlaneStart>((channel, start) => {
    runDataPlane(channel, start, makeProgram);
  });
}

function runDataPlane(
  channel: WorkerSide<DataPlaneCommand, DataPlaneNotice>,
  start: DataPlaneStart,
  makeProgram: (options: MachineOptions) => DataPlaneProgram,
): void {
  setUpLogging({ filter: start.logFilter, format: start.logFormat });
  const log = logger("data-plane");
  let tun: TunDevice;
  try {
    tun = TunDevice.open(start.interfaceName);
  } catch (error) {
    if (!(error instanceof OsError)) throw error;
    return channel.post({ tag: "refused", reason: error.message });
  }
  const aead = selectAead(start.crypto);
  const program = makeProgram({
    privateKey: systemRandom(KEY_LENGTH),
    aead,
    random: systemRandom,
    unixMillisAtZero: unixMillisAtZero(),
  });
  const plane = new DataPlane({
    state: program.state,
    tun,
    controlFd: channel.fd,
    onControl: (now) => {
      if (channel.receiveAll((command) => onCommand(now, command))) return;
      program.shutDown(now);
      plane.stop();
    },
    onTurn: () => {
      for (let notice; (notice = program.pollNotice()) !== undefined;) channel.post(notice);
    },
  });
  log.info("Data plane is running", { interface: tun.name, aead: aead.name, ports: plane.ports });
  channel.post({
    tag: "ready",
    interfaceName: tun.name,
    publicKey: base64(program.publicKey),
  });
  plane.run();
  tun.close();

  function onCommand(now: Millis, command: DataPlaneCommand): void {
    switch (command.tag) {
      case "portal-message":
        return program.handlePortalMessage(now, command.event, command.payload);
      case "reset":
        program.reset(now, systemRandom(KEY_LENGTH));
        plane.rebind();
        log.info("Data plane was reset", { ports: plane.ports });
        return channel.post({ tag: "public-key", publicKey: base64(program.publicKey) });
      case "resolved":
        return program.handleResolved?.(now, command.id, command.addresses);
      case "status":
        return channel.post({ tag: "status", id: command.id, status: program.status(now) });
    }
  }
}
