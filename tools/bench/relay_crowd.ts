/**
 * Clients with a channel each and their peers, all in one thread: makes them, lets data flow between
 * them, and counts what arrives.
 *
 *     client 0 ── ChannelData ──► relay ──► peer 0          "up"
 *     client 1 ◄── ChannelData ── relay ◄── peer 1          "down"
 *
 * One thread sends and receives in turn, so a sender never starves the receiver. Datagrams are sent by
 * GSO and received by GRO: much cheaper than what a relay does with them.
 * @module
 */

import { type IpAddress, type SocketAddress, SocketAddressCache } from "@firezone/core/ip";
import { Epoll, raiseFileLimit, ReceiveSlots, UdpSocket } from "@firezone/core/os/linux";
import type { TurnCredentials } from "@firezone/core/turn";
import { LoadClient } from "./relay_client.ts";

/** Which way data flows. */
export type Direction = "up" | "down";

/** How much data flows. */
export interface Flow {
  /** Which way. */
  readonly direction: Direction;
  /** Bytes of application data in each packet. */
  readonly size: number;
  /** Packets that a client or peer sends at once before it is the turn of the next. */
  readonly burst: number;
  /** Packets per second in all; 0 for as many as can be sent. */
  readonly rate: number;
  /** How long. */
  readonly seconds: number;
  /** How many clients take part, the first ones. */
  readonly clients: number;
}

/** What became of a flow. */
export interface FlowResult {
  /** Packets that were sent. */
  readonly sent: number;
  /** Packets that arrived, stragglers included. */
  readonly received: number;
  /** Packets that arrived while others were still sent. */
  readonly receivedMeanwhile: number;
  /** How long it was sent. */
  readonly seconds: number;
}

/** What a {@link RelayCrowd} is made of. */
export interface CrowdOptions {
  /** The relay. */
  readonly server: SocketAddress;
  /** The credentials of client `i`. */
  readonly credentials: (i: number) => TurnCredentials;
  /** The address of client `i`, with port 0. */
  readonly client: (i: number) => SocketAddress;
  /** Address of all peers. */
  readonly peer: IpAddress;
  /** Peers that clients share; as many as clients if absent. */
  readonly peers?: number;
}

/** Requests under way at the same time. */
const WINDOW = 64;
const PEER_TOKEN = 0x4000_0000;
const SLOTS = 32;
const PEER_BUFFER = 16 << 20;
/** How long stragglers are waited for. */
const LINGER_MS = 150;
/** What fits one send. */
const MAX_BYTES = 65_507;

/** See the head of this file. */
export class RelayCrowd {
  /** All clients so far. */
  readonly clients: LoadClient[] = [];
  readonly #options: CrowdOptions;
  readonly #epoll = new Epoll(1024);
  readonly #slots = new ReceiveSlots(SLOTS);
  readonly #addresses = new SocketAddressCache(1 << 17);
  readonly #peers: UdpSocket[] = [];
  /** The peer of client `i`. */
  readonly #peerOf: UdpSocket[] = [];
  #received = 0;

  /** A crowd of nobody. */
  constructor(options: CrowdOptions) {
    this.#options = options;
    raiseFileLimit();
  }

  /** Makes clients until there are so many, each with a channel. @returns what went wrong, by reason */
  grow(count: number): Map<string, number> {
    const { server, credentials, client, peer, peers = count } = this.#options;
    while (this.#peers.length < Math.min(peers, count)) {
      const socket = UdpSocket.open({
        family: peer.family,
        address: peer,
        port: 0,
        receiveBuffer: PEER_BUFFER,
        sendBuffer: PEER_BUFFER,
        slots: this.#slots,
        addresses: this.#addresses,
      });
      this.#epoll.add(socket.fd, PEER_TOKEN + this.#peers.length, { readable: true });
      this.#peers.push(socket);
    }
    const from = this.clients.length;
    for (let i = from; i < count; i++) {
      const peer = this.#peers[i % this.#peers.length]!;
      this.#peerOf.push(peer);
      const made = new LoadClient({
        server,
        credentials: credentials(i),
        local: client(i),
        peer: peer.bound,
        slots: this.#slots,
        addresses: this.#addresses,
      });
      this.#epoll.add(made.socket.fd, i, { readable: true });
      this.clients.push(made);
    }
    return this.#each(from, (made, now) => made.allocate(now));
  }

  /** Lets clients `[from, …)`, whose allocations have ended, allocate again. @returns what went wrong */
  again(from: number): Map<string, number> {
    return this.#each(from, (made, now) => made.allocate(now));
  }

  /** Refreshes all allocations and channels. @returns what went wrong, by reason */
  refresh(): Map<string, number> {
    const failures = this.#each(0, (made, now) => made.refresh(now, 600));
    for (const [reason, count] of this.#each(0, (made, now) => made.bind(now))) {
      failures.set(reason, (failures.get(reason) ?? 0) + count);
    }
    return failures;
  }

  /** Ends the allocations of clients `[from, …)`. @returns what went wrong, by reason */
  end(from: number): Map<string, number> {
    return this.#each(from, (made, now) => made.refresh(now, 0));
  }

  /** Lets data flow. `onSecond` is called about once a second. */
  run(flow: Flow, onSecond: () => void = () => {}): FlowResult {
    const { direction, size, rate } = flow;
    const length = direction === "up" ? size + 4 : size;
    const burst = Math.max(1, Math.min(flow.burst, 64, Math.floor(MAX_BYTES / length)));
    const buffer = new Uint8Array(burst * length);
    const active = Math.min(flow.clients, this.clients.length);
    if (direction === "up") {
      // The channel's number is the same for all.
      for (let i = 0; i < burst; i++) this.clients[0]!.frame(buffer, i * length, size);
    }
    this.#received = 0;
    const startedAt = performance.now();
    const endAt = startedAt + flow.seconds * 1000;
    let secondAt = startedAt + 1000;
    let sent = 0;
    let turn = 0;
    for (let now = startedAt; now < endAt; now = performance.now()) {
      if (now >= secondAt) {
        secondAt += 1000;
        onSecond();
      }
      const due = rate === 0 ? Infinity : (now - startedAt) * rate / 1000;
      // A few bursts, then those who receive have their turn.
      for (let i = 0; i < 4 && sent < due; i++) {
        this.#burst(direction, turn++ % active, buffer, length);
        sent += burst;
      }
      this.#receive(sent < due ? 0 : 1);
    }
    const seconds = (performance.now() - startedAt) / 1000;
    const receivedMeanwhile = this.#received;
    this.settle();
    return { sent, received: this.#received, receivedMeanwhile, seconds };
  }

  /** Receives until nothing comes any more. */
  settle(): void {
    for (let end = performance.now() + LINGER_MS; performance.now() < end;) {
      const before = this.#received;
      this.#receive(20);
      if (this.#received > before) end = performance.now() + LINGER_MS;
    }
  }

  #burst(direction: Direction, index: number, buffer: Uint8Array, length: number): void {
    const client = this.clients[index]!;
    const segment = buffer.length > length ? length : 0;
    const [socket, to] = direction === "up"
      ? [client.socket, this.#options.server]
      : [this.#peerOf[index]!, client.relayed!];
    socket.send(undefined, to, buffer, 0, buffer.length, segment, 0);
  }

  /** Gives everybody from `from` on something to ask, and waits for the answers. */
  #each(from: number, start: (client: LoadClient, now: number) => void): Map<string, number> {
    const waiting = new Set<LoadClient>();
    const failures = new Map<string, number>();
    let next = from;
    while (next < this.clients.length || waiting.size > 0) {
      const now = performance.now();
      while (waiting.size < WINDOW && next < this.clients.length) {
        const client = this.clients[next++]!;
        if (client.state === "failed") continue;
        start(client, now);
        waiting.add(client);
      }
      this.#receive(20);
      for (const client of waiting) {
        client.handleTimeout(now);
        if (client.state !== "idle" && client.state !== "failed") continue;
        waiting.delete(client);
        if (client.state === "failed") {
          failures.set(client.failure, (failures.get(client.failure) ?? 0) + 1);
        }
      }
    }
    return failures;
  }

  #receive(waitMs: number): void {
    const events = this.#epoll.wait(waitMs);
    for (let i = 0; i < events; i++) {
      const token = this.#epoll.token(i);
      const client = token >= PEER_TOKEN ? undefined : this.clients[token]!;
      const socket = client?.socket ?? this.#peers[token - PEER_TOKEN]!;
      for (let reads = 0; reads < 4; reads++) {
        const messages = socket.receive();
        for (let m = 0; m < messages; m++) this.#take(client, socket, m);
        if (messages < SLOTS) break;
      }
    }
  }

  #take(client: LoadClient | undefined, socket: UdpSocket, message: number): void {
    const start = socket.start(message);
    const length = socket.length(message);
    if (client !== undefined && socket.buffer[start]! < 4) {
      const step = socket.segmentSize(message);
      for (let at = start; at < start + length; at += step) {
        const end = Math.min(at + step, start + length);
        client.handleDatagram(performance.now(), socket.buffer, at, end);
      }
      return;
    }
    this.#received += Math.ceil(length / socket.segmentSize(message));
  }
}
