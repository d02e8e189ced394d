/**
 * A candidate pair: a way on which checks are made, and what they showed.
 *
 *     waiting ── check sent ──► in-progress ── answer ──► succeeded ◄── answer ── lost
 *        ▲                           │                        └──── silence ────────▲
 *        └── check of the peer ── failed ◄── silence
 *
 * Spec: RFC 8445 §6.1.2.3 and §6.1.2.6. Deviations: no frozen state, since there is one data stream;
 * a pair that once worked is `lost` instead of failed, and goes on being checked at a low rate, so
 * that traffic returns to it.
 * Owns: state and deadlines of one pair. Does not own: messages, and which pair is nominated.
 * @module
 */

import { after, earlier, type Millis, NEVER } from "../units.ts";
import type { Candidate } from "./candidate.ts";
import { type IceTiming, retransmitDelayMs } from "./timing.ts";

/** See the picture above. */
export type PairState = "waiting" | "in-progress" | "succeeded" | "failed" | "lost";

/** A check of the peer repeats ours at once, but not sooner after it than this. */
const TRIGGER_SPACING_MS = 20;
/** A pair is suspect after so many checks without an answer ... */
const SUSPECT_AFTER_CHECKS = 4;
/** ... over at least this time. */
const SUSPECT_AFTER_MS = 2_000;
/** A pair is silent after so many checks without an answer ... */
const SILENT_AFTER_CHECKS = 3;
/** ... over at least this time, and so many round trips. */
const SILENT_AFTER_MS = 900;
const SILENT_AFTER_ROUND_TRIPS = 3;
/** A lost pair is checked so many times less often than one that answers. */
const LOST_SLOWDOWN = 4;
/**
 * An answered pair is checked again up to this share sooner than it must be, by chance: a gateway whose
 * clients begin to talk at the same moment would else have to answer all of them at once, for ever
 * (RFC 7675 §5.1).
 */
const MAX_EARLINESS = 0.2;
/** More than this spreads them no better, and idle connections shall not wake anyone for it. */
const MAX_EARLINESS_MS = 1_000;

/** See the head of this file. */
export class CandidatePair {
  /** Base of the local and address of the remote candidate; unique in a checklist. */
  readonly key: string;
  /** Ours; its base is where checks leave from. */
  local: Candidate;
  /** The peer's. */
  remote: Candidate;
  /** §6.1.2.3. */
  priority = 0n;
  /** Transaction ids of checks that have no answer yet, oldest first. */
  readonly inFlight: string[] = [];
  /** Places in the order of the peer's nominations, the newest first; at most three. */
  #nominations: readonly number[] = [];

  #state: PairState = "waiting";
  #dueAt: Millis;
  #sentAt: Millis = -Infinity as Millis;
  #silentSince: Millis = NEVER;
  #answeredAt: Millis = -Infinity as Millis;
  /** Checks since the last answer, or since the peer's last check. */
  #sends = 0;
  #isSuspect = false;
  /** Checks that follow the next answers without the usual wait. */
  #hurried = 0;
  #rttMs: number | undefined;
  /** Of the last check: how much sooner than it must the one after it comes, 0 to 1. */
  #chance = 0;

  /** A pair whose first check is due at once. */
  constructor(now: Millis, local: Candidate, remote: Candidate, controlling: boolean) {
    this.key = pairKey(local, remote);
    this.local = local;
    this.remote = remote;
    this.#dueAt = now;
    this.updatePriority(controlling);
  }

  /** Where the pair is in its life. */
  get state(): PairState {
    return this.#state;
  }

  /** Whether it may still turn out to work, or does. */
  get isPossible(): boolean {
    return this.#state !== "failed" && this.#state !== "lost";
  }

  /** When its next check is due. */
  get dueAt(): Millis {
    return this.#dueAt;
  }

  /** Since the first check that nobody answered; {@link NEVER} while it answers. */
  get silentSince(): Millis {
    return this.#silentSince;
  }

  /** When the last answer came. */
  get answeredAt(): Millis {
    return this.#answeredAt;
  }

  /** Whether it works by what we know, but has been silent for a while. */
  get isSuspect(): boolean {
    return this.#isSuspect;
  }

  /** Whether checks go without an answer for longer than some of them being lost explains. */
  isSilent(now: Millis): boolean {
    const patienceMs = Math.max(SILENT_AFTER_MS, SILENT_AFTER_ROUND_TRIPS * (this.#rttMs ?? 0));
    return this.#sends >= SILENT_AFTER_CHECKS && now - this.#silentSince >= patienceMs;
  }

  /** Smoothed round-trip time in milliseconds. */
  get rttMs(): number | undefined {
    return this.#rttMs;
  }

  /** Whether the peer nominates it. */
  get isNominatedByPeer(): boolean {
    return this.#nominations.length > 0;
  }

  /** Place of the peer's newest nomination of it; 0 without one. */
  get newestNomination(): number {
    return this.#nominations[0] ?? 0;
  }

  /** Place of the last but two; 0 with fewer. */
  get thirdNewestNomination(): number {
    return this.#nominations[2] ?? 0;
  }

  /** The peer nominates it. @param place later ones are greater */
  noteNomination(place: number): void {
    this.#nominations = [place, ...this.#nominations.slice(0, 2)];
  }

  /** The peer nominates it no longer. */
  withdrawNomination(): void {
    this.#nominations = [];
  }

  /** When it is given up unless an answer comes. */
  failsAt(timeoutMs: number): Millis {
    return this.isPossible ? after(this.#silentSince, timeoutMs) : NEVER;
  }

  /** Recomputes the priority after a change of role or candidates (§6.1.2.3). */
  updatePriority(controlling: boolean): void {
    const g = BigInt(controlling ? this.local.priority : this.remote.priority);
    const d = BigInt(controlling ? this.remote.priority : this.local.priority);
    this.priority = ((g < d ? g : d) << 32n) + 2n * (g > d ? g : d) + (g > d ? 1n : 0n);
  }

  /**
   * A check leaves now.
   *
   * @param chance 0 to 1, random: how much sooner than `maxRtoMs` the next one leaves if this one is
   *   answered
   */
  noteSent(now: Millis, timing: IceTiming, isNominated: boolean, chance = 0): void {
    this.#sentAt = now;
    this.#chance = chance;
    if (this.#state === "lost") {
      this.#dueAt = after(now, lostIntervalMs(timing, isNominated));
      return;
    }
    if (this.#state === "waiting") this.#state = "in-progress";
    this.#sends++;
    this.#silentSince = earlier(this.#silentSince, now);
    this.#isSuspect = this.#sends >= SUSPECT_AFTER_CHECKS &&
      now - this.#silentSince >= SUSPECT_AFTER_MS;
    this.#dueAt = this.#sends > timing.retransmits
      ? NEVER
      : after(now, retransmitDelayMs(timing, this.#sends));
  }

  /** The answer to a check came that left at `sentAt`. */
  noteAnswer(now: Millis, sentAt: Millis, timing: IceTiming): void {
    const sample = now - sentAt;
    this.#rttMs = this.#rttMs === undefined ? sample : (this.#rttMs * 7 + sample) / 8;
    this.#state = "succeeded";
    this.#answeredAt = now;
    this.#silentSince = NEVER;
    this.#sends = 0;
    this.#isSuspect = false;
    this.#dueAt = this.#usualDueAt(timing);
    if (this.#hurried > 0) {
      this.#hurried--;
      this.hasten(laterOf(now, after(this.#sentAt, TRIGGER_SPACING_MS)));
    }
  }

  /** The peer checked this pair: unless it is known to work, ours follows at once (§7.3.1.4). */
  trigger(now: Millis): void {
    if (this.#state === "succeeded" && this.#silentSince === NEVER) return;
    if (this.#state === "failed") this.restart(now);
    this.#sends = 0;
    this.#dueAt = earlier(this.#dueAt, laterOf(now, after(this.#sentAt, TRIGGER_SPACING_MS)));
  }

  /** Begins anew, as if it had just been formed. */
  restart(now: Millis): void {
    this.#state = "waiting";
    this.#silentSince = NEVER;
    this.#sends = 0;
    this.#dueAt = now;
  }

  /** The next check is to leave at `at`, if the schedule says no sooner. */
  hasten(at: Millis): void {
    this.#dueAt = earlier(this.#dueAt, at);
  }

  /** The next check leaves now, and so many more as soon as it is answered. */
  insist(now: Millis, times: number): void {
    this.#hurried = times;
    this.hasten(now);
  }

  /** The next check waits until `at`, since too many are due. */
  postpone(at: Millis): void {
    this.#dueAt = at;
  }

  /** The silence has lasted too long. */
  giveUp(now: Millis, timing: IceTiming, isNominated: boolean): void {
    const worked = this.#state === "succeeded";
    this.#state = worked ? "lost" : "failed";
    this.#silentSince = NEVER;
    this.#sends = 0;
    this.#isSuspect = false;
    this.#hurried = 0;
    this.#nominations = [];
    this.#dueAt = worked ? after(now, lostIntervalMs(timing, isNominated)) : NEVER;
  }

  /** Adopts another schedule at once: intervals that run are cut or stretched to it. */
  applyTiming(now: Millis, timing: IceTiming, isNominated: boolean): void {
    switch (this.#state) {
      case "waiting":
      case "failed":
        return;
      case "lost":
        this.#dueAt = laterOf(now, after(this.#sentAt, lostIntervalMs(timing, isNominated)));
        return;
      case "in-progress":
        this.#dueAt = this.#sends > timing.retransmits
          ? NEVER
          : laterOf(now, after(this.#sentAt, retransmitDelayMs(timing, Math.max(1, this.#sends))));
        return;
      case "succeeded":
        if (this.#silentSince === NEVER) {
          this.#dueAt = laterOf(now, this.#usualDueAt(timing));
          return;
        }
        // What was silence by one measure is not by another: the pair gets a fresh chance.
        this.#silentSince = NEVER;
        this.#sends = 0;
        this.#dueAt = now;
    }
  }

  /** When an answered pair is checked again. */
  #usualDueAt(timing: IceTiming): Millis {
    const { maxRtoMs } = timing;
    const earlinessMs = Math.min(maxRtoMs * MAX_EARLINESS, MAX_EARLINESS_MS);
    return after(this.#sentAt, maxRtoMs - this.#chance * earlinessMs);
  }
}

/** The key of the pair that these two form: what is sent depends on the local base alone. */
export function pairKey(local: Candidate, remote: Candidate): string {
  return `${local.base.key} ${remote.address.key}`;
}

function lostIntervalMs(timing: IceTiming, isNominated: boolean): number {
  return isNominated ? timing.maxRtoMs : timing.maxRtoMs * LOST_SLOWDOWN;
}

function laterOf(a: Millis, b: Millis): Millis {
  return a > b ? a : b;
}
