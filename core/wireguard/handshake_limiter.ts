/**
 * How many handshakes we work for: each costs four multiplications on the curve.
 *
 * Counts start over with each second that begins at a handshake; there is no timer whose absence
 * could leave us "under load" for ever.
 * @module
 */

import type { IpAddress } from "../ip/address.ts";
import { after, type Millis } from "../units.ts";
import { HANDSHAKES_PER_SECOND_AND_ADDRESS } from "./constants.ts";

const WINDOW_MS = 1000;

/** Networks remembered per second at most: someone may own very many. */
const MAX_NETWORKS = 4096;

/** Counts the handshakes of all peers of one node. */
export class HandshakeLimiter {
  readonly #perSecond: number;
  readonly #perAddress = new Map<string, number>();
  #count = 0;
  #windowEndsAt = 0 as Millis;

  /** A limiter that has seen none.
   * @param perSecond handshakes before cookies are asked for */
  constructor(perSecond: number) {
    this.#perSecond = perSecond;
  }

  /** Whether one more may be answered without a cookie; counts it if so. */
  admit(now: Millis): boolean {
    this.#roll(now);
    if (this.#count >= this.#perSecond) return false;
    this.#count++;
    return true;
  }

  /** Whether one more may be answered that showed a cookie for `ip`; counts it if so. */
  admitWithCookie(now: Millis, ip: IpAddress): boolean {
    this.#roll(now);
    const key = networkOf(ip);
    const count = this.#perAddress.get(key) ?? 0;
    if (count >= HANDSHAKES_PER_SECOND_AND_ADDRESS) return false;
    if (count === 0 && this.#perAddress.size >= MAX_NETWORKS) return false;
    this.#perAddress.set(key, count + 1);
    return true;
  }

  #roll(now: Millis): void {
    if (now < this.#windowEndsAt) return;
    this.#windowEndsAt = after(now, WINDOW_MS);
    this.#count = 0;
    this.#perAddress.clear();
  }
}

/** One host may own all addresses of an IPv6 /64. */
function networkOf(ip: IpAddress): string {
  return ip.family === 4 ? ip.text : ip.bytes.slice(0, 8).join(".");
}
