/**
 * When to send initiations (paper §6.1, §6.4): at most one per REKEY_TIMEOUT, again and again until
 * one is answered or REKEY_ATTEMPT_TIME is over.
 *
 *     idle ── begin ──► running ── answered ──► idle
 *                          └── given up ──► idle
 * @module
 */

import { randomBelow, type RandomBytes } from "../random.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import { REKEY_JITTER_MS, REKEY_TIMEOUT_MS } from "./constants.ts";

/** The schedule of one tunnel's handshakes. */
export class HandshakeAttempt {
  readonly #random: RandomBytes;
  readonly #attemptTimeMs: number;
  #sendAt: Millis = NEVER;
  #givesUpAt: Millis = NEVER;
  /** Before it no initiation may be sent, unless forced. */
  #notBefore = -Infinity as Millis;

  /** No attempt is running.
   * @param attemptTimeMs after which it is given up */
  constructor(random: RandomBytes, attemptTimeMs: number) {
    this.#random = random;
    this.#attemptTimeMs = attemptTimeMs;
  }

  /** The next deadline. */
  get next(): Millis {
    return earlier(this.#sendAt, this.#givesUpAt);
  }

  /** Starts an attempt unless one is running; the first initiation is due at once, or as soon as
   * the one before is REKEY_TIMEOUT old. */
  begin(now: Millis): void {
    if (this.#givesUpAt !== NEVER) return;
    this.#sendAt = now > this.#notBefore ? now : this.#notBefore;
    this.#givesUpAt = after(now, this.#attemptTimeMs);
  }

  /** Starts an attempt over, whatever is running; an initiation is due at once. */
  force(now: Millis): void {
    this.#sendAt = now;
    this.#givesUpAt = after(now, this.#attemptTimeMs);
  }

  /** What is due; the caller sends, or tells its owner that it gave up. */
  handleTimeout(now: Millis): "send" | "give-up" | undefined {
    if (now >= this.#givesUpAt) {
      this.stop();
      return "give-up";
    }
    if (now < this.#sendAt) return undefined;
    this.#notBefore = after(now, REKEY_TIMEOUT_MS);
    this.#sendAt = after(this.#notBefore, randomBelow(this.#random, REKEY_JITTER_MS + 1));
    return "send";
  }

  /** The attempt has succeeded, or is not wanted any more. */
  stop(): void {
    this.#sendAt = NEVER;
    this.#givesUpAt = NEVER;
  }
}
