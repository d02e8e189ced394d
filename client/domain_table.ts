/**
 * The names of DNS resources that were asked for, by the proxy addresses that stand for them.
 * @module
 */

import { proxySlotAt } from "@firezone/core/dns";
import type { PacketRef } from "@firezone/core/ip";

/** A name that has addresses on this machine. Plain data, for it comes from the main thread. */
export interface DomainRecord {
  /** The name, in lower case. */
  readonly domain: string;
  /** The slot of its addresses; see `proxyAddressesOf` in `core/dns`. */
  readonly slot: number;
  /** Resources that it belongs to, the one with the most specific pattern first. */
  readonly resourceIds: readonly string[];
}

/** See the head of this file. */
export class DomainTable {
  readonly #bySlot = new Map<number, DomainRecord>();
  readonly #byName = new Map<string, DomainRecord>();

  /** Adds a name, or says anew what belongs to it. */
  put(record: DomainRecord): void {
    this.delete(record.domain);
    this.#byName.set(record.domain, record);
    this.#bySlot.set(record.slot, record);
  }

  /** Takes all names anew; the others keep their addresses, which lead nowhere. */
  replace(records: readonly DomainRecord[]): void {
    for (const record of [...this.#byName.values()]) this.put({ ...record, resourceIds: [] });
    for (const record of records) this.put(record);
  }

  /** Forgets a name. */
  delete(domain: string): void {
    const record = this.#byName.get(domain);
    if (!record) return;
    this.#byName.delete(domain);
    this.#bySlot.delete(record.slot);
  }

  /** The record of a name. */
  get(domain: string): DomainRecord | undefined {
    return this.#byName.get(domain);
  }

  /** The name that the address at `buf[offset]` of this packet stands for. */
  lookup(buf: Uint8Array, packet: PacketRef, offset: number): DomainRecord | undefined {
    const slot = proxySlotAt(packet.version, buf, offset);
    return slot < 0 ? undefined : this.#bySlot.get(slot);
  }
}
