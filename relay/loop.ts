/**
 * The loop of a relay's worker: waits for datagrams, has them judged, sends what follows from them.
 *
 *     ┌► epoll_wait, until the server's deadline
 *     │    control ─────────► orders of the main thread
 *     │    listen sockets ──► handleClientInput ─┬─► forward batch ──► one sendmsg per run of datagrams
 *     │    allocations ─────► handlePeerInput ───┤
 *     │    siblings ────────► handlePeerInput ───┴─► pipes to siblings, one write per burst
 *     └─── sockets to open and close, answers
 *
 * Fairness: a socket gets one read and then lets the others have theirs; a turn ends after so many
 * datagrams, even if sockets that are ready had no read yet. They are the first of the next turn, but
 * for the listen sockets, which are read in every turn, because all clients share them.
 *
 * With siblings the listen port is shared (SO_REUSEPORT): the kernel chooses a worker by a hash over
 * both addresses and ports, so that a client stays with its worker as long as its own address does
 * and the set of sockets is complete. So nobody is served before {@link RelayLoop.serve}.
 *
 * Owns: `now`, and whose turn it is. Does not own: what is relayed, see `server.ts`; sockets, see
 * `sockets.ts`.
 * Cost: payloads are not copied; system calls are shared by the packets of a burst.
 * @module
 */

import type { Family, IpAddress, SocketAddress } from "@firezone/core/ip";
import { Epoll, type Fd, OsError, type UdpSocket } from "@firezone/core/os/linux";
import { monotonicNow, wallClockNow } from "@firezone/core/runtime";
import { type Logger, logger } from "@firezone/core/telemetry";
import { CHANNEL_DATA_HEADER_LENGTH } from "@firezone/core/turn";
import { after, type Millis, type UnixSeconds } from "@firezone/core/units";
import type { RelayCommand } from "./allocator.ts";
import { ForwardBatch } from "./forward_batch.ts";
import { Forwarding } from "./forwarding.ts";
import type { LoopDrops } from "./report.ts";
import { RequestLog } from "./request_log.ts";
import type { RelayServer } from "./server.ts";
import {
  portOf,
  type RelaySocket,
  RelaySockets,
  type RelaySocketsOptions,
  SLOTS,
} from "./sockets.ts";
import type { WorkerMailbox } from "./worker_mailbox.ts";

/** What a {@link RelayLoop} is made of. */
export interface RelayLoopOptions extends RelaySocketsOptions {
  /** The machine. */
  readonly server: RelayServer;
  /** Where peers reach allocations. */
  readonly publicAddresses: ReadonlyMap<Family, IpAddress>;
  /** Readable when {@link onControl} has something to do. */
  readonly controlFd: Fd;
  /** Takes commands of the main thread. */
  readonly onControl: () => void;
  /** The way to the other workers of this relay; undefined: there are none. */
  readonly siblings: WorkerMailbox | undefined;
  /** An allocation's sockets are open. */
  readonly onAllocated: (allocation: RelayCommand) => void;
  /** An allocation's sockets are closed. */
  readonly onEnded: (allocation: RelayCommand) => void;
  /** Called after every turn; `isExhausted`: a socket may have more than it was given time for. */
  readonly onTurn: (durationMs: number, isExhausted: boolean) => void;
}

const CONTROL_TOKEN = 0xffffffff;
const SIBLINGS_TOKEN = 0xfffffffe;
/** Packets of siblings per turn, each of which holds many. */
const SIBLING_READS = 4;
/** Datagrams after which a turn ends: some five milliseconds. */
const TURN_DATAGRAMS = 2048;
/** While a socket is full, it is tried again so often. */
const RETRY_MS = 1;
/** How old the time of the wall clock may be. */
const WALL_CLOCK_MS = 100;
/** Ports that cannot be opened are news so often. */
const COMPLAINT_INTERVAL_MS = 60_000;

/** See the head of this file. */
export class RelayLoop {
  readonly #options: RelayLoopOptions;
  readonly #server: RelayServer;
  readonly #log: Logger = logger("relay");
  readonly #requestLog = new RequestLog();
  readonly #epoll = new Epoll(256);
  readonly #sockets: RelaySockets;
  readonly #batch: ForwardBatch;
  readonly #forwarding = new Forwarding();
  readonly #siblings: WorkerMailbox | undefined;
  readonly #siblingBatch: ForwardBatch | undefined;
  #running = false;
  /** Sockets that are ready, in the epoll instance, and the first that had no read yet. */
  #events = 0;
  #nextEvent = 0;
  #wall = 0 as UnixSeconds;
  #readWallAt = 0 as Millis;
  /** When the last turn was over. */
  #endedAt = 0 as Millis;
  /** Datagrams that this turn may still take. */
  #left = 0;
  #isExhausted = false;
  #complainAt = 0 as Millis;
  #oversized = 0;

  /** Opens the listen sockets, on which nobody is served yet. @throws OsError when one cannot be opened */
  constructor(options: RelayLoopOptions) {
    this.#options = options;
    this.#server = options.server;
    this.#sockets = new RelaySockets(this.#epoll, options);
    this.#batch = new ForwardBatch(this.#sockets.buffer);
    this.#siblings = options.siblings;
    this.#siblingBatch = options.siblings && new ForwardBatch(options.siblings.buffer);
    this.#epoll.add(options.controlFd, CONTROL_TOKEN, { readable: true });
    try {
      this.#sockets.openListen(options.siblings !== undefined);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Begins to serve; call it when all siblings have opened their sockets.
   *
   * Until then the kernel has spread senders over those sockets that there were: what waits may be
   * meant for another worker from now on, so it is thrown away and will be sent again.
   */
  serve(): void {
    this.#sockets.watchListen(this.#siblings !== undefined);
    if (this.#siblings) this.#epoll.add(this.#siblings.fd, SIBLINGS_TOKEN, { readable: true });
  }

  /** Runs until {@link stop}, blocking this thread, and closes everything. */
  run(): void {
    this.#running = true;
    while (this.#running) this.turn();
    this.close();
  }

  /** One turn: waits until something happens, unless the last one left work. */
  turn(): void {
    const isRoundOver = this.#nextEvent >= this.#events;
    if (isRoundOver) {
      this.#events = this.#epoll.wait(this.#waitMs());
      this.#nextEvent = 0;
    }
    const now = monotonicNow();
    this.#readWallClock(now);
    this.#left = TURN_DATAGRAMS;
    this.#isExhausted = false;
    if (!isRoundOver) { for (const socket of this.#sockets.listening) this.#read(now, socket, 0); }
    while (this.#nextEvent < this.#events && this.#left > 0) {
      this.#onReadable(now, this.#epoll.token(this.#nextEvent++));
    }
    if (this.#server.pollTimeout() <= now) this.#server.handleTimeout(now);
    this.#settle(now);
    this.#endedAt = monotonicNow();
    const isExhausted = this.#isExhausted || this.#nextEvent < this.#events;
    this.#options.onTurn(this.#endedAt - now, isExhausted);
  }

  /** Ends {@link run} after the present turn. */
  stop(): void {
    this.#running = false;
  }

  /** What it has dropped so far. */
  get drops(): LoopDrops {
    const { refused, queueFull } = this.#sockets.senders.counters;
    const workerBusy = this.#siblings?.lost ?? 0;
    return { oversized: this.#oversized, refused, queueFull, workerBusy };
  }

  /** Credentials expire by the second, so the clock need not be read in every turn. */
  #readWallClock(now: Millis): void {
    if (now < this.#readWallAt) return;
    this.#readWallAt = after(now, WALL_CLOCK_MS);
    this.#wall = wallClockNow();
  }

  #waitMs(): number {
    const wait = Math.max(0, this.#server.pollTimeout() - this.#endedAt);
    return this.#sockets.senders.isBlocked ? Math.min(wait, RETRY_MS) : wait;
  }

  #onReadable(now: Millis, token: number): void {
    if (token === CONTROL_TOKEN) return this.#options.onControl();
    if (token === SIBLINGS_TOKEN) return this.#readSiblings(now);
    const socket = this.#sockets.byToken(token);
    // Otherwise it was closed earlier in this turn.
    if (socket !== undefined) this.#read(now, socket, portOf(token));
  }

  #read(now: Millis, { udp }: RelaySocket, port: number): void {
    const messages = udp.receive();
    if (port === 0) this.#server.noteBacklog(messages === SLOTS);
    for (let m = 0; m < messages; m++) {
      if (port === 0) this.#fromClient(now, udp, m);
      else this.#fromPeer(now, udp, m, port);
    }
    if (messages > 0) this.#settle(now);
    if (messages === SLOTS) this.#isExhausted = true;
  }

  #fromClient(now: Millis, socket: UdpSocket, message: number): void {
    const server = this.#server;
    const { buffer } = socket;
    let client: SocketAddress | undefined;
    const ecn = socket.ecn(message);
    const step = socket.segmentSize(message);
    const end = socket.start(message) + socket.length(message);
    for (let at = socket.start(message); at < end; at += step) {
      const until = Math.min(at + step, end);
      this.#left--;
      if (!server.concerns(buffer, at, until)) {
        server.counters.malformed++;
        continue;
      }
      client ??= socket.from(message);
      if (server.handleClientInput(now, this.#wall, client, buffer, at, until, this.#forwarding)) {
        this.#forward(this.#batch, buffer, ecn);
      }
    }
  }

  #fromPeer(now: Millis, socket: UdpSocket, message: number, port: number): void {
    const server = this.#server;
    const peer = socket.from(message);
    const ecn = socket.ecn(message);
    const step = socket.segmentSize(message);
    let at = socket.start(message);
    const end = at + socket.length(message);
    // A datagram without bytes is one nevertheless.
    do {
      const until = Math.min(at + step, end);
      this.#left--;
      if (server.handlePeerInput(now, peer, port, at, until, this.#forwarding)) {
        this.#forward(this.#batch, socket.buffer, ecn);
      }
      at += step;
    } while (at < end);
  }

  #readSiblings(now: Millis): void {
    const mailbox = this.#siblings!;
    for (let i = 0; i < SIBLING_READS && mailbox.receive(); i++) {
      while (mailbox.next()) {
        const { family, peerPort, port, start, end } = mailbox;
        const { bytes } = this.#options.publicAddresses.get(family)!;
        const peer = this.#sockets.addresses.get(family, bytes, 0, peerPort);
        this.#left--;
        if (this.#server.handlePeerInput(now, peer, port, start, end, this.#forwarding)) {
          this.#forward(this.#siblingBatch!, mailbox.buffer, mailbox.ecn);
        }
      }
      this.#settle(now);
    }
  }

  /** Sends application data on. @param batch that of `buf` */
  #forward(batch: ForwardBatch, buf: Uint8Array, ecn: number): void {
    const { direction, destination, start, end, allocationPort, channel } = this.#forwarding;
    const { family } = destination;
    if (direction === "client") {
      if (CHANNEL_DATA_HEADER_LENGTH + end - start > MAX_DATAGRAM) this.#oversized++;
      else {
        const { sender } = this.#sockets.listen(family)!;
        batch.addFramed(sender, destination, ecn, channel, start, end);
      }
      return;
    }
    if (direction === "sibling") {
      const { port } = destination;
      this.#siblings?.put(port, allocationPort, family, ecn, buf, start, end);
      return;
    }
    const socket = this.#sockets.allocation(allocationPort, family);
    if (socket !== undefined) batch.add(socket.sender, destination, ecn, start, end);
  }

  /** Lets go what was collected, opens and closes sockets, sends answers. */
  #settle(now: Millis): void {
    const server = this.#server;
    this.#sockets.senders.retry();
    this.#batch.flush();
    this.#siblingBatch?.flush();
    this.#siblings?.flush();
    for (let command; (command = server.pollCommand()) !== undefined;) {
      this.#requestLog.noteCommand(command);
      if (command.tag === "create-allocation") this.#create(now, command);
      else if (this.#sockets.closeAllocation(command)) this.#options.onEnded(command);
    }
    for (let transmit; (transmit = server.pollTransmit()) !== undefined;) {
      this.#requestLog.noteAnswer(transmit);
      const { destination, payload } = transmit;
      this.#sockets.listen(destination.family)?.sender.send(destination, payload);
    }
  }

  #create(now: Millis, command: RelayCommand): void {
    try {
      this.#sockets.openAllocation(command);
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.#complain(now, command.port, error);
      return this.#server.handleAllocationFailed(now, command.id);
    }
    this.#server.handleAllocationCreated(now, command.id);
    this.#options.onAllocated(command);
  }

  /** Many clients may meet the same trouble, such as too few descriptors, again and again. */
  #complain(now: Millis, port: number, error: OsError): void {
    if (now < this.#complainAt || !this.#log.isEnabled("warn")) return;
    this.#complainAt = after(now, COMPLAINT_INTERVAL_MS);
    this.#log.warn("Cannot open an allocation's port", { port, reason: error.message });
  }

  /** Closes all sockets. */
  close(): void {
    this.#sockets.close();
    this.#epoll.close();
  }
}

/** The largest datagram that IPv4 can carry. */
const MAX_DATAGRAM = 65_507;
