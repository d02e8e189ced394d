/**
 * The relays that are online, and which of them a client or gateway is to use.
 *
 * Spec: portal-protocol §2.9 (identity), §6.9 (presence), §8.9 (up to two for each). Instead of
 * shuffling, each device ranks the relays by a hash of both ids: devices spread evenly, and a device
 * that comes back is sent to the same two.
 * @module
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { hex, utf8 } from "@firezone/core/bytes";
import type { IpAddress } from "@firezone/core/ip";

/** How many relays a device uses. */
export const RELAYS_PER_DEVICE = 2;

/** A relay that is online; replaced as a whole when anything about it changes. */
export interface Relay {
  /** UUID, of the stamp secret. */
  readonly id: string;
  /** What its TURN credentials are derived from. */
  readonly stampSecret: string;
  /** Public address. */
  readonly ipv4: IpAddress | undefined;
  /** Public address. */
  readonly ipv6: IpAddress | undefined;
  /** UDP port of both. */
  readonly port: number;
}

/** The relays that are online. */
export class RelayPool {
  readonly #relays = new Map<string, Relay>();

  /** All, in the order in which they came. */
  get all(): readonly Relay[] {
    return [...this.#relays.values()];
  }

  /** The relay with this id, if it is online. */
  get(id: string): Relay | undefined {
    return this.#relays.get(id);
  }

  /** Adds a relay, or takes another one's place under the same id. */
  add(relay: Relay): void {
    this.#relays.set(relay.id, relay);
  }

  /** Removes a relay. */
  delete(id: string): void {
    this.#relays.delete(id);
  }

  /**
   * The relays that a device should use: first those it has, then by rank.
   *
   * @param known ids of relays that the device was told before
   */
  select(deviceId: string, known: ReadonlySet<string>): readonly Relay[] {
    const ranked = this.all.map((relay) => ({
      relay,
      isKnown: known.has(relay.id),
      rank: hex(sha256(utf8(`${deviceId} ${relay.id}`))),
    }));
    ranked.sort((a, b) => Number(b.isKnown) - Number(a.isKnown) || (a.rank < b.rank ? -1 : 1));
    return ranked.slice(0, RELAYS_PER_DEVICE).map(({ relay }) => relay);
  }
}

/** Whether a device that was told of `a` needs to be told of `b`. */
export function isSameRelay(a: Relay | undefined, b: Relay): boolean {
  return a !== undefined && a.id === b.id && a.port === b.port &&
    a.stampSecret === b.stampSecret && a.ipv4?.text === b.ipv4?.text &&
    a.ipv6?.text === b.ipv6?.text;
}
