/**
 * The client's side of one relay: finds out how to reach it, allocates, keeps the allocation alive
 * and binds channels (RFC 8656 §7 to §9, §12).
 *
 *     probing ─ first BINDING answer ─► allocating ─ success ─► allocated ─ half lifetime ─► (refresh)
 *       ▲  │                              │   ▲                     │
 *       │  └─ nobody answers ──► failed ◄─┘   └── 437: no longer ───┤
 *       └──────── the relay stopped answering, or lifetime over ────┘
 *
 * A relay may have an IPv4 and an IPv6 address. Both are asked; the first to answer becomes the
 * active server, the other one only tells our address in that family.
 *
 * Deviations from RFC 8489 and 8656:
 * - The first ALLOCATE carries USERNAME, REALM and MESSAGE-INTEGRITY although no nonce is known yet,
 *   so that the relay can sign its challenge. Servers that refuse this (400) are asked once more
 *   without any of them, as RFC 8489 §9.2.3.1 has it.
 * - Answers to anything but BINDING must be signed. Unsigned challenges (401 to a request without a
 *   nonce, 438) are taken as RFC 8489 §9.2.5 allows, since other servers do not sign these; they
 *   can make us ask again, but not give up at once: after one that is not signed as it should be a
 *   better answer is awaited for a second.
 * - IPv6 is always asked for beside IPv4, and what the relay grants of it is taken.
 * - No permissions: peers are admitted by binding a channel.
 *
 * Owns: requests, nonce, candidates of this relay, channels. Does not own: the data path, which asks
 * for `channelFor` and `peerFor`.
 * @module
 */

import { Candidate } from "../ice/candidate.ts";
import type { Family, SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import { longTermKey } from "../stun/credentials.ts";
import { METHOD, newTransactionId, type StunMessage, StunWriter } from "../stun/mod.ts";
import type { Transmit } from "../transmit.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import { ChannelBindings } from "./channel_bindings.ts";
import type { ChannelNumber } from "./channel_data.ts";
import type { TurnCredentials } from "./credentials.ts";
import { ObservedAddresses } from "./observed_addresses.ts";
import { methodOf, type Question, writeRequest } from "./requests.ts";
import { GIVE_UP_AFTER_MS, type Transaction, Transactions } from "./transactions.ts";

/** A BINDING goes to the active server this long after the last thing we sent it. */
export const KEEP_ALIVE_MS = 25_000;
/** Peers that wait for the allocation; more than these are not remembered. */
export const MAX_QUEUED_PEERS = 100;
/** What {@link Allocation.refresh} gives the relay to answer. */
export const PROBE_BUDGET_MS = 1000;

/** What the relay said this long ago {@link Allocation.verify} takes for granted. */
const RECENT_MS = 1_000;
/** Challenges in a row for one request, and 437 in a row for ALLOCATE, before we stop asking. */
const MAX_ROUNDS = 3;
/** A relay that grants less would have us do nothing but refresh. */
const MIN_LIFETIME_MS = 10_000;

/** The addresses of one relay. */
export interface TurnServers {
  /** Over IPv4. */
  readonly v4?: SocketAddress | undefined;
  /** Over IPv6. */
  readonly v6?: SocketAddress | undefined;
}

/** What an {@link Allocation} is made from. */
export interface AllocationOptions {
  /** The relay's id at the portal. */
  readonly id: string;
  /** At least one address. */
  readonly servers: TurnServers;
  /** Accepted by this relay until they expire. */
  readonly credentials: TurnCredentials;
  /** For transaction ids. */
  readonly random: RandomBytes;
  /** SOFTWARE attribute of ALLOCATE. */
  readonly software: string;
}

/** Why an allocation ended for good. */
export type AllocationFailure =
  /** Neither address answered; STUN may be blocked. */
  | "no-response"
  /** The relay does not accept the credentials. */
  | "authentication"
  /** The relay does not speak what we speak. */
  | "protocol";

/** What the owner must know. */
export type AllocationEvent =
  | {
    readonly tag: "candidate-added" | "candidate-removed";
    /** Server-reflexive or relayed. */
    readonly candidate: Candidate;
  }
  | {
    readonly tag: "host-address";
    /** One of our own addresses, seen when the relay's answer arrived at it. */
    readonly address: SocketAddress;
  }
  | {
    readonly tag: "refused";
    /** What the relay did not do for us; the allocation goes on without. */
    readonly request: "binding" | "allocate" | "refresh" | "channel-bind";
    /** STUN error code. */
    readonly code: number;
    /** The relay's words; not to be trusted. */
    readonly reason: string;
  }
  | { readonly tag: "failed"; readonly reason: AllocationFailure };

type Purpose =
  | { readonly tag: "binding"; readonly keepAlive: boolean }
  | (Question & { readonly proof: Proof; readonly round: number });

/** What a request bore beside its question: credentials with a nonce, without one, or nothing. */
type Proof = "complete" | "without-nonce" | "none";

interface Allocated {
  readonly tag: "allocated";
  readonly active: SocketAddress;
  /** One per family that the relay granted. */
  readonly relayed: readonly Candidate[];
  readonly lifetimeMs: number;
  /** When the relay last said that there is this allocation. */
  readonly confirmedAt: Millis;
  readonly expiresAt: Millis;
  readonly refreshAt: Millis;
}

type State =
  | { readonly tag: "probing" }
  | { readonly tag: "allocating" | "suspended"; readonly active: SocketAddress }
  | Allocated
  | { readonly tag: "failed"; readonly reason: AllocationFailure };

/** An allocation on one relay, from the first probe to its failure. */
export class Allocation {
  /** The relay's id at the portal. */
  readonly id: string;
  readonly #servers: TurnServers;
  readonly #credentials: TurnCredentials;
  readonly #key: Uint8Array;
  readonly #random: RandomBytes;
  readonly #software: string;

  #state: State = { tag: "probing" };
  #nonce: string | undefined;
  #rttMs: number | undefined;
  #keepAliveAt: Millis = NEVER;
  /** 437 answers to ALLOCATE since the last success. */
  #mismatches = 0;
  readonly #observed = new ObservedAddresses();
  readonly #channels = new ChannelBindings();
  readonly #queuedPeers = new Map<string, SocketAddress>();
  readonly #transactions = new Transactions<Purpose>();
  readonly #transmits: Transmit[] = [];
  readonly #events: AllocationEvent[] = [];

  /** Starts to probe the relay's addresses. */
  constructor(options: AllocationOptions, now: Millis) {
    this.id = options.id;
    this.#servers = options.servers;
    this.#credentials = options.credentials;
    const { username, realm, password } = options.credentials;
    this.#key = longTermKey(username, realm, password);
    this.#random = options.random;
    this.#software = options.software;
    this.#probe(now);
  }

  /** The address through which the relay is used, once one has answered. */
  get activeServer(): SocketAddress | undefined {
    return "active" in this.#state ? this.#state.active : undefined;
  }

  /** Smoothed round-trip time of BINDING requests in milliseconds. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Whether the allocation has ended for good. */
  get isFailed(): boolean {
    return this.#state.tag === "failed";
  }

  /** Our address on the relay in this family. */
  relayedAddress(family: Family): SocketAddress | undefined {
    return this.#relayed().find((c) => c.address.family === family)?.address;
  }

  /** Whether `from` is this relay. */
  matches(from: SocketAddress): boolean {
    const own = from.family === 4 ? this.#servers.v4 : this.#servers.v6;
    return own !== undefined && own.equals(from);
  }

  /** Whether an allocation made from these would be the same one. */
  sameAs(servers: TurnServers, credentials: TurnCredentials): boolean {
    const mine = this.#credentials;
    return servers.v4?.key === this.#servers.v4?.key && servers.v6?.key === this.#servers.v6?.key &&
      mine.username === credentials.username && mine.password === credentials.password &&
      mine.realm === credentials.realm;
  }

  /** The channel through which data for `peer` may be sent: bound, or asked for. */
  channelFor(peer: SocketAddress): ChannelNumber | undefined {
    return this.#channels.numberFor(peer);
  }

  /** The peer whose data comes through this channel. */
  peerFor(channel: ChannelNumber): SocketAddress | undefined {
    return this.#channels.peerFor(channel);
  }

  /**
   * Notes that ChannelData went by: what is sent keeps the NAT open, what is received shows that
   * the channel is worth refreshing.
   *
   * @param channel needed for "received" only
   */
  noteChannelData(now: Millis, direction: "sent" | "received", channel?: ChannelNumber): void {
    if (direction === "sent") this.#keepAliveAt = after(now, KEEP_ALIVE_MS);
    else if (channel !== undefined) this.#channels.noteReceived(now, channel);
  }

  /** Asks the relay to relay between us and `peer`, at once or as soon as we have an allocation. */
  bindChannel(now: Millis, peer: SocketAddress): void {
    if (this.#state.tag === "failed") return;
    if (this.#state.tag !== "allocated") {
      if (this.#queuedPeers.size < MAX_QUEUED_PEERS) this.#queuedPeers.set(peer.key, peer);
      return;
    }
    if (this.relayedAddress(peer.family) === undefined) return;
    const number = this.#channels.request(peer);
    if (number !== undefined) this.#ask(now, { tag: "channel-bind", peer, number });
  }

  /** Asks the relay whether it still has our allocation; a relay that does not say so is lost. */
  refresh(now: Millis): void {
    if (this.#state.tag === "suspended") this.#probe(now);
    if (this.#state.tag === "allocated") this.#refresh(now, PROBE_BUDGET_MS);
  }

  /**
   * Asks the relay the same as {@link refresh}, but patiently, and not if it has just said so: for a
   * moment at which much depends on the allocation, although nothing speaks against it.
   */
  verify(now: Millis): void {
    if (this.#state.tag !== "allocated" || now - this.#state.confirmedAt < RECENT_MS) return;
    this.#refresh(now, GIVE_UP_AFTER_MS);
  }

  /** Whether the relay has answered what {@link verify} asked at `askedAt`, or need not be asked. */
  isVerifiedSince(askedAt: Millis): boolean {
    return this.#state.tag === "allocated" && this.#state.confirmedAt > askedAt - RECENT_MS;
  }

  /** Begins anew with the same credentials, for instance after our own address changed. */
  restart(now: Millis): void {
    if (this.#state.tag === "failed" && this.#state.reason === "authentication") return;
    this.#forgetAllocation();
    for (const candidate of this.#observed.takeReflexive()) {
      this.#events.push({ tag: "candidate-removed", candidate });
    }
    this.#queuedPeers.clear();
    this.#transmits.length = 0;
    this.#nonce = undefined;
    this.#mismatches = 0;
    this.#probe(now);
  }

  /**
   * Takes a STUN message.
   *
   * @param local the address of ours at which it arrived
   * @returns false when it is none of ours, so that somebody else may want it
   */
  handleInput(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    message: StunMessage,
  ): boolean {
    if (message.class !== "success" && message.class !== "error") return false;
    const transaction = this.#transactions.get(message.transactionId);
    if (transaction === undefined) return this.matches(from); // late, or forged
    if (!transaction.server.equals(from)) return true;
    const purpose = transaction.purpose;
    if (message.method !== methodOf(purpose.tag)) return true;
    if (purpose.tag === "binding") {
      this.#transactions.delete(transaction.id);
      this.#onBinding(now, local, transaction, purpose.keepAlive, message);
      return true;
    }
    if (!this.#isGenuine(purpose.proof, message)) {
      // A relay that was rebooted knows another password, or none to sign its refusal with.
      const code = message.errorCode?.code;
      if (code === 401 || code === 438) this.#transactions.doubt(now, transaction);
      return true;
    }
    this.#transactions.delete(transaction.id);
    if (message.class === "error") this.#onError(now, purpose, message);
    else this.#onSuccess(now, purpose, message);
    return true;
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    if (this.#state.tag === "failed") return;
    for (let t; (t = this.#transactions.takeGivenUp(now)) !== undefined;) this.#onGivenUp(now, t);
    for (let t; (t = this.#transactions.takeResend(now)) !== undefined;) {
      this.#transmit(t.server, t.payload);
    }
    if (this.#state.tag !== "allocated") return;
    if (now >= this.#state.expiresAt) return this.#startOver(now);
    if (now >= this.#state.refreshAt) {
      this.#state = { ...this.#state, refreshAt: NEVER };
      this.#refresh(now, GIVE_UP_AFTER_MS);
    }
    if (now >= this.#keepAliveAt) this.#sendBinding(now, this.#state.active, true);
    for (let wanted; (wanted = this.#channels.takeDue(now)) !== undefined;) {
      this.#ask(now, { tag: "channel-bind", peer: wanted.peer, number: wanted.number });
    }
  }

  /** The earliest deadline; the distant past while something is queued. */
  pollTimeout(): Millis {
    if (this.#transmits.length > 0 || this.#events.length > 0) return 0 as Millis;
    const due = this.#transactions.next();
    if (this.#state.tag !== "allocated") return due;
    return earlier(
      earlier(due, earlier(this.#state.refreshAt, this.#state.expiresAt)),
      earlier(this.#keepAliveAt, this.#channels.due),
    );
  }

  /** The next datagram for the relay. */
  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  /** The next thing the owner must know. */
  pollEvent(): AllocationEvent | undefined {
    return this.#events.shift();
  }

  #relayed(): readonly Candidate[] {
    return this.#state.tag === "allocated" ? this.#state.relayed : [];
  }

  // Requests

  #probe(now: Millis): void {
    this.#transactions.clear();
    this.#keepAliveAt = NEVER;
    this.#state = { tag: "probing" };
    for (const server of [this.#servers.v4, this.#servers.v6]) {
      if (server) this.#sendBinding(now, server, false);
    }
    if (this.#transactions.isEmpty) this.#fail("no-response");
  }

  #sendBinding(now: Millis, server: SocketAddress, keepAlive: boolean): void {
    if (keepAlive) this.#keepAliveAt = after(now, KEEP_ALIVE_MS);
    const id = newTransactionId(this.#random);
    const payload = new StunWriter("request", METHOD.binding, id).finish();
    const purpose: Purpose = { tag: "binding", keepAlive };
    this.#transactions.start(now, id, purpose, server, payload, GIVE_UP_AFTER_MS);
    this.#transmit(server, payload);
  }

  /** Refreshes unless that is under way already. */
  #refresh(now: Millis, budgetMs: number): void {
    for (const { purpose } of this.#transactions.all()) if (purpose.tag === "refresh") return;
    this.#ask(now, { tag: "refresh", budgetMs });
  }

  #allocate(now: Millis, active: SocketAddress): void {
    this.#state = { tag: "allocating", active };
    this.#ask(now, { tag: "allocate" });
  }

  /** Sends a request to the active server. @param round number of challenges so far */
  #ask(now: Millis, what: Question, round = 0, isAnonymous = false): void {
    const server = this.activeServer;
    if (server === undefined) return;
    const [credentials, key, nonce] = [this.#credentials, this.#key, this.#nonce];
    const proof = isAnonymous ? "none" : nonce === undefined ? "without-nonce" : "complete";
    const id = newTransactionId(this.#random);
    const identity = isAnonymous ? undefined : { credentials, key, nonce };
    const payload = writeRequest(what, id, this.#software, identity);
    const purpose: Purpose = { ...what, proof, round };
    const budgetMs = what.tag === "refresh" ? what.budgetMs : GIVE_UP_AFTER_MS;
    this.#transactions.start(now, id, purpose, server, payload, budgetMs);
    this.#transmit(server, payload);
  }

  #transmit(destination: SocketAddress, payload: Uint8Array): void {
    this.#transmits.push({ source: undefined, destination, payload });
  }

  // Answers

  #isGenuine(proof: Proof, message: StunMessage): boolean {
    if (message.hasIntegrity) return message.verifyIntegrity(this.#key);
    const code = message.errorCode?.code;
    return code === 438 || code === 401 && proof !== "complete" ||
      code === 400 && proof === "without-nonce";
  }

  #onBinding(
    now: Millis,
    local: SocketAddress,
    transaction: Transaction<Purpose>,
    keepAlive: boolean,
    message: StunMessage,
  ): void {
    const server = transaction.server;
    if (message.class === "error") {
      this.#refused("binding", message);
      return this.#onBindingWithoutUse(now);
    }
    if (transaction.sends === 1) this.#noteRtt(now - transaction.startedAt);
    const moved = message.mappedAddress !== undefined &&
      this.#noteAddresses(local, message.mappedAddress);
    if (this.#state.tag === "probing") this.#allocate(now, server);
    // The relay knows us by our address as it sees it: a new one may mean it knows us no longer.
    else if (moved && keepAlive && this.#state.tag === "allocated") {
      this.#refresh(now, GIVE_UP_AFTER_MS);
    }
  }

  #onBindingWithoutUse(now: Millis): void {
    if (this.#state.tag === "probing" && this.#transactions.isEmpty) this.#fail("no-response");
    else if (this.#state.tag === "allocated") this.#refresh(now, GIVE_UP_AFTER_MS);
  }

  /** Whether our address as the relay sees it is another one than before. */
  #noteAddresses(local: SocketAddress, mapped: SocketAddress): boolean {
    const { host, reflexive, moved } = this.#observed.note(local, mapped);
    if (host) this.#events.push({ tag: "host-address", address: host });
    if (reflexive) this.#events.push({ tag: "candidate-added", candidate: reflexive });
    return moved;
  }

  #noteRtt(sampleMs: number): void {
    this.#rttMs = this.#rttMs === undefined ? sampleMs : (this.#rttMs * 7 + sampleMs) / 8;
  }

  #onSuccess(now: Millis, purpose: Question, message: StunMessage): void {
    switch (purpose.tag) {
      case "allocate":
        return this.#onAllocated(now, message);
      case "delete": {
        const active = this.activeServer;
        if (active) this.#allocate(now, active);
        return;
      }
      case "refresh":
        if (this.#state.tag === "allocated") {
          const { active, relayed, lifetimeMs } = this.#state;
          const granted = message.lifetimeSeconds;
          this.#setAllocated(
            now,
            active,
            relayed,
            granted === undefined ? lifetimeMs : granted * 1000,
          );
        }
        return;
      case "channel-bind":
        return this.#channels.handleConfirmed(now, purpose.number);
    }
  }

  #onAllocated(now: Millis, message: StunMessage): void {
    const active = this.activeServer;
    const relayed = message.relayedAddresses;
    if (active === undefined) return;
    if (relayed.length === 0 || message.lifetimeSeconds === undefined) {
      return this.#fail("protocol");
    }
    this.#mismatches = 0;
    const base = message.mappedAddress ?? active;
    const candidates = relayed.map((address) => Candidate.relayed(address, base));
    this.#setAllocated(now, active, candidates, message.lifetimeSeconds * 1000);
    this.#keepAliveAt = after(now, KEEP_ALIVE_MS);
    for (const candidate of candidates) this.#events.push({ tag: "candidate-added", candidate });
    const peers = [...this.#queuedPeers.values()];
    this.#queuedPeers.clear();
    for (const peer of peers) this.bindChannel(now, peer);
  }

  #setAllocated(
    now: Millis,
    active: SocketAddress,
    relayed: readonly Candidate[],
    grantedMs: number,
  ): void {
    const lifetimeMs = Math.max(grantedMs, MIN_LIFETIME_MS);
    this.#state = {
      tag: "allocated",
      active,
      relayed,
      lifetimeMs,
      confirmedAt: now,
      expiresAt: after(now, lifetimeMs),
      refreshAt: after(now, lifetimeMs / 2),
    };
  }

  #onError(
    now: Millis,
    purpose: Exclude<Purpose, { tag: "binding" }>,
    message: StunMessage,
  ): void {
    const code = message.errorCode?.code;
    if (code === 400 && purpose.proof === "without-nonce" && !message.hasIntegrity) {
      return this.#ask(now, purpose, purpose.round, true);
    }
    if (code === 438 || code === 401 && purpose.proof !== "complete") {
      const usable = message.nonce !== undefined && purpose.round < MAX_ROUNDS &&
        (message.realm === undefined || message.realm === this.#credentials.realm);
      if (!usable) return this.#fail("protocol");
      this.#nonce = message.nonce;
      return this.#ask(now, purpose, purpose.round + 1);
    }
    if (code === 401) return this.#fail("authentication");
    if (code === 420) return this.#fail("protocol");
    if (code === 437) return this.#onMismatch(now, purpose);
    this.#refused(purpose.tag === "delete" ? "refresh" : purpose.tag, message);
    switch (purpose.tag) {
      case "allocate":
      case "delete": {
        const active = this.activeServer;
        this.#queuedPeers.clear();
        if (active) this.#state = { tag: "suspended", active };
        return;
      }
      case "refresh":
        return; // what we have lasts until it expires
      case "channel-bind":
        return this.#channels.handleRefused(purpose.number);
    }
  }

  /** 437: what we and the relay think about our allocation differs. */
  #onMismatch(now: Millis, purpose: Question): void {
    const active = this.activeServer;
    if (active === undefined) return;
    if (purpose.tag !== "allocate") {
      if (this.#state.tag === "allocated") {
        this.#forgetAllocation(true);
        this.#transactions.clear();
      }
      return this.#allocate(now, active);
    }
    if (++this.#mismatches > MAX_ROUNDS) return this.#fail("protocol");
    // The relay holds an allocation of an earlier life of ours on this address.
    this.#ask(now, { tag: "delete" });
  }

  #refused(request: "binding" | "allocate" | "refresh" | "channel-bind", message: StunMessage) {
    const { code, reason } = message.errorCode ?? { code: 0, reason: "no error code" };
    this.#events.push({ tag: "refused", request, code, reason });
  }

  // Loss

  #onGivenUp(now: Millis, transaction: Transaction<Purpose>): void {
    const { purpose, server } = transaction;
    if (this.#state.tag === "probing") {
      if (this.#transactions.isEmpty) this.#fail("no-response");
    } else if (this.#state.tag === "allocating" && purpose.tag !== "binding") {
      // It answers BINDING alone: probing once more would lead here again.
      this.#fail(transaction.isDoubtful ? "authentication" : "no-response");
    } else if (this.#state.tag === "allocated" && this.#state.active.equals(server)) {
      this.#startOver(now);
    }
  }

  /** The relay is lost as it was; its other address, or a later answer, may bring it back. */
  #startOver(now: Millis): void {
    this.#forgetAllocation(true);
    this.#probe(now);
  }

  #fail(reason: AllocationFailure): void {
    this.#forgetAllocation();
    this.#transactions.clear();
    this.#queuedPeers.clear();
    this.#transmits.length = 0;
    this.#state = { tag: "failed", reason };
    this.#events.push({ tag: "failed", reason });
  }

  /** @param keepPeers whether the next allocation is to bind channels for the same peers */
  #forgetAllocation(keepPeers = false): void {
    for (const candidate of this.#relayed()) {
      this.#events.push({ tag: "candidate-removed", candidate });
    }
    if (keepPeers) {
      for (const peer of this.#channels.peers.slice(0, MAX_QUEUED_PEERS)) {
        this.#queuedPeers.set(peer.key, peer);
      }
    }
    this.#channels.clear();
  }
}
