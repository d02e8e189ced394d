/**
 * How many answers strangers get: enough for any crowd of clients, too few for a reflector.
 *
 * A BINDING or an ALLOCATE costs its sender nothing but a forged source address, and the answer is
 * larger than the question. So every source, an IPv4 /24 or an IPv6 /64, has a bucket of tokens, and
 * so have all of them together, which bounds the work that a flood from everywhere makes.
 *
 *     slot = hash(seed, prefix) mod 65536      tokens[slot], refilled once per second
 *     of all together                          tokens, refilled as time goes by
 *
 * While a relay does not keep up, an answer takes ten of the tokens of all together: whoever is served
 * already comes first.
 *
 * Two sources may share a slot; which ones cannot be told without the seed.
 * Cost: 384 KiB however many strangers there are; taking a token allocates nothing.
 * @module
 */

import type { IpAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { Millis } from "@firezone/core/units";

/** How fast tokens come and how many are kept. */
export interface ResponseBudgetOptions {
  /** Answers per second that a source gets for ever. */
  readonly perSource: number;
  /** Answers that a source gets at once after it was silent. At most 65535. */
  readonly burst: number;
  /** Answers per second to all sources together. */
  readonly total: number;
  /** Answers at once to all sources together. */
  readonly totalBurst: number;
}

/**
 * A thousand clients behind one NAT send three thousand requests in a row when their relay has
 * restarted, and forty per second while they wait for one; see `docs/decisions`.
 */
export const DEFAULT_BUDGET: ResponseBudgetOptions = {
  perSource: 1000,
  burst: 5000,
  total: 10_000,
  totalBurst: 4000,
};

/** What one of several workers may spend of a budget: clients spread over them evenly, not exactly. */
export function shareOfBudget(
  budget: ResponseBudgetOptions,
  workers: number,
): ResponseBudgetOptions {
  const share = (n: number) => Math.min(n, Math.ceil(1.5 * n / workers));
  return {
    perSource: share(budget.perSource),
    burst: share(budget.burst),
    total: share(budget.total),
    totalBurst: share(budget.totalBurst),
  };
}

/** Tokens of all together that an answer takes while the relay does not keep up. */
const SCARCE_COST = 10;
const SLOTS = 65_536;

/** Buckets of tokens. */
export class ResponseBudget {
  /** Whether the relay has more to do than it can. */
  isScarce = false;
  readonly #options: ResponseBudgetOptions;
  readonly #seed: number;
  readonly #tokens = new Uint16Array(SLOTS);
  /** The second in which a slot was filled up last. */
  readonly #filledAt = new Uint32Array(SLOTS);
  #total: number;
  #totalFilledAt = -Infinity;

  /** Full buckets. */
  constructor(options: ResponseBudgetOptions, random: RandomBytes) {
    this.#options = options;
    const [a, b, c, d] = random(4);
    this.#seed = a! << 24 | b! << 16 | c! << 8 | d!;
    this.#tokens.fill(options.burst);
    this.#total = options.totalBurst;
  }

  /** Whether {@link take} would succeed. */
  has(now: Millis, source: IpAddress): boolean {
    return this.#slotWithRoom(now, source) >= 0;
  }

  /** Takes a token for an answer to a stranger; false when there is none. */
  take(now: Millis, source: IpAddress): boolean {
    const slot = this.#slotWithRoom(now, source);
    if (slot < 0) return false;
    this.#tokens[slot]!--;
    this.#total -= this.#cost;
    return true;
  }

  get #cost(): number {
    return this.isScarce ? SCARCE_COST : 1;
  }

  /** The slot of a source after filling up; -1 when it, or all of them together, has no token. */
  #slotWithRoom(now: Millis, source: IpAddress): number {
    const { perSource, burst, total, totalBurst } = this.#options;
    const elapsed = now - this.#totalFilledAt;
    this.#totalFilledAt = now;
    this.#total = Math.min(totalBurst, this.#total + elapsed * total / 1000);
    if (this.#total < this.#cost) return -1;
    const second = Math.floor(now / 1000);
    const slot = this.#hash(source) & SLOTS - 1;
    const idle = second - this.#filledAt[slot]!;
    if (idle !== 0) {
      this.#filledAt[slot] = second;
      this.#tokens[slot] = Math.min(burst, this.#tokens[slot]! + idle * perSource);
    }
    return this.#tokens[slot]! > 0 ? slot : -1;
  }

  /** MurmurHash3's mixing over the bytes that name the source's network. */
  #hash(source: IpAddress): number {
    const { bytes } = source;
    const length = bytes.length === 4 ? 3 : 8;
    let h = this.#seed;
    for (let i = 0; i < length; i++) {
      h = Math.imul(h ^ bytes[i]!, 0xcc9e2d51);
      h = h << 15 | h >>> 17;
    }
    h = Math.imul(h ^ h >>> 16, 0x85ebca6b);
    h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
    return h ^ h >>> 16;
  }
}
