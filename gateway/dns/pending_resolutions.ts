/**
 * Names that are being resolved for clients, until the answer is there.
 *
 * A client repeats itself while it waits; what it said last counts, and the name is asked for once.
 * @module
 */

import type { IpAddress } from "@firezone/core/ip";
import { after, type Millis, NEVER } from "@firezone/core/units";

/** What a client waits for. */
export interface Resolution {
  /** The client. */
  readonly clientId: string;
  /** The DNS resource. */
  readonly resourceId: string;
  /** The name as the client wrote it, for the answer. */
  readonly writtenDomain: string;
  /** The name to resolve. */
  readonly domain: string;
  /** Addresses that are to stand for it. */
  readonly proxyIps: readonly IpAddress[];
}

/** At most so many of one client at a time, and of all together. */
const MAX_PER_CLIENT = 128;
const MAX_TOTAL = 1_000;

/** Longer than a resolver takes; in case its answer does not come. */
const GIVE_UP_MS = 15_000;

interface Pending {
  readonly key: string;
  resolution: Resolution;
  readonly givenUpAt: Millis;
}

/** See the head of this file. */
export class PendingResolutions {
  /** In the order in which they are given up. */
  readonly #byId = new Map<number, Pending>();
  readonly #ids = new Map<string, number>();
  readonly #perClient = new Map<string, number>();
  #nextId = 0;

  /** Number of names that are being resolved. */
  get size(): number {
    return this.#byId.size;
  }

  /** When the next one is given up. */
  get nextDeadline(): Millis {
    for (const { givenUpAt } of this.#byId.values()) return givenUpAt;
    return NEVER;
  }

  /**
   * Takes a wish.
   *
   * @returns the id to resolve it by; "waiting" when that is under way; "refused" for one too many
   */
  add(now: Millis, resolution: Resolution): number | "waiting" | "refused" {
    const { clientId, resourceId, domain } = resolution;
    const key = `${clientId} ${resourceId} ${domain}`;
    const known = this.#ids.get(key);
    if (known !== undefined) {
      this.#byId.get(known)!.resolution = resolution;
      return "waiting";
    }
    const ofClient = this.#perClient.get(clientId) ?? 0;
    if (ofClient >= MAX_PER_CLIENT || this.#byId.size >= MAX_TOTAL) return "refused";
    const id = this.#nextId++;
    this.#byId.set(id, { key, resolution, givenUpAt: after(now, GIVE_UP_MS) });
    this.#ids.set(key, id);
    this.#perClient.set(clientId, ofClient + 1);
    return id;
  }

  /** Ends the wait for an answer; undefined when nobody waits for it. */
  take(id: number): Resolution | undefined {
    const pending = this.#byId.get(id);
    if (pending === undefined) return undefined;
    const { clientId } = pending.resolution;
    this.#byId.delete(id);
    this.#ids.delete(pending.key);
    const left = this.#perClient.get(clientId)! - 1;
    if (left > 0) this.#perClient.set(clientId, left);
    else this.#perClient.delete(clientId);
    return pending.resolution;
  }

  /** Forgets all wishes; nobody waits for their answers any more. */
  clear(): void {
    this.#byId.clear();
    this.#ids.clear();
    this.#perClient.clear();
  }

  /** The next one that has waited for too long, if there is one. */
  takeOverdue(now: Millis): Resolution | undefined {
    for (const [id, { givenUpAt }] of this.#byId) {
      return givenUpAt <= now ? this.take(id) : undefined;
    }
    return undefined;
  }
}
