/**
 * All connections of one process: what upstream calls snownet.
 *
 * Relays are shared: every relay gives server-reflexive candidates to all connections, and each
 * connection uses one relay, chosen among the quick ones, for its relayed candidates.
 *
 *     datagram ─┬─ ChannelData from a relay ──► strip ──► as if it came to the relayed address
 *               ├─ STUN ─┬─ from a relay, asked by us ──► allocation
 *               │        └─ else by user name or transaction id ──► ICE agent
 *               └─ WireGuard ─┬─ initiation: by the static key inside
 *                             └─ else by receiver index ──► tunnel ──► inner packet
 *
 * Source addresses never decide which connection a datagram belongs to.
 * Owns: connections, allocations, host candidates. Does not own: what inner packets may contain.
 * @module
 */

import type { AeadBackend } from "../crypto/mod.ts";
import { Deadlines } from "../deadlines.ts";
import { Candidate, parseCandidate } from "../ice/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import { randomBelow, type RandomBytes } from "../random.ts";
import { looksLikeStun, parseStunMessage } from "../stun/mod.ts";
import type { DatagramBatch, Transmit } from "../transmit.ts";
import {
  Allocation,
  type AllocationEvent,
  ChannelDataRef,
  looksLikeChannelData,
  Parse as ChannelDataParse,
  parseChannelData,
  RELAY_REALM,
} from "../turn/mod.ts";
import { earlier, type Millis } from "../units.ts";
import {
  INNER_MTU,
  peekReceiverIndex,
  WireGuardNode,
  type WireGuardResult,
} from "../wireguard/mod.ts";
import { Connection, type ConnectionParameters } from "./connection.ts";
import { ConnectionTable } from "./connection_table.ts";
import { LocalCandidates } from "./local_candidates.ts";
import { relayedTransmit } from "./path.ts";
import { quickRelays } from "./relay_choice.ts";
import { type ConnectionStatus, connectionStatus, type PathStatus, pathStatus } from "./status.ts";
import type { Role } from "./timing.ts";

/** A relay that the portal offers; one relay may be reachable over both families. */
export interface Relay {
  /** The relay's id at the portal. */
  readonly id: string;
  /** Its STUN/TURN endpoints. */
  readonly servers: { readonly v4?: SocketAddress; readonly v6?: SocketAddress };
  /** TURN user name. */
  readonly username: string;
  /** TURN password. */
  readonly password: string;
}

/** What the owner must know or pass on to the portal. */
export type ConnectivityEvent =
  | {
    readonly tag: "candidates" | "candidates-invalidated";
    readonly peerId: string;
    /** Candidates as SDP lines: all that came up until this event was fetched. */
    readonly candidates: string[];
  }
  | { readonly tag: "established"; readonly peerId: string }
  | { readonly tag: "path-changed"; readonly peerId: string; readonly path: PathStatus }
  | { readonly tag: "failed"; readonly peerId: string; readonly reason: string }
  | RelayEvent;

/** News of relays, which concern no peer in particular. */
export type RelayEvent =
  | { readonly tag: "relay-failed"; readonly relayId: string; readonly reason: string }
  | {
    readonly tag: "relay-refused";
    readonly relayId: string;
    /** What was asked for. */
    readonly request: string;
    /** STUN error code. */
    readonly code: number;
  }
  | { readonly tag: "no-relays" };

/** What became of a datagram. */
export type DatagramOutcome = "data" | "handled" | "dropped";

/** Filled by {@link Connectivity.decapsulate}; made once and reused. */
export interface Decapsulated {
  /** The connection that the packet came through. */
  connection: Connection | undefined;
  /** Bytes of plaintext, with WireGuard's padding. */
  length: number;
}

/** Datagrams and packets dropped, by reason. */
export interface DropCounters {
  /** Nothing we know of. */
  unknown: number;
  /** ChannelData of no channel of ours. */
  unknownChannel: number;
  /** STUN that no agent and no allocation asked for. */
  unexpectedStun: number;
  /** WireGuard messages that did not open or belong to nobody. */
  badWireGuard: number;
  /** Packets for a peer that are larger than fits into the tunnel. */
  tooLong: number;
}

/** What a {@link Connectivity} is made of. */
export interface ConnectivityOptions {
  /** Which end of every connection we are. */
  readonly role: Role;
  /** Our WireGuard key, 32 bytes. */
  readonly privateKey: Uint8Array;
  /** Seals and opens. */
  readonly aead: AeadBackend;
  /** Source of all randomness. */
  readonly random: RandomBytes;
  /** Wall clock at monotonic time zero, in milliseconds since 1970: WireGuard stamps handshakes. */
  readonly unixMillisAtZero: number;
}

/** See the head of this file. */
export class Connectivity {
  /** Counts of what was dropped. */
  readonly drops: DropCounters = {
    unknown: 0,
    unknownChannel: 0,
    unexpectedStun: 0,
    badWireGuard: 0,
    tooLong: 0,
  };

  readonly #role: Role;
  readonly #random: RandomBytes;
  readonly #options: ConnectivityOptions;
  #node: WireGuardNode;

  readonly #connections = new ConnectionTable();
  readonly #allocations = new Map<string, Allocation>();
  readonly #candidates = new LocalCandidates();

  readonly #deadlines = new Deadlines<Connection | Allocation>();
  /** Of whose queues and deadlines there is news from the packet path since the last drain. */
  readonly #touched = new Set<Connection>();
  readonly #events: ConnectivityEvent[] = [];
  readonly #transmits: Transmit[] = [];
  readonly #channelData = new ChannelDataRef();
  readonly #wireGuard: WireGuardResult = { code: "dropped", length: 0 };

  /** A node without connections and relays. */
  constructor(options: ConnectivityOptions) {
    this.#options = options;
    this.#role = options.role;
    this.#random = options.random;
    this.#node = this.#makeNode(options.privateKey);
  }

  /** Our WireGuard public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.#node.publicKey;
  }

  /** The connection to a peer, if there is one. */
  connection(peerId: string): Connection | undefined {
    return this.#connections.get(peerId);
  }

  /** All connections. */
  connections(): Iterable<Connection> {
    return this.#connections;
  }

  /** Whether a relay is left for a new connection. */
  get hasRelays(): boolean {
    return this.#allocations.size > 0;
  }

  /**
   * Makes sure that there is a connection with these parameters.
   *
   * The same parameters as before renew the connection there is; others replace it. Without a relay
   * nothing is changed and the answer is `no-relays`, with an event of that name.
   */
  upsertConnection(
    now: Millis,
    peerId: string,
    parameters: ConnectionParameters,
  ): "created" | "renewed" | "replaced" | "no-relays" {
    const allocation = this.#chooseAllocation();
    if (!allocation) {
      this.#events.push({ tag: "no-relays" });
      return "no-relays";
    }
    const existing = this.#connections.get(peerId);
    // The portal is asked when a path has died, and a relay that was rebooted behind its back says
    // nothing by itself.
    const used = existing?.matches(parameters) ? existing.allocation : allocation;
    if (used) {
      used.verify(now);
      this.#drainAllocation(now, used);
    }
    if (existing?.matches(parameters)) {
      existing.renew(now);
      this.#drainConnection(existing);
      return "renewed";
    }
    if (existing) this.#remove(existing);
    const connection = new Connection(
      now,
      peerId,
      this.#role,
      parameters,
      this.#node,
      this.#random,
      this.#connections.checks,
    );
    this.#connections.add(connection);
    connection.useAllocation(now, allocation);
    this.#offerAll(now, connection);
    this.#drainConnection(connection);
    return existing ? "replaced" : "created";
  }

  /** Drops a connection without telling anyone. */
  closeConnection(peerId: string): void {
    const connection = this.#connections.get(peerId);
    if (connection) this.#remove(connection);
  }

  /** Takes candidates that the peer signalled; malformed ones and unknown peers are ignored. */
  addRemoteCandidates(now: Millis, peerId: string, candidates: readonly string[]): void {
    const connection = this.#connections.get(peerId);
    if (!connection) return;
    for (const candidate of parseCandidates(candidates)) {
      connection.addRemoteCandidate(now, candidate);
    }
    this.#drainConnection(connection);
  }

  /** The peer took candidates back. */
  removeRemoteCandidates(now: Millis, peerId: string, candidates: readonly string[]): void {
    const connection = this.#connections.get(peerId);
    if (!connection) return;
    for (const candidate of parseCandidates(candidates)) {
      connection.invalidateRemoteCandidate(now, candidate);
    }
    this.#drainConnection(connection);
  }

  /**
   * The portal's news about relays: some are gone, some are there (perhaps with new credentials).
   * All others are asked whether they still know us.
   */
  updateRelays(now: Millis, goneIds: Iterable<string>, present: Iterable<Relay>): void {
    const hadRelays = this.#allocations.size > 0;
    const refreshed = new Set<string>();
    for (const id of goneIds) this.#dropAllocation(now, id);
    for (const relay of present) {
      refreshed.add(relay.id);
      const { username, password, servers } = relay;
      const credentials = { username, password, realm: RELAY_REALM };
      const existing = this.#allocations.get(relay.id);
      if (existing?.sameAs(servers, credentials)) continue;
      if (existing) this.#dropAllocation(now, relay.id);
      const allocation = new Allocation({
        id: relay.id,
        servers,
        credentials,
        random: this.#random,
        software: "firezone-connectivity",
      }, now);
      this.#allocations.set(relay.id, allocation);
      this.#drainAllocation(now, allocation);
    }
    for (const [id, allocation] of this.#allocations) {
      if (refreshed.has(id)) continue;
      allocation.refresh(now);
      this.#drainAllocation(now, allocation);
    }
    this.#rehome(now);
    if (hadRelays && this.#allocations.size === 0) this.#events.push({ tag: "no-relays" });
  }

  /**
   * Starts over on another network: all connections end, the WireGuard key is new, allocations are
   * made again with the credentials there are. The owner binds new sockets and tells the portal the
   * new key.
   */
  reset(now: Millis, privateKey: Uint8Array): void {
    for (const connection of [...this.#connections]) this.#remove(connection);
    this.#events.length = 0;
    this.#transmits.length = 0;
    this.#candidates.clear();
    this.#node.dispose();
    this.#node = this.#makeNode(privateKey);
    for (const allocation of this.#allocations.values()) {
      allocation.restart(now);
      // What the restart invalidates belonged to connections that are gone.
      while (allocation.pollEvent() !== undefined);
      this.#drainAllocation(now, allocation);
    }
  }

  /** Sends an inner packet to a peer, now or as soon as the connection stands. */
  encapsulate(
    now: Millis,
    connection: Connection,
    buf: Uint8Array,
    start: number,
    end: number,
    batch: DatagramBatch,
  ): void {
    if (end - start > INNER_MTU) {
      this.#drop("tooLong");
      return;
    }
    connection.encapsulate(now, buf, start, end, batch);
    if (connection.hasNews) this.#touched.add(connection);
  }

  /** Sends one inner packet outside a burst, now or as soon as the connection stands. */
  sendPacket(now: Millis, connection: Connection, packet: Uint8Array): void {
    connection.sendPacket(now, packet);
    this.#drainConnection(connection);
  }

  /**
   * Takes a datagram from the network.
   *
   * @param local our address that it came to
   * @param plain memory for the inner packet, at least as long as the datagram
   * @param out filled when the outcome is `data`
   */
  decapsulate(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    plain: Uint8Array,
    out: Decapsulated,
  ): DatagramOutcome {
    if (end - start < 4) return this.#drop("unknown");
    if (looksLikeChannelData(buf, start, end)) {
      const allocation = this.#allocationAt(from);
      if (allocation) return this.#fromChannel(now, allocation, buf, start, end, plain, out);
    }
    // WireGuard's types 1 to 3 share first bytes with STUN; the magic cookie tells them apart.
    if (looksLikeStun(buf, start, end)) {
      return this.#handleStun(now, local, from, buf, start, end);
    }
    return this.#handleWireGuard(now, undefined, from, buf, start, end, plain, out);
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#settle();
    for (let due; (due = this.#deadlines.takeDue(now)) !== undefined;) {
      due.handleTimeout(now);
      if (due instanceof Connection) this.#drainConnection(due);
      else this.#drainAllocation(now, due);
    }
    this.#node.handleTimeout(now);
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    if (this.#events.length > 0 || this.#transmits.length > 0) return 0 as Millis;
    this.#settle();
    return earlier(this.#deadlines.next, this.#node.pollTimeout());
  }

  /** The next datagram of the control path. */
  pollTransmit(): Transmit | undefined {
    this.#settle();
    return this.#transmits.shift();
  }

  /** The next thing the owner must know. */
  pollEvent(): ConnectivityEvent | undefined {
    this.#settle();
    return this.#events.shift();
  }

  /** A snapshot of all connections. */
  status(now: Millis): ConnectionStatus[] {
    return Array.from(this.#connections, (connection) => connectionStatus(now, connection));
  }

  // ---- demultiplexing

  #fromChannel(
    now: Millis,
    allocation: Allocation,
    buf: Uint8Array,
    start: number,
    end: number,
    plain: Uint8Array,
    out: Decapsulated,
  ): DatagramOutcome {
    const ref = this.#channelData;
    if (parseChannelData(buf, start, end, ref) !== ChannelDataParse.Ok) {
      return this.#drop("unknownChannel");
    }
    const peer = allocation.peerFor(ref.channel);
    const relayed = peer && allocation.relayedAddress(peer.family);
    if (!peer || !relayed) return this.#drop("unknownChannel");
    allocation.noteChannelData(now, "received", ref.channel);
    const [from, to] = [ref.start, ref.end];
    if (looksLikeStun(buf, from, to)) return this.#handleStun(now, relayed, peer, buf, from, to);
    return this.#handleWireGuard(now, allocation, peer, buf, from, to, plain, out);
  }

  #handleStun(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): DatagramOutcome {
    const message = parseStunMessage(buf, start, end);
    if (!message) return this.#drop("unexpectedStun");
    const allocation = this.#allocationAt(from);
    if (allocation?.handleInput(now, local, from, message)) {
      this.#drainAllocation(now, allocation);
      return "handled";
    }
    const connection = this.#connections.receiverOf(message);
    if (!connection?.handleStun(now, local, from, message)) return this.#drop("unexpectedStun");
    this.#drainConnection(connection);
    return "handled";
  }

  /** @param relay the allocation that `from` is a peer of, if it came through one */
  #handleWireGuard(
    now: Millis,
    relay: Allocation | undefined,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    plain: Uint8Array,
    out: Decapsulated,
  ): DatagramOutcome {
    const connection = this.#receiverOf(now, relay, from, buf, start, end);
    if (!connection) return this.#drop("badWireGuard");
    const result = this.#wireGuard;
    connection.handleWireGuard(now, buf, start, end, plain, 0, result);
    // What came through a relay may be the first in its channel, which is to be kept then.
    if (relay !== undefined || connection.hasNews) this.#touched.add(connection);
    if (result.code === "dropped") return this.#drop("badWireGuard");
    if (result.code !== "data") return "handled";
    out.connection = connection;
    out.length = result.length;
    return "data";
  }

  #receiverOf(
    now: Millis,
    relay: Allocation | undefined,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): Connection | undefined {
    const index = peekReceiverIndex(buf, start, end);
    if (index !== undefined) {
      const owner = this.#node.tunnelForIndex(index)?.owner;
      return owner instanceof Connection ? owner : undefined;
    }
    const initiation = this.#node.identifyInitiation(now, from, buf, start, end);
    if (initiation.tag === "peer") return this.#connections.withPublicKey(initiation.publicKey);
    if (initiation.tag === "cookie-reply") {
      const payload = initiation.datagram;
      const reply = relay
        ? relayedTransmit(relay, from, payload)
        : { source: undefined, destination: from, payload };
      if (reply) this.#transmits.push(reply);
    }
    return undefined;
  }

  #drop(reason: keyof DropCounters): "dropped" {
    this.drops[reason]++;
    return "dropped";
  }

  // ---- relays

  #allocationAt(from: SocketAddress): Allocation | undefined {
    for (const allocation of this.#allocations.values()) {
      if (allocation.matches(from)) return allocation;
    }
    return undefined;
  }

  #chooseAllocation(): Allocation | undefined {
    const quick = quickRelays([...this.#allocations.values()]);
    return quick.length === 0 ? undefined : quick[randomBelow(this.#random, quick.length)];
  }

  #drainAllocation(now: Millis, allocation: Allocation): void {
    for (let event; (event = allocation.pollEvent()) !== undefined;) {
      this.#onAllocation(now, allocation, event);
    }
    this.#pullTransmits(allocation);
  }

  #pullTransmits(allocation: Allocation): void {
    for (let transmit; (transmit = allocation.pollTransmit()) !== undefined;) {
      this.#transmits.push(transmit);
    }
    if (this.#allocations.get(allocation.id) === allocation) {
      this.#deadlines.set(allocation, allocation.pollTimeout());
    }
  }

  #onAllocation(now: Millis, allocation: Allocation, event: AllocationEvent): void {
    switch (event.tag) {
      case "host-address": {
        const host = this.#candidates.addHost(event.address);
        return host && this.#offer(now, host);
      }
      case "candidate-added":
        return this.#addCandidate(now, allocation, event.candidate);
      case "candidate-removed":
        return this.#removeCandidate(now, allocation, event.candidate);
      case "refused": {
        const { request, code } = event;
        this.#events.push({ tag: "relay-refused", relayId: allocation.id, request, code });
        return;
      }
      case "failed":
        this.#events.push({ tag: "relay-failed", relayId: allocation.id, reason: event.reason });
        this.#dropAllocation(now, allocation.id);
        this.#rehome(now);
        if (this.#allocations.size === 0) this.#events.push({ tag: "no-relays" });
    }
  }

  #addCandidate(now: Millis, allocation: Allocation, candidate: Candidate): void {
    this.#candidates.addFromRelay(allocation.id, candidate);
    if (candidate.kind !== "relay") return this.#offer(now, candidate);
    for (const connection of this.#connections) {
      if (connection.allocation !== allocation) continue;
      connection.addLocalCandidate(now, candidate, allocation);
      this.#drainConnection(connection);
    }
  }

  /** Only relayed candidates die with their allocation: the others may still work. */
  #removeCandidate(now: Millis, allocation: Allocation, candidate: Candidate): void {
    this.#candidates.removeFromRelay(allocation.id, candidate);
    if (candidate.kind !== "relay") return;
    for (const connection of this.#connections) {
      connection.invalidateLocalCandidate(now, candidate);
      this.#drainConnection(connection);
    }
  }

  #offer(now: Millis, candidate: Candidate): void {
    for (const connection of this.#connections) {
      connection.addLocalCandidate(now, candidate);
      this.#drainConnection(connection);
    }
  }

  /** Gives a connection every candidate there is. */
  #offerAll(now: Millis, connection: Connection): void {
    for (const candidate of this.#candidates.forRelay(connection.allocation?.id)) {
      const relay = candidate.kind === "relay" ? connection.allocation : undefined;
      connection.addLocalCandidate(now, candidate, relay);
    }
  }

  #dropAllocation(now: Millis, id: string): void {
    const allocation = this.#allocations.get(id);
    if (!allocation) return;
    this.#allocations.delete(id);
    this.#deadlines.delete(allocation);
    this.#candidates.forgetRelay(id);
    for (const connection of this.#connections) {
      if (connection.allocation !== allocation) continue;
      for (const family of [4, 6] as const) {
        const address = allocation.relayedAddress(family);
        if (address) connection.invalidateLocalCandidate(now, Candidate.relayed(address));
      }
      connection.useAllocation(now, undefined);
      this.#drainConnection(connection);
    }
  }

  /** Moves every connection whose relay is gone to another one, if there is one. */
  #rehome(now: Millis): void {
    for (const connection of this.#connections) {
      if (connection.allocation !== undefined) continue;
      const allocation = this.#chooseAllocation();
      if (!allocation) return;
      connection.useAllocation(now, allocation);
      this.#offerAll(now, connection);
      this.#drainConnection(connection);
    }
  }

  /** One that answers shows that our own network works. */
  #askRelays(now: Millis): void {
    for (const allocation of this.#allocations.values()) {
      allocation.verify(now);
      this.#pullTransmits(allocation);
    }
  }

  #hasRelayAnswered(askedAt: Millis): boolean {
    for (const allocation of this.#allocations.values()) {
      if (allocation.isVerifiedSince(askedAt)) return true;
    }
    return false;
  }

  // ---- connections

  #makeNode(privateKey: Uint8Array): WireGuardNode {
    const { aead, random, unixMillisAtZero } = this.#options;
    return new WireGuardNode({ privateKey, aead, random, unixMillisAtZero });
  }

  #remove(connection: Connection): void {
    this.#connections.delete(connection);
    this.#deadlines.delete(connection);
    this.#touched.delete(connection);
    connection.dispose();
  }

  /** Brings queues and deadlines up to date of which the packet path had news. */
  #settle(): void {
    if (this.#touched.size === 0) return;
    for (const connection of this.#touched) {
      this.#drainQueues(connection);
      if (this.#connections.has(connection)) {
        this.#deadlines.hasten(connection, connection.pollTimeout());
      }
    }
    this.#touched.clear();
    for (const allocation of this.#allocations.values()) this.#pullTransmits(allocation);
  }

  #drainConnection(connection: Connection): void {
    this.#drainQueues(connection);
    if (connection.allocation) this.#pullTransmits(connection.allocation);
    if (this.#connections.has(connection)) {
      this.#deadlines.set(connection, connection.pollTimeout());
    }
  }

  #drainQueues(connection: Connection): void {
    for (let transmit; (transmit = connection.pollTransmit()) !== undefined;) {
      this.#transmits.push(transmit);
    }
    const { peerId } = connection;
    for (let event; (event = connection.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "candidate":
          this.#signal("candidates", peerId, event.candidate);
          break;
        case "candidate-invalidated":
          this.#signal("candidates-invalidated", peerId, event.candidate);
          break;
        case "silent":
          this.#askRelays(event.askedAt);
          break;
        case "unheard":
          if (this.#hasRelayAnswered(event.askedAt)) connection.giveUp();
          break;
        case "failed":
          this.#remove(connection);
          this.#events.push({ tag: "failed", peerId, reason: event.reason });
          break;
        case "path-changed":
          if (connection.path) {
            this.#events.push({ tag: event.tag, peerId, path: pathStatus(connection.path) });
          }
          break;
        case "established":
          this.#events.push({ tag: event.tag, peerId });
      }
    }
  }

  /** Candidates that come together go to the portal in one message per peer and kind. */
  #signal(
    tag: "candidates" | "candidates-invalidated",
    peerId: string,
    candidate: Candidate,
  ): void {
    for (const event of this.#events) {
      if (event.tag === tag && event.peerId === peerId) {
        event.candidates.push(candidate.toSdp());
        return;
      }
    }
    this.#events.push({ tag, peerId, candidates: [candidate.toSdp()] });
  }
}

function parseCandidates(lines: readonly string[]): Candidate[] {
  return lines.flatMap((line) => parseCandidate(line) ?? []);
}
