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
 * Several servers, a worker each, may make one relay: they share the nonce key and have a part of the
 * ports each. Then their owner carries "sibling" packets to the one that has the port, and tells a
 * server by `handleSuperseded` that a user has a newer allocation with another.
 *
 * Deviations from RFC 8656:
 * - no Send and Data indications and no permissions; CREATE_PERMISSION succeeds without effect,
 *   only a bound channel admits traffic;
 * - no RESERVATION-TOKEN and DONT-FRAGMENT (420), no reserving of a next port (508), no TCP;
 * - a dual allocation of which only one family is served is granted without ADDRESS-ERROR-CODE;
 * - an allocation may be deleted with other valid credentials than it was made with (no 441): a client
 *   whose portal gave it new ones would else be locked out of its own port until it expires;
 * - one allocation per username, the newest wins (no 486), unless the username is known to be shared.
 *
 * Owns: what clients are told and granted. Does not own: sockets, clocks.
 * @module
 */

import { readU16 } from "@firezone/core/bytes";
import { type Family, type IpAddress, type Prefix, SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import {
  ATTRIBUTE,
  classOf,
  findAttribute,
  looksLikeStun,
  messageType,
  METHOD,
  parseStunMessage,
  type StunMessage,
} from "@firezone/core/stun";
import type { Transmit } from "@firezone/core/transmit";
import {
  type ChannelNumber,
  LAST_CHANNEL,
  LAST_LEGACY_CHANNEL,
  looksLikeChannelData,
  RELAY_REALM,
  toChannelNumber,
} from "@firezone/core/turn";
import { after, type Millis, type UnixSeconds } from "@firezone/core/units";
import type { AllocationTable } from "./allocation_table.ts";
import {
  Allocator,
  type GrantedAllocation,
  type PendingAllocation,
  type RelayCommand,
} from "./allocator.ts";
import { Authenticator } from "./auth.ts";
import { RelayCounters } from "./counters.ts";
import { DataPath } from "./data_path.ts";
import type { Forwarding } from "./forwarding.ts";
import { Nonces } from "./nonces.ts";
import { PeerPolicy } from "./peer_policy.ts";
import { DEFAULT_PORTS, type PortRange } from "./port_pool.ts";
import { Responder } from "./responder.ts";
import { DEFAULT_BUDGET, ResponseBudget, type ResponseBudgetOptions } from "./response_budget.ts";

/** Lifetime of an allocation that did not ask for one; also the least that is granted. */
export const DEFAULT_LIFETIME_SECONDS = 600;
/** The most that is granted. */
export const MAX_LIFETIME_SECONDS = 3600;

const PROTOCOL_UDP = 17;
const BINDING_REQUEST = messageType("request", METHOD.binding);

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
  /** Where siblings have ports as well: the range of all together. */
  readonly relayPorts?: PortRange | undefined;
  /** 32 bytes that siblings share, so that each knows the nonces of all; drawn unless given. */
  readonly nonceKey?: Uint8Array | undefined;
  /** Addresses of this machine, refused as peers. */
  readonly ownAddresses?: readonly IpAddress[] | undefined;
  /** Peers that are accepted although the built-in policy refuses them. */
  readonly allowedPeers?: readonly Prefix[] | undefined;
  /** Peers that are refused although the built-in policy accepts them. */
  readonly deniedPeers?: readonly Prefix[] | undefined;
  /** How many answers strangers get. */
  readonly budget?: ResponseBudgetOptions | undefined;
  /** SOFTWARE attribute of all answers. */
  readonly software?: string | undefined;
  /** Users who may have several allocations at a time; of all others the newest replaces the last. */
  readonly sharedUsernames?: readonly string[] | undefined;
  /** Whether channels 0x5000 to 0x7FFF of RFC 5766 are served as well. */
  readonly legacyChannels?: boolean | undefined;
}

/** The inside of a {@link RelayServer}, to be looked at by `invariants.ts` and not changed. */
export interface RelayInside {
  /** Allocations whose sockets are open. */
  readonly table: AllocationTable;
  /** Allocations whose sockets are being opened, by id. */
  readonly pending: ReadonlyMap<number, PendingAllocation>;
  /** Ports that nobody has. */
  readonly freePorts: number;
}

/** A TURN server without sockets. */
export class RelayServer {
  /** What went by so far. */
  readonly counters: RelayCounters = new RelayCounters();

  readonly #public: ReadonlyMap<Family, IpAddress>;
  readonly #lastChannel: ChannelNumber;
  readonly #sharedUsernames: ReadonlySet<string>;
  readonly #auth: Authenticator;
  readonly #nonces: Nonces;
  readonly #policy: PeerPolicy;
  readonly #budget: ResponseBudget;
  readonly #responder: Responder;
  readonly #allocator: Allocator;
  readonly #table: AllocationTable;
  readonly #dataPath: DataPath;

  /** A relay without allocations. */
  constructor(options: RelayServerOptions) {
    const { v4, v6 } = options.publicAddresses;
    const served: [Family, IpAddress][] = [];
    if (v4) served.push([4, v4]);
    if (v6) served.push([6, v6]);
    this.#public = new Map(served);
    this.#lastChannel = options.legacyChannels ? LAST_LEGACY_CHANNEL : LAST_CHANNEL;
    this.#sharedUsernames = new Set(options.sharedUsernames);
    this.#nonces = new Nonces(options.nonceKey ?? options.random(32));
    this.#auth = new Authenticator(options.stampSecret, this.#nonces);
    const ports = options.ports ?? DEFAULT_PORTS;
    this.#allocator = new Allocator(ports, options.random);
    this.#table = this.#allocator.table;
    this.#dataPath = new DataPath(this.#table, this.counters, ports, this.#lastChannel);
    this.#policy = new PeerPolicy({
      publicAddresses: served.map(([, ip]) => ip),
      ports: options.relayPorts ?? ports,
      ownAddresses: options.ownAddresses,
      allow: options.allowedPeers,
      deny: options.deniedPeers,
    });
    this.#budget = new ResponseBudget(options.budget ?? DEFAULT_BUDGET, options.random);
    this.#responder = new Responder(options.software ?? "firezone-relay", this.counters);
  }

  /** Number of allocations, those whose sockets are being opened included. */
  get allocationCount(): number {
    return this.#allocator.size;
  }

  /** Number of channels, those in their cool-down included. */
  get channelCount(): number {
    return this.#table.channelCount;
  }

  /** What it knows. */
  get inside(): RelayInside {
    const { table, pending, freePorts } = this.#allocator;
    return { table, pending, freePorts };
  }

  /**
   * Whether a datagram to the listen port is framed as something that we might answer or forward; if
   * not, there is no need to find out whose it is.
   */
  concerns(buf: Uint8Array, start: number, end: number): boolean {
    return looksLikeChannelData(buf, start, end, this.#lastChannel) ||
      looksLikeStun(buf, start, end);
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
      return this.#dataPath.fromClient(now, client, buf, start, end, out);
    }
    // A reply to port 0 cannot be sent.
    if (client.port === 0 || !looksLikeStun(buf, start, end)) this.counters.malformed++;
    else this.#handleStun(now, wall, client, buf, start, end);
    return false;
  }

  /** Says whether more waits on the listen port than a read brings: strangers then get little. */
  noteBacklog(isThere: boolean): void {
    this.#budget.isScarce = isThere;
  }

  /**
   * Takes a datagram that came to an allocation, `[start, end)` of the caller's buffer, or from a
   * sibling's allocation: then `peer` is that one's public address.
   *
   * @returns whether `out` says where to forward it
   */
  handlePeerInput(
    now: Millis,
    peer: SocketAddress,
    allocationPort: number,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    return this.#dataPath.toClient(now, peer.key, allocationPort, start, end, out);
  }

  /** The sockets of "create-allocation" `id` are open. */
  handleAllocationCreated(now: Millis, id: number): void {
    const opened = this.#allocator.takeOpened(id);
    if (opened === undefined) return;
    const { request, client, key, families, lifetimeSeconds, port } = opened;
    const writer = this.#responder.success(request);
    for (const family of families) {
      writer.relayedAddress(new SocketAddress(this.#public.get(family)!, port));
    }
    writer.mappedAddress(client).lifetime(lifetimeSeconds);
    const response = this.#responder.send(client, request, writer, 0, key);
    this.#allocator.add(id, opened, response.slice(), after(now, lifetimeSeconds * 1000));
  }

  /** The sockets of "create-allocation" `id` could not be opened; none of them is. */
  handleAllocationFailed(_now: Millis, id: number): void {
    const refused = this.#allocator.handleFailed(id);
    if (refused) this.#reject(refused.client, refused.request, 508, refused.key);
  }

  /** The user whose only allocation `id` is has made a newer one with a sibling. */
  handleSuperseded(_now: Millis, id: number, username: string): void {
    this.#allocator.handleSuperseded(id, username);
  }

  /** Ends what has expired. */
  handleTimeout(now: Millis): void {
    this.#allocator.handleTimeout(now);
  }

  /** The earliest deadline; the distant past while something is queued. */
  pollTimeout(): Millis {
    return this.#responder.isPending ? 0 as Millis : this.#allocator.nextDeadline;
  }

  /** The next thing to do with sockets. */
  pollCommand(): RelayCommand | undefined {
    return this.#allocator.pollCommand();
  }

  /** The next answer, to be sent from the listen port. */
  pollTransmit(): Transmit | undefined {
    return this.#responder.poll();
  }

  // Requests, in the order in which the RFCs treat them

  #handleStun(
    now: Millis,
    wall: UnixSeconds,
    client: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): void {
    const type = readU16(buf, start);
    if (classOf(type) !== "request") {
      this.counters.unasked++;
      return;
    }
    // In a flood the cheapest way out: nothing has been copied yet.
    if (!this.#mayBeAnswered(now, wall, client, buf, start, end)) return;
    const request = parseStunMessage(buf, start, end);
    if (request === undefined || request.verifyFingerprint() === false) {
      this.counters.malformed++;
      return;
    }
    this.handleTimeout(now);
    this.#handleRequest(now, wall, client, request);
  }

  #handleRequest(
    now: Millis,
    wall: UnixSeconds,
    client: SocketAddress,
    request: StunMessage,
  ): void {
    const { method } = request;
    if (method === METHOD.binding && request.malformedAttribute === undefined) {
      return this.#handleBinding(now, client, request);
    }
    if (!this.#isWellFormed(request)) {
      if (this.#takeBudget(now, client)) this.#badRequest(client, request);
      return;
    }
    const auth = this.#auth.check(wall, client, request);
    if (auth.tag === "challenge") {
      if (!this.#takeBudget(now, client)) return;
      const writer = this.#responder.error(request, auth.code);
      writer.realm(RELAY_REALM).nonce(this.#nonces.issue(wall, client));
      const key = this.#auth.keyFor(request);
      this.#responder.send(client, request, writer, auth.code, key);
      return;
    }
    const { username, key } = auth;
    if (request.unknownComprehensionRequired.length > 0) {
      return this.#responder.rejectAttributes(client, request, key);
    }
    switch (method) {
      case METHOD.allocate:
        return this.#handleAllocate(client, request, username, key);
      case METHOD.refresh:
        return this.#handleRefresh(now, client, request, username, key);
      case METHOD.channelBind:
        return this.#handleChannelBind(now, client, request, username, key);
      default:
        this.#responder.send(client, request, this.#responder.success(request), 0, key);
    }
  }

  /** Whether a request has what its method cannot do without; else it gets 400, whoever sent it. */
  #isWellFormed(request: StunMessage): boolean {
    if (request.malformedAttribute !== undefined) return false;
    switch (request.method) {
      case METHOD.allocate:
        return request.requestedTransport !== undefined;
      case METHOD.channelBind:
        return request.peerAddress !== undefined &&
          toChannelNumber(request.channelNumber ?? 0, this.#lastChannel) !== undefined;
      case METHOD.refresh:
      case METHOD.createPermission:
        return true;
      default:
        return false;
    }
  }

  #handleBinding(now: Millis, client: SocketAddress, request: StunMessage): void {
    if (!this.#takeBudget(now, client)) return;
    if (request.unknownComprehensionRequired.length > 0) {
      return this.#responder.rejectAttributes(client, request);
    }
    const writer = this.#responder.success(request).mappedAddress(client);
    this.#responder.send(client, request, writer, 0, undefined);
  }

  /**
   * Whether a request could get an answer, by a look at its bytes: there is one for a stranger, or it
   * may bring a nonce of ours. Who has an allocation has shown to be there.
   */
  #mayBeAnswered(
    now: Millis,
    wall: UnixSeconds,
    client: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    if (this.#table.byClient(client) || this.#budget.has(now, client.ip)) return true;
    if (readU16(buf, start) !== BINDING_REQUEST) {
      const nonce = findAttribute(buf, start, end, ATTRIBUTE.nonce);
      if (nonce >= 0 && this.#nonces.looksTimely(wall, buf, nonce, readU16(buf, nonce - 2))) {
        return true;
      }
    }
    this.counters.overBudget++;
    return false;
  }

  /** Takes an answer for a stranger, if there is one. */
  #takeBudget(now: Millis, client: SocketAddress): boolean {
    if (this.#table.byClient(client) || this.#budget.take(now, client.ip)) return true;
    this.counters.overBudget++;
    return false;
  }

  /** RFC 8656 §7.2. */
  #handleAllocate(
    client: SocketAddress,
    request: StunMessage,
    username: string,
    key: Uint8Array,
  ): void {
    if (this.#allocator.isWaitedForBy(client)) return; // the answer is on its way
    const existing = this.#table.byClient(client);
    if (existing?.transactionId === request.transactionId) {
      return this.#responder.repeat(client, request, existing.response.slice());
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
    const granted: GrantedAllocation = {
      request,
      client,
      username,
      soleOf: this.#sharedUsernames.has(username) ? undefined : username,
      key,
      families,
      lifetimeSeconds: grantedLifetime(request.lifetimeSeconds),
      isEven: request.evenPort !== undefined,
    };
    if (!this.#allocator.allocate(granted)) this.#reject(client, request, 508, key);
  }

  /** RFC 8656 §8.2. */
  #handleRefresh(
    now: Millis,
    client: SocketAddress,
    request: StunMessage,
    username: string,
    key: Uint8Array,
  ): void {
    const allocation = this.#table.byClient(client);
    if (!allocation) return this.#reject(client, request, 437, key);
    const { requestedAddressFamily: family } = request;
    if (family !== undefined && !allocation.families.includes(family)) {
      return this.#reject(client, request, 443, key);
    }
    let lifetimeSeconds = 0;
    if (request.lifetimeSeconds === 0) this.#allocator.free(allocation);
    else if (allocation.username !== username) return this.#reject(client, request, 441, key);
    else {
      lifetimeSeconds = grantedLifetime(request.lifetimeSeconds);
      this.#table.extend(allocation, after(now, lifetimeSeconds * 1000));
    }
    const writer = this.#responder.success(request).lifetime(lifetimeSeconds);
    this.#responder.send(client, request, writer, 0, key);
  }

  /** RFC 8656 §12.2. */
  #handleChannelBind(
    now: Millis,
    client: SocketAddress,
    request: StunMessage,
    username: string,
    key: Uint8Array,
  ): void {
    const allocation = this.#table.byClient(client);
    if (!allocation) return this.#reject(client, request, 437, key);
    if (allocation.username !== username) return this.#reject(client, request, 441, key);
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
    this.#responder.send(client, request, this.#responder.success(request), 0, key);
  }

  // Answers

  #badRequest(client: SocketAddress, request: StunMessage, key?: Uint8Array): void {
    this.#responder.reject(client, request, 400, key);
  }

  #reject(client: SocketAddress, request: StunMessage, code: number, key: Uint8Array): void {
    this.#responder.reject(client, request, code, key);
  }
}

/** RFC 8656 §7.2: at least the default, at most our maximum. */
function grantedLifetime(requestedSeconds: number | undefined): number {
  const wanted = requestedSeconds ?? DEFAULT_LIFETIME_SECONDS;
  return Math.min(Math.max(wanted, DEFAULT_LIFETIME_SECONDS), MAX_LIFETIME_SECONDS);
}
