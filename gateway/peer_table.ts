/**
 * The clients of a gateway, by the portal's id and by their tunnel addresses.
 *
 * Owns: indexes that agree. Cost: a client that comes or goes costs the others nothing.
 * @module
 */

import { type PacketRef, Prefix, PrefixTable } from "@firezone/core/ip";
import type { Peer } from "./peer.ts";

/** See the head of this file. */
export class PeerTable implements Iterable<Peer> {
  readonly #byId = new Map<string, Peer>();
  /** Peers by their place in {@link #byAddress}. */
  readonly #slots: (Peer | undefined)[] = [];
  readonly #slotOf = new Map<Peer, number>();
  readonly #freeSlots: number[] = [];
  readonly #byAddress = new PrefixTable();

  /** Number of clients. */
  get size(): number {
    return this.#byId.size;
  }

  /** All clients, oldest first. */
  [Symbol.iterator](): IterableIterator<Peer> {
    return this.#byId.values();
  }

  /** The client with this id. */
  get(clientId: string): Peer | undefined {
    return this.#byId.get(clientId);
  }

  /** The client that a packet goes to. */
  destinationOf(buf: Uint8Array, packet: PacketRef): Peer | undefined {
    const slot = this.#byAddress.lookup(packet.version, buf, packet.destinationOffset);
    return slot < 0 ? undefined : this.#slots[slot];
  }

  /** Adds a client, or one in place of that with its id; its addresses are its own from now on. */
  put(peer: Peer): void {
    this.delete(peer.clientId);
    const slot = this.#freeSlots.pop() ?? this.#slots.length;
    this.#slots[slot] = peer;
    this.#slotOf.set(peer, slot);
    this.#byId.set(peer.clientId, peer);
    for (const address of addressesOf(peer)) this.#byAddress.insert(address, slot);
  }

  /** Forgets a client. Addresses that another one has by now stay with that one. */
  delete(clientId: string): void {
    const peer = this.#byId.get(clientId);
    if (!peer) return;
    this.#byId.delete(clientId);
    const slot = this.#slotOf.get(peer)!;
    this.#slotOf.delete(peer);
    this.#slots[slot] = undefined;
    this.#freeSlots.push(slot);
    for (const address of addressesOf(peer)) {
      if (this.#byAddress.get(address) === slot) this.#byAddress.delete(address);
    }
  }
}

function addressesOf({ ipv4, ipv6 }: Peer): Prefix[] {
  return [new Prefix(ipv4, 32), new Prefix(ipv6, 128)];
}
