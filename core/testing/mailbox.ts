/**
 * The simplest thing a simulated host can run: keeps what comes in, sends what it is told.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import type { Transmit } from "../transmit.ts";
import { type Millis, NEVER } from "../units.ts";
import type { Owner } from "./host.ts";

/** A datagram that arrived. */
export interface Mail {
  /** When it arrived. */
  readonly at: Millis;
  /** Our endpoint that it was sent to. */
  readonly local: SocketAddress;
  /** Its sender, as seen here. */
  readonly from: SocketAddress;
  /** What it says. */
  readonly payload: Uint8Array;
}

/** See the head of this file. */
export class Mailbox implements Owner {
  /** What came in, oldest first; for tests to read and to empty. */
  readonly mails: Mail[] = [];
  readonly #outgoing: Transmit[] = [];

  /** Queues a datagram; it leaves when the network next runs. */
  send(destination: SocketAddress, payload: Uint8Array, source?: SocketAddress): void {
    this.#outgoing.push({ source, destination, payload });
  }

  /** Keeps the datagram. */
  handleDatagram(
    now: Millis,
    local: SocketAddress,
    from: SocketAddress,
    payload: Uint8Array,
  ): void {
    this.mails.push({ at: now, local, from, payload });
  }

  /** Nothing is ever due. */
  handleTimeout(_now: Millis): void {}

  /** Nothing is ever due. */
  pollTimeout(): Millis {
    return NEVER;
  }

  /** The oldest queued datagram. */
  pollTransmit(): Transmit | undefined {
    return this.#outgoing.shift();
  }
}
