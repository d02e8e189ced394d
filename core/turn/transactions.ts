/**
 * Requests under way to one relay: retransmission and giving up.
 *
 * Sends at 0, 1, 2.5 and 4.75 s and gives up at 8 s. Deviation from RFC 8489 §6.2.1: a longer first
 * step, a smaller factor and fewer sends, since a relay that is slower than this is of no use.
 *
 * Owns: deadlines of requests. Does not own: what a request means, see `allocation.ts`.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";

/** Wait after the first send. */
export const FIRST_RETRANSMIT_MS = 1000;
/** Every further wait is this many times the one before. */
export const RETRANSMIT_FACTOR = 1.5;
/** An answer after this time is of no use any more. */
export const GIVE_UP_AFTER_MS = 8000;

/** After an answer that may be forged, the true one is awaited for so long. */
export const DOUBT_MS = 1000;

/** A request that awaits its answer. `P` says what it is for. */
export interface Transaction<P> {
  /** 24 hex characters. */
  readonly id: string;
  /** What the answer is for. */
  readonly purpose: P;
  /** Who was asked; answers from elsewhere do not count. */
  readonly server: SocketAddress;
  /** The encoded request. */
  readonly payload: Uint8Array;
  /** When it was sent first. */
  readonly startedAt: Millis;
  /** When it is given up. */
  givesUpAt: Millis;
  /** Whether somebody refused it who did not prove to be the server. */
  isDoubtful: boolean;
  /** Number of sends so far. */
  sends: number;
  /** When it is sent again; {@link NEVER} if it is not. */
  resendAt: Millis;
}

/** The table of requests under way. */
export class Transactions<P> {
  readonly #byId = new Map<string, Transaction<P>>();

  /** Nothing under way. */
  constructor() {}

  /** Whether nothing is under way. */
  get isEmpty(): boolean {
    return this.#byId.size === 0;
  }

  /** Adds a request whose first send happens now. @param budgetMs once sent, never again if short */
  start(
    now: Millis,
    id: string,
    purpose: P,
    server: SocketAddress,
    payload: Uint8Array,
    budgetMs: number,
  ): void {
    this.#byId.set(id, {
      id,
      purpose,
      server,
      payload,
      startedAt: now,
      givesUpAt: after(now, budgetMs),
      isDoubtful: false,
      sends: 1,
      resendAt: budgetMs > FIRST_RETRANSMIT_MS ? after(now, FIRST_RETRANSMIT_MS) : NEVER,
    });
  }

  /** The request with this id. */
  get(id: string): Transaction<P> | undefined {
    return this.#byId.get(id);
  }

  /** Somebody refused a request: a better answer has to come soon. */
  doubt(now: Millis, transaction: Transaction<P>): void {
    if (transaction.isDoubtful) return;
    transaction.isDoubtful = true;
    transaction.givesUpAt = earlier(transaction.givesUpAt, after(now, DOUBT_MS));
  }

  /** Ends a request. */
  delete(id: string): void {
    this.#byId.delete(id);
  }

  /** Ends all requests. */
  clear(): void {
    this.#byId.clear();
  }

  /** All requests, oldest first. */
  all(): IterableIterator<Transaction<P>> {
    return this.#byId.values();
  }

  /** The earliest deadline. */
  next(): Millis {
    let due = NEVER;
    for (const t of this.#byId.values()) due = earlier(due, earlier(t.resendAt, t.givesUpAt));
    return due;
  }

  /** Removes and returns a request that was given up. */
  takeGivenUp(now: Millis): Transaction<P> | undefined {
    for (const transaction of this.#byId.values()) {
      if (now < transaction.givesUpAt) continue;
      this.#byId.delete(transaction.id);
      return transaction;
    }
    return undefined;
  }

  /** Returns a request that is to be sent once more now, and sets its next deadline. */
  takeResend(now: Millis): Transaction<P> | undefined {
    for (const transaction of this.#byId.values()) {
      if (now < transaction.resendAt) continue;
      const wait = FIRST_RETRANSMIT_MS * RETRANSMIT_FACTOR ** transaction.sends;
      transaction.sends++;
      transaction.resendAt = after(now, wait);
      return transaction;
    }
    return undefined;
  }
}
