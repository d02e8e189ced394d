/**
 * The relay's sockets: one per family for clients, one per family and allocation for peers.
 *
 *     ┌► epoll_wait, until the server's deadline
 *     │    control ─────────► commands from the main thread
 *     │    listen sockets ──► handleClientInput ─┬─► send batch ──► one sendmsg per run of datagrams
 *     │    allocations ─────► handlePeerInput ───┘
 *     └─── sockets to open and close, answers, flush
 *
 * A busy socket gets a few reads per turn and then lets the others have theirs.
 * Owns: sockets, buffers, `now`. Does not own: what is relayed, see `server.ts`.
 * Cost: a copy of the payload per packet; system calls are shared by the packets of a burst.
 * @module
 */

import { type Family, type IpAddress, SocketAddress, SocketAddressCache } from "@firezone/core/ip";
import { Epoll, type Fd, OsError, ReceiveSlots, UdpSocket } from "@firezone/core/os/linux";
import {
  type DatagramSink,
  monotonicNow,
  SendBatch,
  SinkResult,
  wallClockNow,
} from "@firezone/core/runtime";
import { type Logger, logger } from "@firezone/core/telemetry";
import { CHANNEL_DATA_HEADER_LENGTH, writeChannelDataHeader } from "@firezone/core/turn";
import type { Millis } from "@firezone/core/units";
import { Forwarding } from "./forwarding.ts";
import type { RelayCommand, RelayServer } from "./server.ts";

/** What a {@link RelayLoop} is made of. */
export interface RelayLoopOptions {
  /** The machine. */
  readonly server: RelayServer;
  /** Address to bind to in each family that is served. */
  readonly bind: ReadonlyMap<Family, IpAddress>;
  /**
   * Address to send from, where the sockets are bound to all of them: a machine with several must
   * not answer from another one than it was asked at. Left out, the kernel chooses by route.
   */
  readonly sendFrom: ReadonlyMap<Family, IpAddress>;
  /** Port for clients. */
  readonly listenPort: number;
  /** Readable when {@link onControl} has something to do. */
  readonly controlFd: Fd;
  /** Takes commands of the main thread. */
  readonly onControl: () => void;
  /** Called after every turn; `isExhausted`: a socket may have more than it was given time for. */
  readonly onTurn: (now: Millis, isExhausted: boolean) => void;
}

/** The sockets of an allocation. */
interface AllocationSockets {
  readonly id: number;
  /** Names these sockets in the send batch. */
  readonly source: SocketAddress;
  readonly byFamily: ReadonlyMap<Family, UdpSocket>;
}

const CONTROL_TOKEN = 0xffffffff;
/** Added to the port for IPv6; port 0 stands for the listen socket. */
const IPV6_TOKEN = 0x10000;
const READS_PER_TURN = 4;
/** Messages per read; with GRO each may be dozens of datagrams. */
const SLOTS = 16;
const LISTEN_BUFFER = 16 << 20;
const ALLOCATION_BUFFER = 2 << 20;
/** While a socket is full, it is tried again so often. */
const RETRY_MS = 1;

/** See the head of this file. */
export class RelayLoop implements DatagramSink {
  /** Bytes of the last send that need not be offered again. */
  accepted = 0;

  readonly #options: RelayLoopOptions;
  readonly #server: RelayServer;
  readonly #log: Logger = logger("relay");
  readonly #epoll = new Epoll(256);
  readonly #slots = new ReceiveSlots(SLOTS);
  readonly #addresses = new SocketAddressCache();
  readonly #batch: SendBatch;
  readonly #forwarding = new Forwarding();
  readonly #listen = new Map<Family, UdpSocket>();
  readonly #allocations = new Map<number, AllocationSockets>();
  readonly #sendFrom = new Map<Family, SocketAddress>();
  #running = false;
  #isExhausted = false;

  /** Opens the listen sockets. @throws OsError when one cannot be opened */
  constructor(options: RelayLoopOptions) {
    this.#options = options;
    this.#server = options.server;
    this.#batch = new SendBatch(this, { lanes: 16 });
    for (const [family, address] of options.sendFrom) {
      this.#sendFrom.set(family, new SocketAddress(address, options.listenPort));
    }
    this.#epoll.add(options.controlFd, CONTROL_TOKEN, { readable: true });
    try {
      for (const family of options.bind.keys()) {
        const socket = this.#open(family, options.listenPort, LISTEN_BUFFER);
        this.#listen.set(family, socket);
        this.#epoll.add(socket.fd, tokenOf(family, 0), { readable: true });
      }
    } catch (error) {
      this.#closeAll();
      throw error;
    }
  }

  /** Runs until {@link stop}, blocking this thread. */
  run(): void {
    this.#running = true;
    while (this.#running) {
      const events = this.#epoll.wait(this.#waitMs());
      const now = monotonicNow();
      this.#isExhausted = false;
      for (let i = 0; i < events; i++) this.#onReadable(now, this.#epoll.token(i));
      if (this.#server.pollTimeout() <= now) this.#server.handleTimeout(now);
      this.#settle(now);
      this.#options.onTurn(now, this.#isExhausted);
    }
    this.#closeAll();
  }

  /** Ends {@link run} after the present turn. */
  stop(): void {
    this.#running = false;
  }

  /** Sends a run of datagrams; `source` names an allocation, none the listen socket. */
  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): SinkResult {
    const sockets = source === undefined
      ? this.#listen
      : this.#allocations.get(source.port)?.byFamily;
    const socket = sockets?.get(destination.family);
    // The allocation has ended while its datagrams waited.
    if (socket === undefined) return SinkResult.Refused;
    const from = this.#sendFrom.get(destination.family);
    const result = socket.send(from, destination, buf, start, length, segmentSize, ecn);
    this.accepted = socket.accepted;
    return result;
  }

  #waitMs(): number {
    const wait = Math.max(0, this.#server.pollTimeout() - monotonicNow());
    return this.#batch.isBlocked ? Math.min(wait, RETRY_MS) : wait;
  }

  #onReadable(now: Millis, token: number): void {
    if (token === CONTROL_TOKEN) return this.#options.onControl();
    const family = (token & IPV6_TOKEN) === 0 ? 4 : 6;
    const port = token & 0xffff;
    const sockets = port === 0 ? this.#listen : this.#allocations.get(port)?.byFamily;
    const socket = sockets?.get(family);
    // It was closed earlier in this turn.
    if (socket === undefined) return;
    for (let i = 0; i < READS_PER_TURN; i++) {
      const messages = socket.receive();
      if (messages === 0) return;
      for (let m = 0; m < messages; m++) {
        if (port === 0) this.#fromClient(now, socket, m);
        else this.#fromPeer(now, socket, m, port);
      }
      this.#settle(now);
    }
    this.#isExhausted = true;
  }

  #fromClient(now: Millis, socket: UdpSocket, message: number): void {
    const server = this.#server;
    const wall = wallClockNow();
    const client = socket.from(message);
    const ecn = socket.ecn(message);
    const step = socket.segmentSize(message);
    const end = socket.start(message) + socket.length(message);
    for (let at = socket.start(message); at < end; at += step) {
      const until = Math.min(at + step, end);
      const { buffer } = socket;
      if (server.handleClientInput(now, wall, client, buffer, at, until, this.#forwarding)) {
        this.#forward(buffer, ecn);
      }
    }
  }

  #fromPeer(now: Millis, socket: UdpSocket, message: number, port: number): void {
    const server = this.#server;
    const peer = socket.from(message);
    const ecn = socket.ecn(message);
    const step = socket.segmentSize(message);
    const end = socket.start(message) + socket.length(message);
    for (let at = socket.start(message); at < end; at += step) {
      const until = Math.min(at + step, end);
      if (server.handlePeerInput(now, peer, port, at, until, this.#forwarding)) {
        this.#forward(socket.buffer, ecn);
      }
    }
  }

  /** Copies a payload into the batch. A payload without bytes is lost: there is nothing to gather. */
  #forward(buf: Uint8Array, ecn: number): void {
    const to = this.#forwarding;
    const batch = this.#batch;
    const length = to.end - to.start;
    if (to.direction === "peer") {
      const source = this.#allocations.get(to.allocationPort)?.source;
      if (source === undefined) return;
      const at = batch.reserve(source, to.destination, length, ecn);
      batch.buffer.set(buf.subarray(to.start, to.end), at);
      return batch.commit(length);
    }
    const framed = CHANNEL_DATA_HEADER_LENGTH + length;
    if (framed > MAX_DATAGRAM) return;
    const at = batch.reserve(undefined, to.destination, framed, ecn);
    const dataAt = writeChannelDataHeader(batch.buffer, at, to.channel, length);
    batch.buffer.set(buf.subarray(to.start, to.end), dataAt);
    batch.commit(framed);
  }

  /** Opens and closes sockets, sends answers, lets the batch go. */
  #settle(now: Millis): void {
    const server = this.#server;
    for (let command; (command = server.pollCommand()) !== undefined;) {
      if (command.tag === "create-allocation") this.#create(now, command);
      else this.#free(command.id, command.port);
    }
    for (let transmit; (transmit = server.pollTransmit()) !== undefined;) {
      this.#batch.transmit(transmit);
    }
    this.#batch.flush();
  }

  #create(now: Millis, command: RelayCommand): void {
    const { id, port, families } = command;
    const byFamily = new Map<Family, UdpSocket>();
    try {
      for (const family of families) {
        const socket = this.#open(family, port, ALLOCATION_BUFFER);
        byFamily.set(family, socket);
        this.#epoll.add(socket.fd, tokenOf(family, port), { readable: true });
      }
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      for (const socket of byFamily.values()) socket.close();
      this.#log.warn("Cannot open an allocation's port", { port, reason: error.message });
      return this.#server.handleAllocationFailed(now, id);
    }
    const source = byFamily.values().next().value!.bound;
    this.#allocations.set(port, { id, source, byFamily });
    this.#server.handleAllocationCreated(now, id);
  }

  #free(id: number, port: number): void {
    const sockets = this.#allocations.get(port);
    // It was given up before it was opened.
    if (sockets?.id !== id) return;
    // What the last turns have collected still goes out.
    this.#batch.flush();
    this.#allocations.delete(port);
    // The kernel takes closed descriptors out of the interest list.
    for (const socket of sockets.byFamily.values()) socket.close();
  }

  #open(family: Family, port: number, bufferSize: number): UdpSocket {
    return UdpSocket.open({
      family,
      address: this.#options.bind.get(family)!,
      port,
      receiveBuffer: bufferSize,
      sendBuffer: bufferSize,
      slots: this.#slots,
      addresses: this.#addresses,
    });
  }

  #closeAll(): void {
    for (const { byFamily } of this.#allocations.values()) {
      for (const socket of byFamily.values()) socket.close();
    }
    for (const socket of this.#listen.values()) socket.close();
    this.#epoll.close();
  }
}

/** The largest datagram that a batch takes. */
const MAX_DATAGRAM = 65_507;

function tokenOf(family: Family, port: number): number {
  return family === 4 ? port : port | IPV6_TOKEN;
}
