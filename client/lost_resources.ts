/**
 * Resources whose gateway was lost while they were in use.
 *
 * They are asked for again without waiting for a packet: who only receives, such as a download, sends
 * none, and what the server has to say does not arrive without a connection. After a minute without
 * a gateway the next packet is waited for, as always.
 * @module
 */

import { after, type Millis, NEVER } from "@firezone/core/units";
import { REQUEST_INTERVAL_MS } from "./pending_flows.ts";

/** How long a gateway may be away, such as for a restart of its machine. */
export const GIVE_UP_AFTER_MS = 60_000;

/** See the head of this file. */
export class LostResources {
  /** When each is given up; never, until it was asked for. */
  readonly #giveUpAt = new Map<string, Millis>();
  #dueAt = NEVER;

  /** A resource was lost, to be asked for as soon as possible. */
  add(resourceId: string): void {
    if (!this.#giveUpAt.has(resourceId)) this.#giveUpAt.set(resourceId, NEVER);
    this.#dueAt = 0 as Millis;
  }

  /** A resource is carried again, or is none any more. */
  delete(resourceId: string): void {
    this.#giveUpAt.delete(resourceId);
    if (this.#giveUpAt.size === 0) this.#dueAt = NEVER;
  }

  /** Forgets everything. */
  clear(): void {
    this.#giveUpAt.clear();
    this.#dueAt = NEVER;
  }

  /** What is to be asked for now. */
  takeDue(now: Millis): readonly string[] {
    if (now < this.#dueAt) return [];
    for (const [id, giveUpAt] of this.#giveUpAt) {
      if (giveUpAt === NEVER) this.#giveUpAt.set(id, after(now, GIVE_UP_AFTER_MS));
      else if (giveUpAt <= now) this.#giveUpAt.delete(id);
    }
    this.#dueAt = this.#giveUpAt.size > 0 ? after(now, REQUEST_INTERVAL_MS) : NEVER;
    return [...this.#giveUpAt.keys()];
  }

  /** When {@link takeDue} has something. */
  pollTimeout(): Millis {
    return this.#dueAt;
  }
}
