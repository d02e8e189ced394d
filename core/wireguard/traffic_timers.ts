/**
 * The timers that traffic starts and stops (paper §6.2 and §6.5), as plain deadlines.
 *
 *     data received   → something must be sent within 10 s, if only an empty message
 *     data sent       → something must be heard within 15 s, or the initiator makes new keys
 *     silence         → an empty message after the persistent keepalive interval, if there is one
 * @module
 */

import { after, earlier, type Millis, NEVER } from "../units.ts";
import { DEAD_PEER_AFTER_MS, KEEPALIVE_TIMEOUT_MS } from "./constants.ts";

/** The deadlines of one tunnel; whoever acts on one calls the method that moves it. */
export class TrafficTimers {
  /** An empty message is due, since data was not answered. */
  keepaliveAt: Millis = NEVER;
  /** The peer is silent: new keys are due. Only for the end that initiates. */
  deadPeerAt: Millis = NEVER;
  /** An empty message is due, to keep NATs open. */
  persistentAt: Millis = NEVER;
  /** The deadline that the tunnel's owner was told last. */
  told: Millis = NEVER;
  readonly #persistentMs: number | undefined;
  readonly #initiates: boolean;

  /** No timer runs yet. */
  constructor(initiates: boolean, persistentMs: number | undefined) {
    this.#initiates = initiates;
    this.#persistentMs = persistentMs;
  }

  /** The earliest of them. */
  get next(): Millis {
    return earlier(earlier(this.keepaliveAt, this.deadPeerAt), this.persistentAt);
  }

  /** Whether one of them comes before what the owner knows of. */
  get isAhead(): boolean {
    return this.next < this.told;
  }

  /** A data message with a packet in it was sent. */
  onDataSent(now: Millis): void {
    if (this.#initiates && this.deadPeerAt === NEVER) {
      this.deadPeerAt = after(now, DEAD_PEER_AFTER_MS);
    }
    this.onAnythingSent(now);
  }

  /** Any message was sent that the peer can authenticate. */
  onAnythingSent(now: Millis): void {
    this.keepaliveAt = NEVER;
    this.#touch(now);
  }

  /** A data message with a packet in it was received. */
  onDataReceived(now: Millis): void {
    if (this.keepaliveAt === NEVER) this.keepaliveAt = after(now, KEEPALIVE_TIMEOUT_MS);
    this.onAnythingReceived(now);
  }

  /** Any authentic message was received. */
  onAnythingReceived(now: Millis): void {
    this.deadPeerAt = NEVER;
    this.#touch(now);
  }

  /** Stops all of them: there are no keys any more. */
  stop(): void {
    this.keepaliveAt = NEVER;
    this.deadPeerAt = NEVER;
    this.persistentAt = NEVER;
  }

  #touch(now: Millis): void {
    if (this.#persistentMs !== undefined) this.persistentAt = after(now, this.#persistentMs);
  }
}
