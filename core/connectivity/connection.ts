/**
 * One connection to one peer: an ICE agent that finds the path, and a WireGuard tunnel over it.
 *
 *     connecting ── path nominated ──► connected ── silence, ICE gave up, keys expired ──► failed
 *         └──────── no candidate from the peer for 10 s ─────────────────────────────────────┘
 *
 * Packets that come before the tunnel can take them wait in a small ring. Where `idle` is true the
 * path is checked at a slow cadence; any inner packet wakes it.
 *
 * Owns: agent, tunnel, path, buffered packets. Does not own: allocations, which connections share.
 * @module
 */

import { base64, bytesEqual } from "../bytes/mod.ts";
import {
  type Candidate,
  type CandidateKind,
  type Checks,
  IceAgent,
  type IceCredentials,
  type IceEvent,
} from "../ice/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import { ecn } from "../ip/packet.ts";
import { WaitingPackets } from "../ip/waiting_packets.ts";
import type { RandomBytes } from "../random.ts";
import type { StunMessage } from "../stun/mod.ts";
import type { DatagramBatch, Transmit } from "../transmit.ts";
import {
  type Allocation,
  CHANNEL_DATA_HEADER_LENGTH,
  type ChannelNumber,
  writeChannelDataHeader,
} from "../turn/mod.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import { type WireGuardNode, type WireGuardResult, WireGuardTunnel } from "../wireguard/mod.ts";
import { MAX_GUESSES, optimisticCandidates } from "./optimistic.ts";
import { type Path, pathBetween, relayedTransmit, samePath, transmitOver } from "./path.ts";
import { PeerSilence } from "./peer_silence.ts";
import {
  CONNECT_TIMEOUT_MS,
  DISCONNECT_GRACE_MS,
  FIRST_HANDSHAKE_RETRIES,
  FIRST_HANDSHAKE_RETRY_MS,
  ICE_TIMING,
  IDLE_AFTER_MS,
  MAX_BUFFERED_PACKETS,
  NO_CANDIDATES_TIMEOUT_MS,
  REKEY_ATTEMPT_TIME_MS,
  type Role,
} from "./timing.ts";

/** What portal and peers agreed on for one connection; equal parameters mean the same connection. */
export interface ConnectionParameters {
  /** The peer's WireGuard key, 32 bytes. */
  readonly remotePublicKey: Uint8Array;
  /** WireGuard preshared key, 32 bytes. */
  readonly presharedKey: Uint8Array;
  /** Our ICE credentials. */
  readonly localCredentials: IceCredentials;
  /** The peer's ICE credentials. */
  readonly remoteCredentials: IceCredentials;
}

/** What the owner of a connection must know. */
export type ConnectionEvent =
  | { readonly tag: "candidate" | "candidate-invalidated"; readonly candidate: Candidate }
  | { readonly tag: "established" | "path-changed" }
  /** The peer is silent: relays are to be asked whether our own network works ... */
  | { readonly tag: "silent"; readonly askedAt: Millis }
  /** ... and if one has answered since, {@link Connection.giveUp} is due. */
  | { readonly tag: "unheard"; readonly askedAt: Millis }
  | { readonly tag: "failed"; readonly reason: string };

/** A connection, from its authorisation to its end. */
export class Connection {
  // What a packet looks at comes first: it lies side by side in memory then, for the packets of many
  // clients to wait for less of it.
  /** Seals and opens. */
  readonly tunnel: WireGuardTunnel;
  #path: Path | undefined;
  #established = false;
  #idle = false;
  #hasNews = false;
  /** As {@link #heardAt} no whole number at first: V8 then keeps it in place, without garbage. */
  #lastActivity: Millis = -Infinity as Millis;
  /** When an authentic message of the peer last came through the tunnel. */
  #heardAt: Millis = -Infinity as Millis;
  /** A gateway is patient: it cannot ask for another connection. */
  readonly #silence: PeerSilence | undefined;

  /** The peer's id at the portal. */
  readonly peerId: string;
  /** What it was made from. */
  readonly parameters: ConnectionParameters;
  /** The peer's WireGuard key in base64. */
  readonly remotePublicKeyText: string;
  /** Finds the path. */
  readonly agent: IceAgent;
  /** The relay that this connection uses, if any is left. */
  allocation: Allocation | undefined;

  readonly #role: Role;
  readonly #relays = new Map<string, Allocation>();
  readonly #signalled = new Map<string, Candidate>();
  readonly #events: ConnectionEvent[] = [];
  readonly #transmits: Transmit[] = [];
  readonly #buffered = new WaitingPackets(MAX_BUFFERED_PACKETS);
  readonly #handshakes: Uint8Array[] = [];
  #failed = false;
  /** When it was idle last. */
  #wokeAt = -1 as Millis;
  /** Since the path was last seen answering. */
  #isRenewed = false;
  #noCandidatesAt: Millis;
  #guessesLeft = MAX_GUESSES;
  #handshakeRetryAt: Millis = NEVER;
  #handshakeRetriesLeft = FIRST_HANDSHAKE_RETRIES;
  #connectBy: Millis;
  #graceEndsAt: Millis = NEVER;

  /** Begins to connect; local candidates come in through {@link addLocalCandidate}. */
  constructor(
    now: Millis,
    peerId: string,
    role: Role,
    parameters: ConnectionParameters,
    node: WireGuardNode,
    random: RandomBytes,
    checks: Checks,
  ) {
    this.peerId = peerId;
    this.parameters = parameters;
    this.remotePublicKeyText = base64(parameters.remotePublicKey);
    this.#role = role;
    this.#lastActivity = now;
    this.#silence = role === "client" ? new PeerSilence(now) : undefined;
    this.#noCandidatesAt = after(now, NO_CANDIDATES_TIMEOUT_MS);
    this.#connectBy = role === "client" ? after(now, CONNECT_TIMEOUT_MS) : NEVER;
    this.agent = new IceAgent({
      controlling: role === "client",
      local: parameters.localCredentials,
      remote: parameters.remoteCredentials,
      random,
      timing: ICE_TIMING[role].active,
      checks,
    });
    this.tunnel = new WireGuardTunnel({
      node,
      remotePublicKey: parameters.remotePublicKey,
      presharedKey: parameters.presharedKey,
      initiates: role === "client",
      rekeyAttemptTimeMs: REKEY_ATTEMPT_TIME_MS,
      owner: this,
      now,
    });
  }

  /** The nominated path. */
  get path(): Path | undefined {
    return this.#path;
  }

  /** Whether a handshake was completed and the connection has not failed since. */
  get isEstablished(): boolean {
    return this.#established && !this.#failed;
  }

  /**
   * Whether packets went through it lately, not counting one that came just now; still answered when
   * it has failed or is closed.
   */
  wasInUse(before: Millis): boolean {
    return this.#established && !this.#idle && this.#wokeAt < before;
  }

  /** Whether nothing was sent or received for a while. */
  get isIdle(): boolean {
    return this.#idle;
  }

  /**
   * Whether the peer has left checks of the path unanswered long enough to ask the portal what became
   * of it. Once that has led to {@link renew} the answer is no until the path has answered: a path
   * that stays silent has to be given up in the end.
   */
  wantsRenewal(now: Millis): boolean {
    const isSilent = this.#established && this.agent.isSilent(now);
    if (!isSilent) this.#isRenewed = false;
    return isSilent && !this.#isRenewed;
  }

  /** Whether `parameters` are those of this connection. */
  matches(parameters: ConnectionParameters): boolean {
    const mine = this.parameters;
    return bytesEqual(mine.remotePublicKey, parameters.remotePublicKey) &&
      bytesEqual(mine.presharedKey, parameters.presharedKey) &&
      sameCredentials(mine.localCredentials, parameters.localCredentials) &&
      sameCredentials(mine.remoteCredentials, parameters.remoteCredentials);
  }

  /** Offers a local candidate to the agent and, when it is new, to the peer. */
  addLocalCandidate(now: Millis, candidate: Candidate, relay?: Allocation): void {
    if (relay) this.#relays.set(candidate.address.key, relay);
    this.agent.addLocalCandidate(now, candidate);
    this.#silence?.noteHeard(now); // on a new way it has not been asked yet
    if (!this.#signalled.has(candidate.key)) {
      this.#signalled.set(candidate.key, candidate);
      this.#events.push({ tag: "candidate", candidate });
    }
    this.#drainAgent(now);
  }

  /** Takes a local candidate back, here and at the peer. Only relayed ones are ever taken back. */
  invalidateLocalCandidate(now: Millis, candidate: Candidate): void {
    this.agent.invalidateLocal(now, candidate);
    this.#relays.delete(candidate.address.key);
    if (this.#signalled.delete(candidate.key)) {
      this.#events.push({ tag: "candidate-invalidated", candidate });
    }
    if (this.#path?.kind === "relayed" && this.#path.local.equals(candidate.address)) {
      this.#path = undefined;
    }
    this.#drainAgent(now);
  }

  /** Takes a candidate of the peer. */
  addRemoteCandidate(now: Millis, candidate: Candidate): void {
    this.#noCandidatesAt = NEVER;
    this.#silence?.noteHeard(now);
    this.#wake(now);
    const guesses = optimisticCandidates(candidate, this.agent.remoteCandidates);
    for (const one of [candidate, ...guesses.slice(0, this.#guessesLeft)]) {
      this.agent.addRemoteCandidate(now, one);
      this.#admit(now, one.kind, one.address);
    }
    this.#guessesLeft = Math.max(0, this.#guessesLeft - guesses.length);
    this.#drainAgent(now);
  }

  /** The peer took a candidate back. */
  invalidateRemoteCandidate(now: Millis, candidate: Candidate): void {
    this.#silence?.noteHeard(now);
    this.#wake(now);
    this.agent.invalidateRemote(now, candidate);
    this.#drainAgent(now);
  }

  /**
   * The portal named this connection again: the peer may have lost its half, so everything is
   * signalled once more and the keys are made anew.
   */
  renew(now: Millis): void {
    this.#wake(now);
    this.#isRenewed = true;
    for (const candidate of byPriority(this.#signalled.values())) {
      this.#events.push({ tag: "candidate", candidate });
    }
    if (this.#role === "client" && this.#path) this.tunnel.initiate(now);
    this.#drainTunnel(now);
  }

  /** Uses another relay from now on (the first one, or after the last one was lost). */
  useAllocation(now: Millis, allocation: Allocation | undefined): void {
    this.allocation = allocation;
    if (!allocation) return;
    for (const remote of this.agent.remoteCandidates) this.#admit(now, remote.kind, remote.address);
  }

  /** A STUN message from the peer; false when it is not of this connection. */
  handleStun(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    message: StunMessage,
  ): boolean {
    const handled = this.agent.handleStun(now, local, from, message);
    if (handled) {
      this.#noCandidatesAt = NEVER;
      this.#silence?.noteHeard(now);
    }
    this.#drainAgent(now);
    return handled;
  }

  /** A WireGuard datagram of this connection; data ends up in `dst`. */
  handleWireGuard(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
    out: WireGuardResult,
  ): void {
    this.tunnel.handle(now, buf, start, end, dst, dstStart, out);
    if (out.code !== "dropped" && this.#silence !== undefined) {
      if (this.#silence.pollTimeout() === NEVER) this.#hasNews = true; // it listens again
      this.#silence.noteHeard(now);
    }
    if (out.code === "data" || out.code === "keepalive") this.#heardAt = now;
    if (out.code === "data") return this.#noteActivity(now);
    this.#hasNews = true;
    this.#drainTunnel(now);
  }

  /** Seals the inner packet `buf[start, end)` into `batch`, or keeps it until it can. */
  encapsulate(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    batch: DatagramBatch,
  ): void {
    this.#noteActivity(now);
    const path = this.#path;
    if (path === undefined || !this.#established) return this.#keep(buf, start, end);
    const length = this.tunnel.sealedLength(end - start);
    let sealed: number;
    if (path.kind === "direct") {
      const offset = batch.reserve(path.local, path.remote, length, ecn(buf, start));
      sealed = this.tunnel.seal(now, buf, start, end, batch.buffer, offset);
      if (sealed > 0) return batch.commit(sealed);
    } else {
      const channel = this.#channelOf(now, path.allocation, path.remote);
      const server = path.allocation.activeServer;
      if (channel === undefined || server === undefined) return this.#keep(buf, start, end);
      const framed = CHANNEL_DATA_HEADER_LENGTH + length;
      const offset = batch.reserve(undefined, server, framed, ecn(buf, start));
      writeChannelDataHeader(batch.buffer, offset, channel, length);
      const at = offset + CHANNEL_DATA_HEADER_LENGTH;
      sealed = this.tunnel.seal(now, buf, start, end, batch.buffer, at);
      if (sealed > 0) {
        path.allocation.noteChannelData(now, "sent");
        return batch.commit(CHANNEL_DATA_HEADER_LENGTH + sealed);
      }
    }
    // The session has run out: a handshake is under way, the packet waits for it.
    this.#hasNews = true;
    this.#keep(buf, start, end);
    this.#drainTunnel(now);
  }

  /** Sends a packet that is not part of a burst, or keeps it until it can. */
  sendPacket(now: Millis, packet: Uint8Array): void {
    this.#noteActivity(now);
    if (this.#established && this.#sealAndSend(now, packet)) return;
    this.#keep(packet, 0, packet.length);
    this.#drainTunnel(now);
  }

  #sealAndSend(now: Millis, packet: Uint8Array): boolean {
    if (!this.#path) return false;
    const sealed = new Uint8Array(this.tunnel.sealedLength(packet.length));
    const length = this.tunnel.seal(now, packet, 0, packet.length, sealed, 0);
    if (length === 0) return false;
    return this.#send(sealed.subarray(0, length));
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    if (this.#failed) return;
    this.agent.handleTimeout(now);
    this.#drainAgent(now);
    this.tunnel.handleTimeout(now);
    if (now >= this.#handshakeRetryAt) this.#startHandshake(now);
    this.#drainTunnel(now);
    if (now >= this.#noCandidatesAt) return this.#fail("no candidates received from the peer");
    if (now >= this.#connectBy) return this.#fail("the connection took too long to establish");
    if (now >= this.#silenceDueAt()) this.#onSilence(now, this.#silence!);
    if (now >= this.#graceEndsAt) return this.#fail("ICE found no working path");
    if (now >= this.#idleAt()) {
      this.#idle = true;
      this.agent.setTiming(now, ICE_TIMING[this.#role].idle);
      this.#drainAgent(now);
    }
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    this.#hasNews = false;
    if (this.#events.length > 0 || this.#transmits.length > 0) return 0 as Millis;
    if (this.#failed) return NEVER;
    let at = earlier(this.agent.pollTimeout(), this.tunnel.pollTimeout());
    at = earlier(at, this.#noCandidatesAt);
    at = earlier(at, this.#graceEndsAt);
    at = earlier(at, this.#silenceDueAt());
    at = earlier(at, this.#connectBy);
    at = earlier(at, this.#handshakeRetryAt);
    return earlier(at, this.#idleAt());
  }

  /**
   * Whether a packet in or out has left something in a queue, or a deadline before what
   * {@link pollTimeout} answered last; most do not.
   */
  get hasNews(): boolean {
    return this.#hasNews || this.tunnel.hasNews;
  }

  /** The next datagram to send. */
  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  /** The next thing the owner must know. */
  pollEvent(): ConnectionEvent | undefined {
    return this.#events.shift();
  }

  /** The peer is gone; see the event `unheard`. */
  giveUp(): void {
    this.#fail("the peer fell silent");
  }

  /** Lets the cipher contexts go; the connection is not used afterwards. */
  dispose(): void {
    this.#failed = true;
    this.agent.dispose();
    this.tunnel.dispose();
  }

  #idleAt(): Millis {
    if (this.#idle || this.#path === undefined || this.agent.state !== "connected") return NEVER;
    return after(this.#lastActivity, IDLE_AFTER_MS);
  }

  /** An idle connection asks too seldom to know, and one without a path is another's affair. */
  #silenceDueAt(): Millis {
    if (this.#idle || this.#path === undefined) return NEVER;
    return this.#silence?.pollTimeout() ?? NEVER;
  }

  #onSilence(now: Millis, silence: PeerSilence): void {
    const due = silence.takeDue(now);
    if (due === undefined) return;
    const { askedAt } = silence;
    this.#events.push({ tag: due === "ask" ? "silent" : "unheard", askedAt });
  }

  #noteActivity(now: Millis): void {
    this.#lastActivity = now;
    if (this.#idle) this.#wake(now);
  }

  #wake(now: Millis): void {
    this.#lastActivity = now;
    if (!this.#idle) return;
    this.#idle = false;
    this.#hasNews = true;
    this.#wokeAt = now;
    this.#silence?.noteHeard(now);
    this.agent.setTiming(now, ICE_TIMING[this.#role].active);
    this.#drainAgent(now);
  }

  /** Lets the relay take datagrams from an address that may be outside our NAT. */
  #admit(now: Millis, kind: CandidateKind, address: SocketAddress): void {
    if (kind !== "host") this.allocation?.bindChannel(now, address);
  }

  /** The channel to a peer, which is asked for if there is none: data may go before it is confirmed. */
  #channelOf(now: Millis, relay: Allocation, peer: SocketAddress): ChannelNumber | undefined {
    const channel = relay.channelFor(peer);
    if (channel !== undefined) return channel;
    this.#hasNews = true;
    relay.bindChannel(now, peer);
    return relay.channelFor(peer);
  }

  #keep(buf: Uint8Array, start: number, end: number): void {
    this.#buffered.add(buf, start, end);
  }

  #drainAgent(now: Millis): void {
    for (let event; (event = this.agent.pollEvent()) !== undefined;) this.#onIce(now, event);
    for (let transmit; (transmit = this.agent.pollTransmit()) !== undefined;) {
      const relay = transmit.source && this.#relays.get(transmit.source.key);
      if (!relay) this.#transmits.push(transmit);
      else {
        // Without a channel the check is lost; its retransmission finds the channel bound.
        const framed = relayedTransmit(relay, transmit.destination, transmit.payload);
        if (framed) this.#transmits.push(framed);
      }
    }
  }

  #onIce(now: Millis, event: IceEvent): void {
    switch (event.tag) {
      case "nominated":
        return this.#usePath(
          now,
          pathBetween(event.local, event.remote, this.#relays.get(event.local.address.key)),
        );
      case "remote-candidate":
        return this.#admit(now, event.candidate.kind, event.candidate.address);
      case "state":
        this.#graceEndsAt = event.state === "disconnected"
          ? earlier(this.#graceEndsAt, after(now, DISCONNECT_GRACE_MS))
          : NEVER;
    }
  }

  #usePath(now: Millis, path: Path | undefined): void {
    const first = this.#path === undefined;
    if (path === undefined || samePath(this.#path, path)) return;
    this.#path = path;
    this.#wake(now);
    this.#events.push({ tag: "path-changed" });
    for (const datagram of this.#handshakes.splice(0)) this.#send(datagram);
    if (first && !this.#established) this.#startHandshake(now);
    if (this.#established) this.#sendKept(now);
    this.#drainTunnel(now);
  }

  /** One side alone starts, or two handshakes would compete for the session. */
  #startHandshake(now: Millis): void {
    if (this.#role !== "client") return;
    this.tunnel.initiate(now, true);
    this.#handshakeRetryAt = this.#handshakeRetriesLeft-- > 0
      ? after(now, FIRST_HANDSHAKE_RETRY_MS)
      : NEVER;
  }

  #drainTunnel(now: Millis): void {
    for (let datagram; (datagram = this.tunnel.pollTransmit()) !== undefined;) {
      if (this.#path) this.#send(datagram);
      else {
        if (this.#handshakes.length === 4) this.#handshakes.shift();
        this.#handshakes.push(datagram);
      }
    }
    for (let event; (event = this.tunnel.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "handshake-completed":
          this.#onSession(now);
          break;
        case "handshake-failed":
          // With keys that still work it may be a forgery; without any there is nothing to wait for.
          if (!this.tunnel.canSeal(now)) this.#fail("the keys of the two ends do not match");
          break;
        case "expired":
          // Keys that nobody used for nine minutes are gone, but the path is not: the next packet
          // makes new ones.
          if (event.reason === "unanswered" && !this.#isHeard(now)) {
            this.#fail("WireGuard handshake was not answered");
          }
      }
    }
  }

  /** Whether the keys there are still work both ways; then the next packet tries for new ones. */
  #isHeard(now: Millis): boolean {
    return this.tunnel.canSeal(now) && now - this.#heardAt < REKEY_ATTEMPT_TIME_MS;
  }

  #onSession(now: Millis): void {
    if (!this.#established) {
      this.#established = true;
      this.#handshakeRetryAt = NEVER;
      this.#connectBy = NEVER;
      this.#events.push({ tag: "established" });
    }
    this.#sendKept(now);
  }

  /** Sends what waited for a path or for keys; what still cannot go waits on. */
  #sendKept(now: Millis): void {
    for (const packet of this.#buffered.take()) {
      if (!this.#sealAndSend(now, packet)) this.#keep(packet, 0, packet.length);
    }
  }

  #send(datagram: Uint8Array): boolean {
    const transmit = this.#path && transmitOver(this.#path, datagram);
    if (transmit) this.#transmits.push(transmit);
    return transmit !== undefined;
  }

  #fail(reason: string): void {
    if (this.#failed) return;
    this.#failed = true;
    this.#events.push({ tag: "failed", reason });
  }
}

/** Candidates, the best first: the peer should not nominate a worse pair for coming earlier. */
export function byPriority(candidates: Iterable<Candidate>): Candidate[] {
  return [...candidates].sort((a, b) => b.priority - a.priority);
}

function sameCredentials(a: IceCredentials, b: IceCredentials): boolean {
  return a.username === b.username && a.password === b.password;
}
