/**
 * The clients of a gateway, by the portal's id and by their tunnel addresses.
 *
 * Owns: indexes that agree. Cost: a client that comes or goes costs the others nothing.
 * @module
 */

import { readI32 } from "@firezone/core/bytes";
import { type Family, type IpAddress, isAddressAt, type PacketRef } from "@firezone/core/ip";
import type { Peer } from "./peer.ts";

/** See the head of this file. */
export class PeerTable implements Iterable<Peer> {
  readonly #byId = new Map<string, Peer>();
  readonly #byIpv4 = new Map<number, Peer>();
  /** By the last 32 bits, in which tunnel addresses differ; the newest first. */
  readonly #byIpv6 = new Map<number, readonly Peer[]>();

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

  /** The client that a packet comes from, as its source address says. */
  sourceOf(buf: Uint8Array, packet: PacketRef): Peer | undefined {
    return this.#at(packet.version, buf, packet.sourceOffset);
  }

  /** The client that a packet goes to. */
  destinationOf(buf: Uint8Array, packet: PacketRef): Peer | undefined {
    return this.#at(packet.version, buf, packet.destinationOffset);
  }

  /** Adds a client, or one in place of that with its id; its addresses are its own from now on. */
  put(peer: Peer): void {
    this.delete(peer.clientId);
    this.#byId.set(peer.clientId, peer);
    this.#byIpv4.set(lastWord(peer.ipv4), peer);
    const others = this.#byIpv6.get(lastWord(peer.ipv6)) ?? [];
    this.#byIpv6.set(lastWord(peer.ipv6), [peer, ...others]);
  }

  /** Forgets a client. Addresses that another one has by now stay with that one. */
  delete(clientId: string): void {
    const peer = this.#byId.get(clientId);
    if (!peer) return;
    this.#byId.delete(clientId);
    if (this.#byIpv4.get(lastWord(peer.ipv4)) === peer) this.#byIpv4.delete(lastWord(peer.ipv4));
    const word = lastWord(peer.ipv6);
    const others = this.#byIpv6.get(word)?.filter((other) => other !== peer) ?? [];
    if (others.length > 0) this.#byIpv6.set(word, others);
    else this.#byIpv6.delete(word);
  }

  #at(family: Family, buf: Uint8Array, at: number): Peer | undefined {
    if (family === 4) return this.#byIpv4.get(readI32(buf, at));
    const peers = this.#byIpv6.get(readI32(buf, at + 12));
    if (peers === undefined) return undefined;
    for (let i = 0; i < peers.length; i++) {
      if (isAddressAt(peers[i]!.ipv6, buf, at)) return peers[i];
    }
    return undefined;
  }
}

function lastWord({ bytes }: IpAddress): number {
  return readI32(bytes, bytes.length - 4);
}
