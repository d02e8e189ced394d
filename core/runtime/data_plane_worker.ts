/**
 * The worker's side of a program with a data plane: makes the machine, runs the loop, carries
 * commands in and notices out.
 * @module
 */

import { base64 } from "../bytes/mod.ts";
import { type AeadBackend, AeadError, selectAead } from "../crypto/mod.ts";
import { OsError, TunDevice } from "../os/linux/mod.ts";
import type { MalformedMessage, UnknownMessage } from "../portal/mod.ts";
import type { RandomBytes } from "../random.ts";
import { systemRandom } from "../system_random.ts";
import { logger, setUpProgramLogging } from "../telemetry/mod.ts";
import type { Millis } from "../units.ts";
import { CipherMemory } from "./cipher/cipher_memory.ts";
import { CipherPool } from "./cipher/cipher_pool.ts";
import { monotonicNow, unixMillisAtZero } from "./clock.ts";
import { DataPlane, type DataPlaneState } from "./data_plane.ts";
import type { DataPlaneCommand, DataPlaneNotice, DataPlaneStart } from "./data_plane_messages.ts";
import { PacketInspector } from "./packet_inspector.ts";
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

/** A machine as the worker of every program drives it. */
export interface Machine<Message, Event> extends DataPlaneState {
  /** Our WireGuard public key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Takes a message of the portal. */
  handlePortalMessage(now: Millis, message: Message): void;
  /** Starts over with another key. */
  reset(now: Millis, privateKey: Uint8Array): void;
  /** Says goodbye to peers. */
  shutDown(now: Millis): void;
  /** A snapshot for the status page; plain data. */
  status(now: Millis): unknown;
  /** The next thing that the owner must know. */
  pollEvent(): Event | undefined;
}

/** What a program adds to the worker: its machine, and the words of it for the main thread. */
export interface DataPlaneProgram<
  M extends Machine<Message, Event>,
  Message,
  Event,
  Settings,
  Command,
  Notice,
> {
  /** Makes the machine. */
  make(options: MachineOptions, settings: Settings): M;
  /** Reads a message of the portal; never throws. */
  parse(event: string, payload: unknown): Message | UnknownMessage | MalformedMessage;
  /** What the main thread is told of an event; what is only news is logged. */
  toNotice(event: Event): DataPlaneNotice<Notice> | undefined;
  /** Takes a command of the program's own; its answer, if it has one. */
  handleCommand(now: Millis, machine: M, command: Command): Notice | undefined;
}

const KEY_LENGTH = 32;

/**
 * The body of a data-plane worker's entry file; see {@link acceptWorkerSide}.
 *
 * A TUN device that cannot be had ends it with the notice `refused`.
 */
export function serveDataPlane<
  M extends Machine<Message, Event>,
  Message extends { readonly tag: string },
  Event,
  Settings,
  Command,
  Notice,
>(program: DataPlaneProgram<M, Message, Event, Settings, Command, Notice>): void {
  acceptWorkerSide<DataPlaneCommand<Command>, DataPlaneNotice<Notice>, DataPlaneStart<Settings>>(
    (channel, start) => runDataPlane(channel, start, program),
  );
}

function runDataPlane<
  M extends Machine<Message, Event>,
  Message extends { readonly tag: string },
  Event,
  Settings,
  Command,
  Notice,
>(
  channel: WorkerSide<DataPlaneCommand<Command>, DataPlaneNotice<Notice>>,
  start: DataPlaneStart<Settings>,
  program: DataPlaneProgram<M, Message, Event, Settings, Command, Notice>,
): void {
  setUpProgramLogging({
    program: start.program,
    filter: start.logFilter,
    format: start.logFormat,
    directory: start.logDirectory,
    follow: true,
  });
  const log = logger("data-plane");
  let aead: AeadBackend;
  let tun: TunDevice;
  try {
    aead = selectAead(start.crypto);
    tun = TunDevice.open(start.interfaceName);
  } catch (error) {
    if (!(error instanceof OsError || error instanceof AeadError)) throw error;
    return channel.post({ tag: "refused", reason: error.message });
  }
  const { cipherMemory } = start;
  const pool = cipherMemory && new CipherPool(new CipherMemory(cipherMemory), aead);
  const machine = program.make({
    privateKey: systemRandom(KEY_LENGTH),
    aead: pool ?? aead,
    random: systemRandom,
    unixMillisAtZero: unixMillisAtZero(),
  }, start.settings);
  const inspector = PacketInspector.make(start.inspection);
  const plane = new DataPlane({
    state: machine,
    tun,
    pool,
    controlFd: channel.fd,
    onControl: (now) => {
      if (channel.receiveAll((command) => onCommand(now, command))) return;
      machine.shutDown(now);
      plane.stop();
    },
    onTurn: (now) => {
      passEventsOn();
      inspector?.handleTurn(now);
    },
    inspector,
  });
  log.info("Data plane is running", {
    interface: tun.name,
    aead: aead.name,
    threads: 1 + (pool?.threads ?? 0),
    ports: plane.ports,
  });
  channel.post({
    tag: "ready",
    interfaceName: tun.name,
    publicKey: base64(machine.publicKey),
  });
  plane.run();
  inspector?.close(monotonicNow());
  tun.close();

  function passEventsOn(): void {
    for (let event; (event = machine.pollEvent()) !== undefined;) {
      const notice = program.toNotice(event);
      if (notice) channel.post(notice);
    }
  }

  function onCommand(now: Millis, command: DataPlaneCommand<Command>): void {
    switch (command.tag) {
      case "portal-message":
        return onPortalMessage(now, command.event, command.payload);
      case "reset":
        machine.reset(now, systemRandom(KEY_LENGTH));
        plane.rebind();
        log.info("Data plane was reset", { ports: plane.ports });
        return channel.post({ tag: "public-key", publicKey: base64(machine.publicKey) });
      case "status":
        // What it tells of must be in force by then: addresses set, routes there.
        passEventsOn();
        return channel.post({ tag: "status", id: command.id, status: machine.status(now) });
      case "program": {
        const notice = program.handleCommand(now, machine, command.command);
        if (notice !== undefined) channel.post({ tag: "program", notice });
      }
    }
  }

  function onPortalMessage(now: Millis, event: string, payload: unknown): void {
    const message = program.parse(event, payload);
    if (isUnknown(message)) log.debug("Ignored a message of the portal", { event });
    else if (isMalformed(message)) {
      log.warn("Cannot read a message of the portal", { event, reason: message.reason });
    } else machine.handlePortalMessage(now, message);
  }
}

function isUnknown(message: { readonly tag: string }): message is UnknownMessage {
  return message.tag === "unknown";
}

function isMalformed(message: { readonly tag: string }): message is MalformedMessage {
  return message.tag === "malformed";
}
