/**
 * Decides whether the machine is on another network than before.
 *
 * Pure: takes what the network looks like and when, says whether connections have to be made anew.
 * @module
 */

import type { Family } from "../ip/address.ts";
import { type Millis, NEVER } from "../units.ts";

/** How the machine reaches the Internet with one IP version. */
export interface Uplink {
  /** Number of the interface. */
  readonly interfaceIndex: number;
  /** Text of the next hop; empty for a link without one. */
  readonly gateway: string;
  /** Texts of the addresses that packets leave from. */
  readonly addresses: readonly string[];
}

/** What a network is known by; a version without an uplink is absent. */
export type NetworkIdentity = ReadonlyMap<Family, Uplink>;

/** After so long without a network its return counts as another one: what we held will be dead. */
const LONG_OUTAGE_MS = 5_000;

/** What a network manager announces so soon after a move is that move. */
const SAME_MOVE_MS = 3_000;

/** See the head of this file. */
export class RoamingDetector {
  #network: NetworkIdentity;
  #lostAt: Millis = NEVER;
  #isDue = false;
  #movedAt: Millis = -Infinity as Millis;

  /** Begins with the network that is there. */
  constructor(now: Millis, network: NetworkIdentity) {
    this.#network = network;
    if (network.size === 0) this.#lostAt = now;
  }

  /**
   * Takes what the network looks like now.
   *
   * Another way out counts, and so does a network that was away for long. A network that is away does
   * not, since nothing could be done about it; nor does an IP version that joins the other, as happens
   * seconds after every start.
   *
   * @returns whether connections have to be made anew
   */
  handleNetwork(now: Millis, network: NetworkIdentity): boolean {
    if (network.size === 0) {
      if (this.#lostAt === NEVER) this.#lostAt = now;
      return false;
    }
    const wasLong = now - this.#lostAt >= LONG_OUTAGE_MS;
    const isAnother = this.#network.size === 0 || this.#isDue ||
      [...this.#network].some(([family, before]) => !isKept(before, network.get(family)));
    this.#network = network;
    this.#lostAt = NEVER;
    this.#isDue = false;
    if (wasLong || isAnother) this.#movedAt = now;
    return wasLong || isAnother;
  }

  /** A network manager uses another connection, whose network may look like the one before. */
  handleAnnouncement(now: Millis): void {
    if (now - this.#movedAt >= SAME_MOVE_MS) this.#isDue = true;
  }

  /** The machine has slept: as soon as there is a network, connections have to be made anew. */
  handleResume(): void {
    this.#isDue = true;
  }
}

/** A second address is no reason to move; one that is gone is. */
function isKept(before: Uplink, now: Uplink | undefined): boolean {
  return now !== undefined && now.interfaceIndex === before.interfaceIndex &&
    now.gateway === before.gateway &&
    before.addresses.every((address) => now.addresses.includes(address));
}

/** Sleep that is shorter than this is what clocks are off by. */
const MIN_SLEEP_MS = 1_000;

/** Notices that the machine has slept. */
export class SleepDetector {
  #sleptMs: number;

  /** @param sleptMs how long the machine has slept since it was started
   * Begins with the sleep so far. */
  constructor(sleptMs: number) {
    this.#sleptMs = sleptMs;
  }

  /** Takes the same figure again; answers whether it slept in between. */
  handleReading(sleptMs: number): boolean {
    const hasSlept = sleptMs - this.#sleptMs >= MIN_SLEEP_MS;
    this.#sleptMs = sleptMs;
    return hasSlept;
  }
}

/** Joins what comes in bursts: waits until it is quiet, but not for ever. */
export class Debounce {
  readonly #quietMs: number;
  readonly #maxMs: number;
  #firstAt: Millis = NEVER;
  #lastAt: Millis = NEVER;

  /** Nothing is due yet.
   * @param quietMs how long it has to be quiet
   * @param maxMs how long the first of a burst waits at most */
  constructor(quietMs: number, maxMs: number) {
    this.#quietMs = quietMs;
    this.#maxMs = maxMs;
  }

  /** Something happened. */
  handle(now: Millis): void {
    if (this.#firstAt === NEVER) this.#firstAt = now;
    this.#lastAt = now;
  }

  /** When the burst counts as over. */
  pollTimeout(): Millis {
    return Math.min(this.#firstAt + this.#maxMs, this.#lastAt + this.#quietMs) as Millis;
  }

  /** Whether a burst is over; answers so once. */
  takeDue(now: Millis): boolean {
    if (now < this.pollTimeout()) return false;
    this.#firstAt = this.#lastAt = NEVER;
    return true;
  }
}
