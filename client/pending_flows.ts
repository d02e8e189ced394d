/**
 * Packets to resources that no gateway carries yet, and when to ask the portal for one.
 *
 * One request per resource is under way at a time and repeated after {@link REQUEST_INTERVAL_MS}
 * without an answer, if there still is traffic. An answer, also a refusal, lets the next packet ask
 * at once.
 * @module
 */

import { after, type Millis } from "@firezone/core/units";

/** An unanswered request is repeated no sooner. */
export const REQUEST_INTERVAL_MS = 2_000;

/** Packets kept per resource; the oldest goes first. */
export const MAX_PACKETS_PER_RESOURCE = 128;

interface PendingFlow {
  readonly packets: Uint8Array[];
  nextRequestAt: Millis;
}

/** See the head of this file. */
export class PendingFlows {
  readonly #flows = new Map<string, PendingFlow>();

  /** Keeps a packet; true when the portal is to be asked now. */
  add(now: Millis, resourceId: string, packet: Uint8Array): boolean {
    const isDue = this.ask(now, resourceId);
    const { packets } = this.#flows.get(resourceId)!;
    if (packets.length === MAX_PACKETS_PER_RESOURCE) packets.shift();
    packets.push(packet);
    return isDue;
  }

  /** Wants a resource without having a packet for it yet; true as in {@link add}. */
  ask(now: Millis, resourceId: string): boolean {
    let flow = this.#flows.get(resourceId);
    if (!flow) this.#flows.set(resourceId, flow = { packets: [], nextRequestAt: now });
    if (now < flow.nextRequestAt) return false;
    flow.nextRequestAt = after(now, REQUEST_INTERVAL_MS);
    return true;
  }

  /** Whether an answer is awaited for a resource. */
  has(resourceId: string): boolean {
    return this.#flows.has(resourceId);
  }

  /** The packets of a resource whose answer came; undefined when none was awaited. */
  take(resourceId: string): Uint8Array[] | undefined {
    const flow = this.#flows.get(resourceId);
    this.#flows.delete(resourceId);
    return flow?.packets;
  }

  /** Forgets everything. */
  clear(): void {
    this.#flows.clear();
  }
}
