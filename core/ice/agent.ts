/**
 * An ICE agent: tries all ways between two ends, settles on the best that works, and keeps watching.
 *
 *     checking ── a pair is nominated and answers ──► connected ── it falls silent ──► disconnected
 *        ▲  └── all pairs failed ─────────────────────────────────────────────────────►   │
 *        └── new candidates, or other pairs to try ────────────────── an answer ◄─────────┘
 *
 * Spec: RFC 8445 with trickled candidates (RFC 8838) and consent (RFC 7675: the checks of the
 * nominated pair). What we do otherwise:
 * - No pacing (Ta is zero) but a bound on the checks per tick, for there are few pairs.
 * - Nomination never ends. The controlling side nominates the first pair that works, so that traffic
 *   can flow, and another one whenever a better one works; so traffic moves from a relay to the
 *   direct path. A nominated pair that falls silent gives way to one that answers after a few checks
 *   already, well before it is given up.
 * - The controlled side uses the best of the pairs that the peer nominates. A check without
 *   USE-CANDIDATE ends a nomination, and so do three nominations of another pair: peers may leave a
 *   nomination standing when they move to a better pair, but not when they move to a worse one.
 * - USE-CANDIDATE is in every check of the nominated pair, and the controlling side sends data on it
 *   without waiting for the answer.
 * - Local peer-reflexive candidates are not kept: what matters of a local address is its base.
 * - Pairs that worked once are checked at a low rate after their end, so that traffic returns.
 *
 * Owns: pairs, nomination, role. Does not own: sockets and relays; the source of a transmit may be a
 * relayed address, which the owner wraps.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import { METHOD, newTransactionId, type StunMessage } from "../stun/mod.ts";
import type { Transmit } from "../transmit.ts";
import { after, type Millis } from "../units.ts";
import { BindingCodec, type IceCredentials } from "./binding.ts";
import { Candidate } from "./candidate.ts";
import { LocalCandidates, RemoteCandidates } from "./candidates.ts";
import { Checklist } from "./checklist.ts";
import { Checks } from "./checks.ts";
import type { CandidatePair } from "./pair.ts";
import { type IceTiming, pairTimeoutMs, sameTiming } from "./timing.ts";

/** Checks that leave in one tick. */
const MAX_CHECKS_PER_TICK = 40;
/** When the rest of them follow. */
const TICK_MS = 10;
/** Checks by which the controlling side repeats a nomination, so that a move to a worse pair counts. */
const REPEATED_NOMINATIONS = 2;

/** Whether there is a path. */
export type IceState = "checking" | "connected" | "disconnected";

/** What the owner must know. */
export type IceEvent =
  | {
    /** Data goes this way from now on. */
    readonly tag: "nominated";
    /** Its base (or relayed address) is where to send from. */
    readonly local: Candidate;
    /** Its address is where to send to. */
    readonly remote: Candidate;
  }
  | { readonly tag: "state"; readonly state: IceState }
  | {
    /** A check came from an address that nobody had named. */
    readonly tag: "remote-candidate";
    /** Peer-reflexive. */
    readonly candidate: Candidate;
  };

/** The way that data goes. */
export interface NominatedPair {
  /** Its base (or relayed address) is where to send from. */
  readonly local: Candidate;
  /** Its address is where to send to. */
  readonly remote: Candidate;
  /** Smoothed round-trip time of the checks, in milliseconds. */
  readonly rttMs: number | undefined;
}

/** What an {@link IceAgent} is made from. */
export interface IceAgentOptions {
  /** Whether this end decides which pair is used. */
  readonly controlling: boolean;
  /** Ours. */
  readonly local: IceCredentials;
  /** The peer's. */
  readonly remote: IceCredentials;
  /** For transaction ids and the tie-breaker. */
  readonly random: RandomBytes;
  /** How patient to be, until {@link IceAgent.setTiming}. */
  readonly timing: IceTiming;
  /** Shared by agents whose answers come in at one place; its own if left out. */
  readonly checks?: Checks;
}

/** Messages that were not taken, by reason. */
export interface IceDrops {
  /** USERNAME names others, or the answer is to nothing we asked. */
  stranger: number;
  /** MESSAGE-INTEGRITY is missing or wrong. */
  forged: number;
  /** Attributes are broken, missing, or do not belong. */
  malformed: number;
  /** Came in at an address that is no local candidate, or an answer from another than was asked. */
  misplaced: number;
}

/** See the head of this file. */
export class IceAgent {
  /** Messages that were not taken so far, by reason. */
  readonly drops: IceDrops = { stranger: 0, forged: 0, malformed: 0, misplaced: 0 };
  /** USERNAME of requests for this agent: our user fragment and the peer's (§7.2.2). */
  readonly username: string;
  readonly #remoteUfrag: string;
  readonly #codec: BindingCodec;
  readonly #random: RandomBytes;
  readonly #locals = new LocalCandidates();
  readonly #remotes = new RemoteCandidates();
  readonly #checks: Checks;
  readonly #checklist: Checklist;
  readonly #transmits: Transmit[] = [];
  readonly #events: IceEvent[] = [];
  #controlling: boolean;
  #tieBreaker: bigint;
  #timing: IceTiming;
  #timeoutMs: number;
  #state: IceState = "checking";
  #nominated: CandidatePair | undefined;
  /** Nominations by the peer so far. */
  #nominations = 0;
  #hadPath = false;
  #now: Millis = 0 as Millis;
  /** The earliest deadline of the pairs; undefined when something has changed since. */
  #deadline: Millis | undefined;

  /** An agent that waits for candidates. */
  constructor(options: IceAgentOptions) {
    this.username = `${options.local.username}:${options.remote.username}`;
    this.#remoteUfrag = options.remote.username;
    this.#codec = new BindingCodec(options.local, options.remote);
    this.#random = options.random;
    this.#controlling = options.controlling;
    this.#tieBreaker = drawTieBreaker(options.random);
    this.#timing = options.timing;
    this.#timeoutMs = pairTimeoutMs(options.timing);
    this.#checks = options.checks ?? new Checks();
    this.#checklist = new Checklist(this.#checks);
  }

  /** Whether there is a path. */
  get state(): IceState {
    return this.#state;
  }

  /** Whether this end decides; a role conflict may change it. */
  get controlling(): boolean {
    return this.#controlling;
  }

  /** The way that data goes; while `disconnected`, the last one. */
  get nominated(): NominatedPair | undefined {
    const pair = this.#nominated;
    return pair && { local: pair.local, remote: pair.remote, rttMs: pair.rttMs };
  }

  /** Our candidates, without those that say nothing beyond others. */
  get localCandidates(): readonly Candidate[] {
    return this.#locals.all();
  }

  /** The peer's candidates, named or learned. */
  get remoteCandidates(): readonly Candidate[] {
    return this.#remotes.all();
  }

  /**
   * Whether the path has left checks unanswered long enough to doubt it: well before it is given up,
   * and before another path that answers takes over.
   */
  isSilent(now: Millis): boolean {
    if (this.#state === "disconnected") return true;
    return this.#nominated?.isSilent(now) ?? false;
  }

  /** Adds one of our candidates. @returns false when it adds nothing and need not be signalled */
  addLocalCandidate(now: Millis, candidate: Candidate): boolean {
    this.#touch(now);
    if (!this.#locals.add(candidate)) return false;
    const local = this.#locals.forBase(candidate.base)!;
    this.#rebase(local);
    for (const remote of this.#remotes.all()) this.#form(now, local, remote);
    this.#settle(now);
    return true;
  }

  /**
   * Adds a candidate of the peer. One that is known already has its failed pairs tried again.
   *
   * @returns false when it is of another generation (its `ufrag` says so) or there are too many
   */
  addRemoteCandidate(now: Millis, candidate: Candidate): boolean {
    this.#touch(now);
    if (candidate.ufrag !== undefined && candidate.ufrag !== this.#remoteUfrag) return false;
    const remote = this.#remotes.add(candidate);
    if (!remote) return false;
    for (const pair of this.#checklist.pairs()) {
      if (!pair.remote.address.equals(remote.address)) continue;
      pair.remote = remote;
      pair.updatePriority(this.#controlling);
      if (pair.state === "failed") pair.restart(now);
      else if (pair.state === "lost") pair.hasten(now);
    }
    for (const local of this.#locals.perBase()) this.#form(now, local, remote);
    this.#settle(now);
    return true;
  }

  /** Takes back one of our candidates, found by kind and address. */
  invalidateLocal(now: Millis, candidate: Candidate): void {
    this.#touch(now);
    for (const removed of this.#locals.remove(candidate)) {
      const heir = this.#locals.forBase(removed.base);
      if (heir) this.#rebase(heir);
      else this.#removePairs((pair) => pair.local.base.equals(removed.base));
    }
    this.#settle(now);
  }

  /** The peer takes back a candidate, found by its address. */
  invalidateRemote(now: Millis, candidate: Candidate): void {
    this.#touch(now);
    if (!this.#remotes.remove(candidate)) return;
    this.#removePairs((pair) => pair.remote.address.equals(candidate.address));
    this.#settle(now);
  }

  /** Adopts another timing at once; pairs that were silent by the old one get a fresh chance. */
  setTiming(now: Millis, timing: IceTiming): void {
    this.#touch(now);
    if (sameTiming(timing, this.#timing)) return;
    this.#timing = timing;
    this.#timeoutMs = pairTimeoutMs(timing);
    for (const pair of this.#checklist.pairs()) {
      pair.applyTiming(now, timing, pair === this.#nominated);
    }
  }

  /**
   * Takes a STUN message.
   *
   * @param local our host or relayed address at which it came in
   * @param from its sender, as we or our relay saw it
   * @returns false when it is none of ours; it is counted in {@link drops} then
   */
  handleStun(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    message: StunMessage,
  ): boolean {
    this.#touch(now);
    if (message.method !== METHOD.binding) return this.#drop("stranger");
    switch (message.class) {
      case "request":
        return this.#handleRequest(now, local, from, message);
      case "indication":
        // A keep-alive without credentials: it says nothing that we could believe (§11).
        return this.#drop("stranger");
      default:
        return this.#handleResponse(now, local, from, message);
    }
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#touch(now);
    for (const pair of [...this.#checklist.pairs()]) {
      if (now >= pair.failsAt(this.#timeoutMs)) this.#giveUp(now, pair);
    }
    this.#settle(now);
    let sent = 0;
    for (const pair of this.#checklist.due(now, this.#nominated)) {
      if (sent++ < MAX_CHECKS_PER_TICK) this.#sendCheck(now, pair);
      else pair.postpone(after(now, TICK_MS));
    }
    // A pair that has become suspect may give way to another.
    if (sent > 0) this.#settle(now);
  }

  /** The earliest deadline; not in the future while something is queued. */
  pollTimeout(): Millis {
    if (this.#transmits.length > 0 || this.#events.length > 0) return this.#now;
    this.#deadline ??= this.#checklist.next(this.#timeoutMs);
    return this.#deadline;
  }

  /** The next datagram to send; its source is a base or a relayed address of ours. */
  pollTransmit(): Transmit | undefined {
    return this.#transmits.shift();
  }

  /** The next thing the owner must know. */
  pollEvent(): IceEvent | undefined {
    return this.#events.shift();
  }

  /** Ends all checks; the agent is not used afterwards. */
  dispose(): void {
    this.#checklist.clear();
    this.#nominated = undefined;
  }

  /** Every input passes here: deadlines may change, and time goes on. */
  #touch(now: Millis): void {
    this.#now = now;
    this.#deadline = undefined;
  }

  #drop(reason: keyof IceDrops): false {
    this.drops[reason]++;
    return false;
  }

  /** §7.3. */
  #handleRequest(
    now: Millis,
    address: SocketAddress,
    from: SocketAddress,
    request: StunMessage,
  ): boolean {
    const verdict = this.#codec.judgeRequest(request);
    if (verdict !== "ours") return this.#drop(verdict);
    const local = this.#locals.forBase(address);
    if (!local || local.address.family !== from.family) return this.#drop("misplaced");
    if (request.unknownComprehensionRequired.length > 0) {
      this.#send(address, from, this.#codec.writeUnknownAttributes(request));
      return true;
    }
    if (!this.#settleRole(now, request)) {
      this.#send(address, from, this.#codec.writeRoleConflict(request));
      return true;
    }
    this.#send(address, from, this.#codec.writeSuccess(request, from));
    const remote = this.#remotes.find(from) ?? this.#learn(from, request.priority!);
    const pair = remote && this.#form(now, local, remote);
    if (pair) {
      pair.trigger(now);
      if (!this.#controlling) this.#noteNomination(pair, request.useCandidate);
    }
    this.#settle(now);
    return true;
  }

  /** Learns a peer-reflexive candidate (§7.3.1.3), unless the peer took that address back. */
  #learn(address: SocketAddress, priority: number): Candidate | undefined {
    if (this.#remotes.wasRemoved(address)) return undefined;
    const candidate = this.#remotes.add(Candidate.peerReflexive(address, priority));
    if (candidate) this.#events.push({ tag: "remote-candidate", candidate });
    return candidate;
  }

  /**
   * Finds out who controls when both ends think they do (§7.3.1.1).
   *
   * @returns false when the sender has to give way
   */
  #settleRole(now: Millis, request: StunMessage): boolean {
    const theirs = this.#controlling ? request.iceControlling : request.iceControlled;
    if (theirs === undefined) return true;
    const weControl = this.#tieBreaker >= theirs;
    if (weControl === this.#controlling) return false;
    this.#setRole(now, weControl);
    return true;
  }

  #setRole(now: Millis, controlling: boolean): void {
    this.#controlling = controlling;
    for (const pair of this.#checklist.pairs()) {
      pair.updatePriority(controlling);
      pair.withdrawNomination();
    }
    if (controlling) this.#nominated?.hasten(now);
  }

  #noteNomination(pair: CandidatePair, isNominated: boolean): void {
    if (isNominated) pair.noteNomination(++this.#nominations);
    else pair.withdrawNomination();
  }

  /** §7.2.5. */
  #handleResponse(
    now: Millis,
    address: SocketAddress,
    from: SocketAddress,
    response: StunMessage,
  ): boolean {
    const check = this.#checks.get(response.transactionId);
    if (check?.agent !== this) return this.#drop("stranger");
    const verdict = this.#codec.judgeResponse(response);
    if (verdict !== "ours") return this.#drop(verdict);
    const { pair } = check;
    // What does not come back the way it went proves nothing about that way (§7.2.5.2.1).
    const isSymmetric = pair.remote.address.equals(from) && pair.local.base.equals(address);
    if (!isSymmetric) return this.#drop("misplaced");
    this.#checklist.endCheck(response.transactionId, check);
    if (response.class === "success") {
      pair.noteAnswer(now, check.sentAt, this.#timing);
    } else if (response.errorCode?.code === 487 && check.controlling === this.#controlling) {
      this.#setRole(now, !this.#controlling);
      this.#tieBreaker = drawTieBreaker(this.#random);
      pair.hasten(now);
    }
    this.#settle(now);
    return true;
  }

  #form(now: Millis, local: Candidate, remote: Candidate): CandidatePair | undefined {
    if (local.base.family !== remote.address.family) return undefined;
    return this.#checklist.form(now, local, remote, this.#controlling, this.#nominated);
  }

  /** Lets the pairs of a base stand for another local candidate. */
  #rebase(local: Candidate): void {
    for (const pair of this.#checklist.pairs()) {
      if (!pair.local.base.equals(local.base)) continue;
      pair.local = local;
      pair.updatePriority(this.#controlling);
    }
  }

  #removePairs(isRemoved: (pair: CandidatePair) => boolean): void {
    for (const pair of [...this.#checklist.pairs()]) {
      if (!isRemoved(pair)) continue;
      this.#checklist.remove(pair);
      if (pair === this.#nominated) this.#nominated = undefined;
    }
  }

  #giveUp(now: Millis, pair: CandidatePair): void {
    pair.giveUp(now, this.#timing, pair === this.#nominated);
    if (pair !== this.#nominated) this.#forgetLearned(pair);
  }

  /** A mapping of the peer's NAT that is gone does not come back: nothing to wait for. */
  #forgetLearned(pair: CandidatePair): void {
    if (pair.remote.kind !== "prflx" || pair.isPossible) return;
    this.#checklist.remove(pair);
    for (const other of this.#checklist.pairs()) if (other.remote === pair.remote) return;
    this.#remotes.forget(pair.remote);
  }

  #sendCheck(now: Millis, pair: CandidatePair): void {
    const id = newTransactionId(this.#random);
    const isNominated = pair === this.#nominated;
    const controlling = this.#controlling;
    this.#checklist.addCheck(id, { agent: this, pair, sentAt: now, controlling });
    const chance = parseInt(id.slice(0, 2), 16) / 256; // an id is random
    pair.noteSent(now, this.#timing, isNominated, chance);
    const payload = this.#codec.writeCheck(id, {
      controlling,
      tieBreaker: this.#tieBreaker,
      priority: pair.local.checkPriority,
      useCandidate: controlling && isNominated,
    });
    this.#send(pair.local.base, pair.remote.address, payload);
  }

  #send(source: SocketAddress, destination: SocketAddress, payload: Uint8Array): void {
    this.#transmits.push({ source, destination, payload });
  }

  /** Draws the conclusions from what has changed: which pair is used, and in which state we are. */
  #settle(now: Millis): void {
    const previous = this.#nominated;
    const pair = this.#controlling ? this.#choose() : this.#follow();
    if (pair && pair !== previous) {
      this.#nominated = pair;
      this.#hadPath = true;
      if (this.#controlling) pair.insist(now, previous ? REPEATED_NOMINATIONS : 0);
      if (previous) this.#forgetLearned(previous);
      this.#events.push({ tag: "nominated", local: pair.local, remote: pair.remote });
    }
    const state = this.#evaluate();
    if (state === this.#state) return;
    this.#state = state;
    this.#events.push({ tag: "state", state });
  }

  /** The pair that a controlling agent nominates. */
  #choose(): CandidatePair | undefined {
    let best = this.#nominated?.state === "succeeded" ? this.#nominated : undefined;
    for (const pair of this.#checklist.pairs()) {
      if (pair.state === "succeeded" && (!best || isBetter(pair, best))) best = pair;
    }
    return best;
  }

  /** The pair that a controlled agent uses: the peer's choice, or any that works once that is lost. */
  #follow(): CandidatePair | undefined {
    const nominated = [...this.#checklist.pairs()].filter((pair) =>
      pair.state === "succeeded" && pair.isNominatedByPeer
    );
    const settled = Math.max(0, ...nominated.map((pair) => pair.thirdNewestNomination));
    let best: CandidatePair | undefined;
    for (const pair of nominated) {
      if (pair.newestNomination < settled) continue;
      if (!best || pair.priority > best.priority) best = pair;
    }
    if (best) return best;
    if (this.#nominated?.state === "succeeded") return this.#nominated;
    return this.#hadPath ? this.#choose() : undefined;
  }

  #evaluate(): IceState {
    if (this.#nominated?.state === "succeeded") return "connected";
    for (const pair of this.#checklist.pairs()) if (pair.isPossible) return "checking";
    // Before there is anything to try, nothing has failed.
    const isBeginning = this.#checklist.size === 0 && this.#state === "checking";
    return isBeginning ? "checking" : "disconnected";
  }
}

/** Whether a controlling agent should use `a` instead of `b`; both have succeeded. */
function isBetter(a: CandidatePair, b: CandidatePair): boolean {
  if (a.isSuspect !== b.isSuspect) return b.isSuspect && a.answeredAt > b.silentSince;
  return a.priority > b.priority;
}

function drawTieBreaker(random: RandomBytes): bigint {
  return random(8).reduce((value, byte) => value << 8n | BigInt(byte), 0n);
}
