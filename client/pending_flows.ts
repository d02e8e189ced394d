/**
 * Packets to resources that no gateway carries yet, and when to ask the portal for one.
 *
 * One request per resource is under way at a time and repeated after {@link REQUEST_INTERVAL_MS}
 * without an answer, if there still is traffic. After a gateway was named the next packet without one
 * asks at once; after a refusal it waits its time, or a flood of packets would be one of requests.
 * @module
 */

import { WaitingPackets } from "@firezone/core/ip";
import { after, type Millis } from "@firezone/core/units";

/** An unanswered request is repeated no sooner. */
export const REQUEST_INTERVAL_MS = 2_000;

/** Packets kept per resource; the oldest goes first. */
export const MAX_PACKETS_PER_RESOURCE = 128;

interface PendingFlow {
  readonly packets: WaitingPackets;
  nextRequestAt: Millis;
  isAwaited: boolean;
}

/** See the head of this file. */
export class PendingFlows {
  readonly #flows = new Map<string, PendingFlow>();

  /** Keeps the packet `buf[start, end)` for an answer; true when the portal is to be asked now. */
  add(now: Millis, resourceId: string, buf: Uint8Array, start: number, end: number): boolean {
    const isDue = this.ask(now, resourceId);
    const flow = this.#flows.get(resourceId)!;
    if (flow.isAwaited) flow.packets.add(buf, start, end);
    return isDue;
  }

  /** Wants a resource without having a packet for it yet; true as in {@link add}. */
  ask(now: Millis, resourceId: string): boolean {
    let flow = this.#flows.get(resourceId);
    if (!flow) {
      const packets = new WaitingPackets(MAX_PACKETS_PER_RESOURCE);
      this.#flows.set(resourceId, flow = { packets, nextRequestAt: now, isAwaited: false });
    }
    if (now < flow.nextRequestAt) return false;
    flow.nextRequestAt = after(now, REQUEST_INTERVAL_MS);
    flow.isAwaited = true;
    return true;
  }

  /** Whoever was asked for is gone, so that the next request need not wait for its time. */
  hurry(resourceId: string): void {
    const flow = this.#flows.get(resourceId);
    if (flow) flow.nextRequestAt = 0 as Millis;
  }

  /** Whether an answer is awaited for a resource. */
  has(resourceId: string): boolean {
    return this.#flows.get(resourceId)?.isAwaited ?? false;
  }

  /** The packets of a resource whose gateway was named; undefined when no answer was awaited. */
  take(resourceId: string): Uint8Array[] | undefined {
    const flow = this.#flows.get(resourceId);
    this.#flows.delete(resourceId);
    return flow?.isAwaited ? flow.packets.take() : undefined;
  }

  /** The request was refused: what waited is gone. */
  refuse(resourceId: string): void {
    const flow = this.#flows.get(resourceId);
    if (!flow) return;
    flow.packets.take();
    flow.isAwaited = false;
  }

  /** Forgets everything. */
  clear(): void {
    this.#flows.clear();
  }
}
