/**
 * The loop of a data-plane worker: blocks in epoll, turns what is readable into inputs of a state
 * machine, and its outputs into system calls.
 *
 *     ┌► epoll_wait, until the machine's deadline
 *     │    control ──► commands from the main thread
 *     │    TUN     ──► cut into packets ──► handleTunPacket ──► send batch ──► one sendmsg per burst
 *     │    UDP     ──► split by segment ──► handleDatagram ──► coalescer ──► one write per flow
 *     │    what is due ──► handleTimeout
 *     └─── transmits, packets of the machine's own, then whatever the owner does after a turn
 *
 * A busy descriptor gets a few reads per turn and then lets the others have theirs.
 * Owns: sockets, buffers, `now`. Does not own: the TUN descriptor, which the main thread opened.
 * @module
 */

import {
  applyOuterEcn,
  Coalescer,
  ECN,
  type Family,
  packetMemory,
  Segmenter,
  type SocketAddress,
} from "../ip/mod.ts";
import {
  Epoll,
  Errno,
  type Fd,
  OsError,
  type ReceiveSlots,
  TUN_READ_SIZE,
  type TunDevice,
  UdpSocket,
} from "../os/linux/mod.ts";
import type { DatagramBatch, InboundPackets, Transmit } from "../transmit.ts";
import type { Millis } from "../units.ts";
import type { CipherPool } from "./cipher/cipher_pool.ts";
import { monotonicNow } from "./clock.ts";
import type { PacketInspector } from "./packet_inspector.ts";
import { type DatagramSink, SendBatch, SinkResult } from "./send_batch.ts";
import { TunWriter } from "./tun_writer.ts";

/** What a data plane drives; see the sans-IO contract in `docs/ARCHITECTURE.md`. */
export interface DataPlaneState {
  /** Takes the packet `buf[start, end)` from TUN; datagrams go into `batch`. */
  handleTunPacket(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    batch: DatagramBatch,
  ): void;
  /** Takes the datagram `buf[start, end)`; what is inside for this host goes to `packets`. */
  handleDatagram(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    packets: InboundPackets,
  ): void;
  /** Does what is due. */
  handleTimeout(now: Millis): void;
  /** The earliest deadline. */
  pollTimeout(): Millis;
  /** The next datagram of the control path. */
  pollTransmit(): Transmit | undefined;
  /** The next packet of the machine's own making for TUN. */
  pollPacket(): Uint8Array | undefined;
}

/** The mark on our own datagrams, by which the routing rule keeps them out of the tunnel. */
export const FIREZONE_MARK = 0xfd002021;

/** The port that is tried first, so that it can be forwarded: 49152 + 3473. */
export const PREFERRED_PORT = 52_625;

/** What a {@link DataPlane} is made of. */
export interface DataPlaneOptions {
  /** The machine. */
  readonly state: DataPlaneState;
  /** The device. */
  readonly tun: TunDevice;
  /** Readable when {@link onControl} has something to do. */
  readonly controlFd: Fd;
  /** Takes commands of the main thread. */
  readonly onControl: (now: Millis) => void;
  /** Called after every turn, to pass the machine's events on. */
  readonly onTurn: (now: Millis) => void;
  /** Looks at each packet inside the tunnel, before anything is done to it. */
  readonly inspector?: PacketInspector | undefined;
  /** Other threads that help; the machine's AEAD then. */
  readonly pool?: CipherPool | undefined;
}

const TOKEN = { control: 0, tun: 1, udp4: 2, udp6: 3 } as const;

/** After so many packets of one descriptor the others have their turn: about a millisecond. */
const PACKETS_PER_TURN = 400;
const RECEIVE_BUFFER = 16 << 20;
const SEND_BUFFER = 2 << 20;
/** The largest packet that a read can be cut into, or be when it is not cut. */
const PACKET_BUFFER = 65_536;
/** While a socket or TUN is full, it is tried again so often, whether or not epoll says that it is not. */
const RETRY_MS = 1;

/** See the head of this file. */
export class DataPlane implements DatagramSink, InboundPackets {
  readonly #options: DataPlaneOptions;
  readonly #inspector: PacketInspector | undefined;
  readonly #epoll = new Epoll();
  readonly #batch: SendBatch;
  readonly #segmenter = new Segmenter();
  readonly #coalescer: Coalescer;
  readonly #tunWriter: TunWriter;
  readonly #read = packetMemory(TUN_READ_SIZE);
  readonly #packet = packetMemory(PACKET_BUFFER);
  /** Bytes of the last send that need not be offered again. */
  accepted = 0;
  #udp4: UdpSocket | undefined;
  #udp6: UdpSocket | undefined;
  #running = false;
  /** ECN field of the datagram at hand; 0 while there is none. */
  #outerEcn = 0;

  /** Opens the sockets. @throws OsError when no family can be bound */
  constructor(options: DataPlaneOptions) {
    this.#options = options;
    this.#inspector = options.inspector;
    this.#batch = new SendBatch(this, { sender: options.pool });
    this.#coalescer = new Coalescer({
      udp: options.tun.udpSegmentation,
      allocate: packetMemory,
    });
    this.#tunWriter = new TunWriter(options.tun);
    this.#epoll.add(options.controlFd, TOKEN.control, { readable: true });
    this.#epoll.add(options.tun.fd, TOKEN.tun, { readable: true });
    this.#openSockets(PREFERRED_PORT);
  }

  /** The UDP ports in use, for logs. */
  get ports(): { readonly v4?: number; readonly v6?: number } {
    return {
      ...this.#udp4 && { v4: this.#udp4.localPort },
      ...this.#udp6 && { v6: this.#udp6.localPort },
    };
  }

  /** Binds other ports: relays know an allocation by its client's address. */
  rebind(): void {
    this.#closeSockets();
    this.#openSockets(0);
  }

  /** Runs until {@link stop}, blocking this thread. */
  run(): void {
    const { state } = this.#options;
    this.#running = true;
    while (this.#running) {
      const events = this.#epoll.wait(this.#waitMs());
      const now = monotonicNow();
      for (let i = 0; i < events; i++) this.#onReadable(now, this.#epoll.token(i));
      if (state.pollTimeout() <= now) state.handleTimeout(now);
      this.#settle(now);
    }
    this.#closeSockets();
    this.#epoll.close();
  }

  /** Ends {@link run} after the present turn. */
  stop(): void {
    this.#running = false;
  }

  /** Takes a packet that came out of the tunnel. */
  push(buf: Uint8Array, start: number, end: number): void {
    this.#inspector?.fromTunnel(buf, start, end);
    if (this.#outerEcn !== ECN.notCapable) applyOuterEcn(buf, start, this.#outerEcn);
    if (this.#coalescer.push(buf, start, end)) return;
    this.#coalescer.flush(this.#tunWriter);
    this.#coalescer.push(buf, start, end);
  }

  /** Sends a batch; see {@link DatagramSink}. */
  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): SinkResult {
    const socket = destination.family === 4 ? this.#udp4 : this.#udp6;
    // Without a socket of that family the peer is as good as unreachable: ICE finds out.
    if (!socket) return SinkResult.Refused;
    const result = socket.send(source, destination, buf, start, length, segmentSize, ecn);
    this.accepted = socket.accepted;
    return result;
  }

  #waitMs(): number {
    const wait = Math.max(0, this.#options.state.pollTimeout() - monotonicNow());
    const isBlocked = this.#batch.isBlocked || this.#tunWriter.isBlocked;
    return isBlocked ? Math.min(wait, RETRY_MS) : wait;
  }

  #onReadable(now: Millis, token: number): void {
    switch (token) {
      case TOKEN.control:
        return this.#options.onControl(now);
      case TOKEN.tun:
        return this.#readTun(now);
      case TOKEN.udp4:
        return this.#receive(now, this.#udp4);
      case TOKEN.udp6:
        return this.#receive(now, this.#udp6);
    }
  }

  #readTun(now: Millis): void {
    const { state, tun } = this.#options;
    const packet = this.#packet;
    // Packets that waited for a session may be among them, and must not be overtaken.
    this.#takeTransmits();
    for (let packets = 0; packets < PACKETS_PER_TURN;) {
      const length = tun.read(this.#read);
      if (length <= 0) break;
      packets += Math.max(1, this.#segmenter.begin(this.#read, 0, length));
      for (let n; (n = this.#segmenter.next(packet, 0)) > 0;) {
        this.#inspector?.intoTunnel(now, packet, 0, n);
        state.handleTunPacket(now, packet, 0, n, this.#batch);
      }
    }
  }

  #receive(now: Millis, socket: UdpSocket | undefined): void {
    if (!socket) return;
    const { pool } = this.#options;
    if (pool) this.#receiveWith(pool, now, socket);
    else {
      for (let packets = 0; packets < PACKETS_PER_TURN;) {
        const messages = socket.receive();
        if (messages <= 0) break;
        packets += this.#takeMessages(now, socket, messages);
      }
    }
    this.#outerEcn = ECN.notCapable;
    this.#coalescer.flush(this.#tunWriter);
  }

  /** Receives into one set of slots while the pool's threads open what came into the other. */
  #receiveWith(pool: CipherPool, now: Millis, socket: UdpSocket): void {
    let [filling, opening] = pool.slots;
    let beingOpened = 0;
    for (let packets = 0; packets < PACKETS_PER_TURN || beingOpened > 0;) {
      socket.use(filling);
      const messages = packets < PACKETS_PER_TURN ? socket.receive() : 0;
      const isOpening = messages > 0 && pool.beginOpening(filling, socket, messages);
      if (beingOpened > 0) {
        pool.finishOpening(opening);
        socket.use(opening);
        packets += this.#takeMessages(now, socket, beingOpened);
        pool.endOpening();
        beingOpened = 0;
      }
      if (isOpening) {
        beingOpened = messages;
        [filling, opening] = [opening, filling];
      } else if (messages > 0) {
        socket.use(filling);
        packets += this.#takeMessages(now, socket, messages);
      } else break;
    }
  }

  /** Hands what was received to the machine. @returns how many datagrams that were */
  #takeMessages(now: Millis, socket: UdpSocket, messages: number): number {
    const { state } = this.#options;
    const buf = socket.buffer;
    let packets = 0;
    for (let m = 0; m < messages; m++) {
      const end = socket.start(m) + socket.length(m);
      const step = socket.segmentSize(m);
      const local = socket.local(m);
      const from = socket.from(m);
      this.#outerEcn = socket.ecn(m);
      packets += Math.ceil(socket.length(m) / step);
      for (let at = socket.start(m); at < end; at += step) {
        state.handleDatagram(now, local, from, buf, at, Math.min(at + step, end), this);
      }
    }
    return packets;
  }

  /** Puts out everything that the turn has produced. */
  #settle(now: Millis): void {
    const { state, onTurn } = this.#options;
    if (this.#tunWriter.isBlocked) this.#tunWriter.retry();
    onTurn(now);
    this.#takeTransmits();
    for (let packet; (packet = state.pollPacket()) !== undefined;) {
      this.push(packet, 0, packet.length);
    }
    if (!this.#coalescer.isEmpty) this.#coalescer.flush(this.#tunWriter);
    this.#batch.flush();
  }

  #takeTransmits(): void {
    const { state } = this.#options;
    for (let transmit; (transmit = state.pollTransmit()) !== undefined;) {
      this.#batch.transmit(transmit);
    }
  }

  #openSockets(port: number): void {
    let failure: unknown;
    for (const family of [4, 6] as const) {
      try {
        const socket = openSocket(family, port, this.#options.pool?.slots[0]);
        if (family === 4) this.#udp4 = socket;
        else this.#udp6 = socket;
        this.#epoll.add(socket.fd, family === 4 ? TOKEN.udp4 : TOKEN.udp6, { readable: true });
      } catch (error) {
        // A host without one family still has the other.
        failure = error;
      }
    }
    if (!this.#udp4 && !this.#udp6) throw failure;
    this.#options.pool?.setSockets(this.#udp4?.fd, this.#udp6?.fd);
  }

  #closeSockets(): void {
    this.#options.pool?.setSockets(undefined, undefined);
    for (const socket of [this.#udp4, this.#udp6]) {
      if (!socket) continue;
      this.#epoll.remove(socket.fd);
      socket.close();
    }
    this.#udp4 = this.#udp6 = undefined;
  }
}

/** Opens the port, or any other when it is taken. */
function openSocket(family: Family, port: number, slots: ReceiveSlots | undefined): UdpSocket {
  const options = {
    ...slots && { slots },
    family,
    mark: FIREZONE_MARK,
    receiveBuffer: RECEIVE_BUFFER,
    sendBuffer: SEND_BUFFER,
  };
  try {
    return UdpSocket.open({ ...options, port });
  } catch (error) {
    if (!(error instanceof OsError) || error.errno !== Errno.EADDRINUSE || port === 0) throw error;
    return UdpSocket.open({ ...options, port: 0 });
  }
}
