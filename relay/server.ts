/**
 * The relay as a state machine: STUN BINDING, and TURN over UDP with channels (RFC 8489, RFC 8656).
 *
 *     client ─ datagram on the listen port ──► handleClientInput ─┬─► Forwarding to a peer
 *                                                                 ├─► pollTransmit (answers)
 *                                                                 └─► pollCommand (sockets)
 *     peer ─── datagram on an allocation ────► handlePeerInput ─────► Forwarding to a client
 *
 * The owner drains `pollCommand`, then `pollTransmit`, after every input. It reports what became of
 * each "create-allocation"; only then the client is answered, so that nobody sends to a port that is
 * not open yet.
 *
 * Deviations from RFC 8656:
 * - no Send and Data indications and no permissions; CREATE_PERMISSION succeeds without effect,
 *   only a bound channel admits traffic;
 * - no RESERVATION-TOKEN and DONT-FRAGMENT (420), no reserving of a next port (508), no TCP;
 * - a dual allocation of which only one family is served is granted without ADDRESS-ERROR-CODE;
 * - no 441, see `auth.ts`; one allocation per username, the newest wins,
 *   unless the username is known to be shared.
 *
 * Owns: what clients are told and granted. Does not own: sockets, clocks.
 * @module
 */

import { type Family, type IpAddress, type Prefix, SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import {
  looksLikeStun,
  METHOD,
  parseStunMessage,
  type StunMessage,
  StunWriter,
} from "@firezone/core/stun";
import { Distribution } from "@firezone/core/telemetry";
import type { Transmit } from "@firezone/core/transmit";
import {
  ChannelDataRef,
  type ChannelNumber,
  LAST_CHANNEL,
  LAST_LEGACY_CHANNEL,
  looksLikeChannelData,
  Parse,
  parseChannelData,
  RELAY_REALM,
  toChannelNumber,
} from "@firezone/core/turn";
import { after, type Millis, type Port, type UnixSeconds } from "@firezone/core/units";
import { AllocationTable, type RelayAllocation } from "./allocation_table.ts";
import { Authenticator } from "./auth.ts";
import type { Forwarding } from "./forwarding.ts";
import { Nonces } from "./nonces.ts";
import { PeerPolicy } from "./peer_policy.ts";
import { DEFAULT_PORTS, PortPool, type PortRange } from "./port_pool.ts";
import { ResponseCounts } from "./response_counts.ts";

/** Lifetime of an allocation that did not ask for one; also the least that is granted. */
export const DEFAULT_LIFETIME_SECONDS = 600;
/** The most that is granted. */
export const MAX_LIFETIME_SECONDS = 3600;
/** Ports tried before a client is told that there are none. */
export const MAX_BIND_ATTEMPTS = 4;

const PROTOCOL_UDP = 17;

/** Upper ends of the buckets in which packets are counted by size. */
export const PACKET_SIZE_BOUNDS: readonly number[] = Array.from(
  { length: 15 },
  (_, i) => (i + 1) * 100,
);

/** What a {@link RelayServer} is made from. */
export interface RelayServerOptions {
  /** Where peers reach allocations; a family without one is not served. */
  readonly publicAddresses: {
    readonly v4?: IpAddress | undefined;
    readonly v6?: IpAddress | undefined;
  };
  /** Shared with the portal; as text. */
  readonly stampSecret: string;
  /** For ports and nonces. */
  readonly random: RandomBytes;
  /** Ports that allocations get; the range of RFC 8656 unless given. */
  readonly ports?: PortRange | undefined;
  /** Other addresses of this machine, refused as peers. */
  readonly ownAddresses?: readonly IpAddress[] | undefined;
  /** Peers that are accepted although policy refuses them. */
  readonly allowedPeers?: readonly Prefix[] | undefined;
  /** SOFTWARE attribute of all answers. */
  readonly software?: string | undefined;
  /** Users who may have several allocations at a time; of all others the newest replaces the last. */
  readonly sharedUsernames?: readonly string[] | undefined;
  /** Whether channels 0x5000 to 0x7FFF of RFC 5766 are served as well. */
  readonly legacyChannels?: boolean | undefined;
}

/** What the owner must do with sockets. In each family of the list. */
export type RelayCommand = {
  /** Open a socket on the port and report the outcome, or close it. */
  readonly tag: "create-allocation" | "free-allocation";
  /** Names the allocation in reports; never used twice. */
  readonly id: number;
  /** The same in all families. */
  readonly port: Port;
  /** IPv4 before IPv6. */
  readonly families: readonly Family[];
};

/** Datagrams by what became of them. */
export interface RelayCounters {
  /** Application data to peers, in packets. */
  packetsToPeers: number;
  /** Application data to peers, in bytes. */
  bytesToPeers: number;
  /** Application data to clients, in packets. */
  packetsToClients: number;
  /** Application data to clients, in bytes. */
  bytesToClients: number;
  /** Answers sent. */
  readonly responses: ResponseCounts;
  /** Application data by bytes per packet. */
  readonly packetSizes: Distribution;
  /** Neither STUN nor ChannelData, or broken beyond an answer. */
  malformed: number;
  /** ChannelData on a channel that is not bound. */
  unknownChannel: number;
  /** From a peer that no channel is bound to. */
  unknownPeer: number;
}

/** An ALLOCATE that waits for its sockets. */
interface Pending {
  readonly request: StunMessage;
  readonly client: SocketAddress;
  readonly soleOf: string | undefined;
  readonly key: Uint8Array;
  readonly families: readonly Family[];
  readonly lifetimeSeconds: number;
  readonly isEven: boolean;
  readonly port: Port;
  readonly attempt: number;
}

/** The inside of a {@link RelayServer}, to be looked at by `invariants.ts` and not changed. */
export interface RelayInside {
  /** Allocations whose sockets are open. */
  readonly table: AllocationTable;
  /** Allocations whose sockets are being opened, by id. */
  readonly pending: ReadonlyMap<number, Pick<Pending, "client" | "soleOf" | "families" | "port">>;
  /** Ports that nobody has. */
  readonly freePorts: number;
}

/** A TURN server without sockets. */
export class RelayServer {
  /** What went by so far. */
  readonly counters: RelayCounters = {
    packetsToPeers: 0,
    bytesToPeers: 0,
    packetsToClients: 0,
    bytesToClients: 0,
    responses: new ResponseCounts(),
    packetSizes: new Distribution(PACKET_SIZE_BOUNDS),
    malformed: 0,
    unknownChannel: 0,
    unknownPeer: 0,
  };

  readonly #public: ReadonlyMap<Family, IpAddress>;
  readonly #software: string;
  readonly #lastChannel: ChannelNumber;
  readonly #sharedUsernames: ReadonlySet<string>;
  readonly #auth: Authenticator;
  readonly #nonces: Nonces;
  readonly #ports: PortPool;
  readonly #policy: PeerPolicy;
  readonly #table = new AllocationTable();
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;
  readonly #commands: RelayCommand[] = [];
  readonly #transmits: Transmit[] = [];
  readonly #channelData = new ChannelDataRef();

  /** A relay without allocations. */
  constructor(options: RelayServerOptions) {
    const { v4, v6 } = options.publicAddresses;
    const served: [Family, IpAddress][] = [];
    if (v4) served.push([4, v4]);
    if (v6) served.push([6, v6]);
    this.#public = new Map(served);
    this.#software = options.software ?? "firezone-relay";
    this.#lastChannel = options.legacyChannels ? LAST_LEGACY_CHANNEL : LAST_CHANNEL;
    this.#sharedUsernames = new Set(options.sharedUsernames);
    this.#nonces = new Nonces(options.random);
    this.#auth = new Authenticator(options.stampSecret, this.#nonces);
    const ports = options.ports ?? DEFAULT_PORTS;
    this.#ports = new PortPool(ports, options.random);
    this.#policy = new PeerPolicy({
      publicAddresses: served.map(([, ip]) => ip),
      ports,
      ownAddresses: options.ownAddresses,
      allow: options.allowedPeers,
    });
  }

  /** Number of allocations, those whose sockets are being opened included. */
  get allocationCount(): number {
    return this.#table.size + this.#pending.size;
  }

  /** Number of channels, those in their cool-down included. */
  get channelCount(): number {
    return this.#table.channelCount;
  }

  /** What it knows. */
  get inside(): RelayInside {
    return { table: this.#table, pending: this.#pending, freePorts: this.#ports.free };
  }

  /**
   * Takes a datagram that came to the listen port.
   *
   * @param wall decides whether credentials have expired
   * @param buf borrowed for this call; `out` refers into it
   * @returns whether `out` says where to forward application data
   */
  handleClientInput(
    now: Millis,
    wall: UnixSeconds,
    client: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    if (looksLikeChannelData(buf, start, end, this.#lastChannel)) {
      return this.#handleChannelData(client, buf, start, end, out);
    }
    // A reply to port 0 cannot be sent.
    const request = client.port !== 0 && looksLikeStun(buf, start, end)
      ? parseStunMessage(buf, start, end)
      : undefined;
    if (request === undefined || request.verifyFingerprint() === false) {
      this.counters.malformed++;
    } else if (request.class === "request") {
      this.handleTimeout(now);
      this.#handleRequest(now, wall, client, request);
    }
    return false;
  }

  /**
   * Takes a datagram that came to an allocation, `[start, end)` of the caller's buffer.
   *
   * @returns whether `out` says where to forward it
   */
  handlePeerInput(
    _now: Millis,
    peer: SocketAddress,
    allocationPort: number,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    return this.#forwardToClient(peer.key, allocationPort, start, end, out);
  }

  /** The sockets of "create-allocation" `id` are open. */
  handleAllocationCreated(now: Millis, id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    const { request, client, soleOf, key, families, lifetimeSeconds, port } = pending;
    const writer = this.#success(request);
    for (const family of families) {
      writer.relayedAddress(new SocketAddress(this.#public.get(family)!, port));
    }
    writer.mappedAddress(client).lifetime(lifetimeSeconds);
    const response = this.#send(client, writer, 0, key);
    this.#table.add({
      id,
      client,
      soleOf,
      port,
      families,
      transactionId: request.transactionId,
      response: response.slice(),
      expiresAt: after(now, lifetimeSeconds * 1000),
    });
  }

  /** The sockets of "create-allocation" `id` could not be opened; none of them is. */
  handleAllocationFailed(_now: Millis, id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    // Another program may hold this one port: draw again before giving this one back.
    const mayRetry = pending.attempt < MAX_BIND_ATTEMPTS;
    const port = mayRetry ? this.#takePort(pending.isEven) : undefined;
    this.#ports.giveBack(pending.port);
    if (port !== undefined) this.#create({ ...pending, port, attempt: pending.attempt + 1 });
    else {
      this.#reject(pending.client, pending.request, 508, pending.key);
    }
  }

  /** Ends what has expired. */
  handleTimeout(now: Millis): void {
    for (let due; (due = this.#table.takeDue(now)) !== undefined;) {
      if (due.tag === "allocation-expired") this.#release(due.allocation);
    }
  }

  /** The earliest deadline; the distant past while something is queued. */
  pollTimeout(): Millis {
    if (this.#commands.length > 0 || this.#transmits.length > 0) return 0 as Millis;
    return this.#table.nextDeadline;
  }

  /** The next thing to do with sockets. */
  pollCommand(): RelayCommand | undefined {
    return this.#commands.shift();
  }

  /** The next answer, to be sent from the listen port. */
  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  // The data path

  #handleChannelData(
    client: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    const data = this.#channelData;
    if (parseChannelData(buf, start, end, data, this.#lastChannel) !== Parse.Ok) {
      this.counters.malformed++;
      return false;
    }
    const channel = this.#table.byClient(client)?.channels.get(data.channel);
    if (channel === undefined || !channel.isBound) {
      this.counters.unknownChannel++;
      return false;
    }
    if (channel.knownAs !== undefined) {
      // Both clients are ours: the detour over the network would need a router that sends it back.
      return this.#forwardToClient(channel.knownAs, channel.peer.port, data.start, data.end, out);
    }
    out.direction = "peer";
    out.destination = channel.peer;
    out.allocationPort = channel.allocation.port;
    out.start = data.start;
    out.end = data.end;
    this.counters.packetsToPeers++;
    this.counters.bytesToPeers += data.end - data.start;
    this.counters.packetSizes.record(data.end - data.start);
    return true;
  }

  #forwardToClient(
    peerKey: string,
    allocationPort: number,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    const channel = this.#table.byPort(allocationPort)?.channelsByPeer.get(peerKey);
    if (channel === undefined || !channel.isBound) {
      this.counters.unknownPeer++;
      return false;
    }
    out.direction = "client";
    out.destination = channel.allocation.client;
    out.channel = channel.number;
    out.start = start;
    out.end = end;
    this.counters.packetsToClients++;
    this.counters.bytesToClients += end - start;
    this.counters.packetSizes.record(end - start);
    return true;
  }

  // Requests, in the order in which the RFCs treat them

  #handleRequest(
    now: Millis,
    wall: UnixSeconds,
    client: SocketAddress,
    request: StunMessage,
  ): void {
    if (request.malformedAttribute !== undefined) return this.#badRequest(client, request);
    switch (request.method) {
      case METHOD.binding:
        return this.#handleBinding(client, request);
      case METHOD.allocate:
        if (request.requestedTransport === undefined) return this.#badRequest(client, request);
        break;
      case METHOD.channelBind:
        if (
          toChannelNumber(request.channelNumber ?? 0, this.#lastChannel) === undefined ||
          request.peerAddress === undefined
        ) return this.#badRequest(client, request);
        break;
      case METHOD.refresh:
      case METHOD.createPermission:
        break;
      default:
        return this.#badRequest(client, request);
    }
    const auth = this.#auth.check(now, wall, client, request);
    if (auth.tag === "challenge") {
      const writer = this.#error(request, auth.code);
      writer.realm(RELAY_REALM).nonce(this.#nonces.issue(now, client));
      this.#send(client, writer, auth.code, auth.key);
      return;
    }
    const { username, key } = auth;
    if (request.unknownComprehensionRequired.length > 0) {
      return this.#rejectUnknownAttributes(client, request, key);
    }
    switch (request.method) {
      case METHOD.allocate:
        return this.#handleAllocate(client, request, username, key);
      case METHOD.refresh:
        return this.#handleRefresh(now, client, request, key);
      case METHOD.channelBind:
        return this.#handleChannelBind(now, client, request, key);
      default:
        this.#send(client, this.#success(request), 0, key);
    }
  }

  #handleBinding(client: SocketAddress, request: StunMessage): void {
    if (request.unknownComprehensionRequired.length > 0) {
      return this.#rejectUnknownAttributes(client, request, undefined);
    }
    this.#send(client, this.#success(request).mappedAddress(client), 0, undefined);
  }

  /** RFC 8656 §7.2. */
  #handleAllocate(
    client: SocketAddress,
    request: StunMessage,
    username: string,
    key: Uint8Array,
  ): void {
    for (const pending of this.#pending.values()) {
      if (pending.client.equals(client)) return; // the answer is on its way
    }
    const existing = this.#table.byClient(client);
    if (existing?.transactionId === request.transactionId) {
      this.counters.responses.count(request.method, 0);
      this.#transmits.push({
        source: undefined,
        destination: client,
        payload: existing.response.slice(),
      });
      return;
    }
    if (existing) return this.#reject(client, request, 437, key);
    if (request.requestedTransport !== PROTOCOL_UDP) {
      return this.#reject(client, request, 442, key);
    }
    const { requestedAddressFamily: requested, additionalAddressFamily: additional } = request;
    if (requested !== undefined && additional !== undefined || additional === 4) {
      return this.#badRequest(client, request, key);
    }
    const wanted: Family[] = additional === 6 ? [4, 6] : [requested ?? 4];
    const families = wanted.filter((family) => this.#public.has(family));
    if (families.length === 0) {
      return this.#reject(client, request, 440, key);
    }
    if (request.evenPort === "even-and-next") return this.#reject(client, request, 508, key);
    const soleOf = this.#sharedUsernames.has(username) ? undefined : username;
    if (soleOf !== undefined) this.#freeUser(soleOf);
    const isEven = request.evenPort !== undefined;
    const port = this.#takePort(isEven);
    if (port === undefined) return this.#reject(client, request, 508, key);
    const lifetimeSeconds = grantedLifetime(request.lifetimeSeconds);
    const granted = { families, lifetimeSeconds, isEven, port, attempt: 1 };
    this.#create({ request, client, soleOf, key, ...granted });
  }

  /** RFC 8656 §8.2. */
  #handleRefresh(
    now: Millis,
    client: SocketAddress,
    request: StunMessage,
    key: Uint8Array,
  ): void {
    const allocation = this.#table.byClient(client);
    if (!allocation) return this.#reject(client, request, 437, key);
    let lifetimeSeconds = 0;
    if (request.lifetimeSeconds === 0) this.#free(allocation);
    else {
      lifetimeSeconds = grantedLifetime(request.lifetimeSeconds);
      this.#table.extend(allocation, after(now, lifetimeSeconds * 1000));
    }
    this.#send(client, this.#success(request).lifetime(lifetimeSeconds), 0, key);
  }

  /** RFC 8656 §12.2. */
  #handleChannelBind(
    now: Millis,
    client: SocketAddress,
    request: StunMessage,
    key: Uint8Array,
  ): void {
    const allocation = this.#table.byClient(client);
    if (!allocation) return this.#reject(client, request, 437, key);
    const number = request.channelNumber as ChannelNumber; // judged before
    const peer = request.peerAddress!;
    if (peer.port === 0) return this.#badRequest(client, request, key);
    if (!allocation.families.includes(peer.family)) {
      return this.#reject(client, request, 443, key);
    }
    const verdict = this.#policy.judge(peer);
    if (verdict === "denied") return this.#reject(client, request, 403, key);
    const knownAs = verdict === "own-allocation"
      ? new SocketAddress(this.#public.get(peer.family)!, allocation.port).key
      : undefined;
    if (!this.#table.bind(now, allocation, number, peer, knownAs)) {
      return this.#badRequest(client, request, key);
    }
    this.#send(client, this.#success(request), 0, key);
  }

  // Allocations

  #create(pending: Pending): void {
    const id = this.#nextId++;
    this.#pending.set(id, pending);
    const { port, families } = pending;
    this.#commands.push({ tag: "create-allocation", id, port, families });
  }

  #takePort(isEven: boolean): Port | undefined {
    return isEven ? this.#ports.takeEven() : this.#ports.take();
  }

  /** Ends what this user has, here or on its way. */
  #freeUser(username: string): void {
    const existing = this.#table.soleOf(username);
    if (existing) this.#free(existing);
    for (const [id, pending] of this.#pending) {
      if (pending.soleOf !== username) continue;
      this.#pending.delete(id);
      this.#close(id, pending.port, pending.families);
    }
  }

  #free(allocation: RelayAllocation): void {
    this.#table.remove(allocation);
    this.#release(allocation);
  }

  #release(allocation: RelayAllocation): void {
    this.#close(allocation.id, allocation.port, allocation.families);
  }

  #close(id: number, port: Port, families: readonly Family[]): void {
    this.#ports.giveBack(port);
    this.#commands.push({ tag: "free-allocation", id, port, families });
  }

  // Answers

  #success(request: StunMessage): StunWriter {
    return new StunWriter("success", request.method, request.transactionId).software(
      this.#software,
    );
  }

  #error(request: StunMessage, code: number): StunWriter {
    return new StunWriter("error", request.method, request.transactionId).software(this.#software)
      .errorCode(code);
  }

  #badRequest(client: SocketAddress, request: StunMessage, key?: Uint8Array): void {
    this.#reject(client, request, 400, key);
  }

  #rejectUnknownAttributes(
    client: SocketAddress,
    request: StunMessage,
    key: Uint8Array | undefined,
  ): void {
    const writer = this.#error(request, 420);
    writer.unknownAttributes(request.unknownComprehensionRequired);
    this.#send(client, writer, 420, key);
  }

  #reject(
    client: SocketAddress,
    request: StunMessage,
    code: number,
    key: Uint8Array | undefined,
  ): void {
    this.#send(client, this.#error(request, code), code, key);
  }

  #send(
    destination: SocketAddress,
    writer: StunWriter,
    code: number,
    key: Uint8Array | undefined,
  ): Uint8Array {
    const payload = writer.finish(key === undefined ? {} : { integrityKey: key });
    this.counters.responses.count(writer.method, code);
    this.#transmits.push({ source: undefined, destination, payload });
    return payload;
  }
}

/** RFC 8656 §7.2: at least the default, at most our maximum. */
function grantedLifetime(requestedSeconds: number | undefined): number {
  const wanted = requestedSeconds ?? DEFAULT_LIFETIME_SECONDS;
  return Math.min(Math.max(wanted, DEFAULT_LIFETIME_SECONDS), MAX_LIFETIME_SECONDS);
}
