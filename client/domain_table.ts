/**
 * The names of DNS resources that were asked for, by the proxy addresses that stand for them.
 * @module
 */

import { type IpAddress, type PacketRef, Prefix, PrefixTable } from "@firezone/core/ip";

/** A name with the addresses that stand for it on this machine. */
export interface DomainRecord {
  /** The name, in lower case. */
  readonly domain: string;
  /** Four addresses of each family. */
  readonly proxyIps: readonly IpAddress[];
  /** Resources that it belongs to, the one with the most specific pattern first. */
  readonly resourceIds: readonly string[];
}

/** See the head of this file. */
export class DomainTable {
  readonly #slots: DomainRecord[] = [];
  readonly #slotOf = new Map<string, number>();
  readonly #table = new PrefixTable();

  /** Adds a name, or says anew what belongs to it. */
  put(record: DomainRecord): void {
    let slot = this.#slotOf.get(record.domain);
    if (slot === undefined) this.#slotOf.set(record.domain, slot = this.#slots.length);
    for (const ip of this.#slots[slot]?.proxyIps ?? []) this.#table.delete(hostPrefix(ip));
    this.#slots[slot] = record;
    for (const ip of record.proxyIps) this.#table.insert(hostPrefix(ip), slot);
  }

  /** Takes all names anew; the others keep their addresses, which lead nowhere. */
  replace(records: readonly DomainRecord[]): void {
    for (const [slot, record] of this.#slots.entries()) {
      this.#slots[slot] = { ...record, resourceIds: [] };
    }
    for (const record of records) this.put(record);
  }

  /** The record of a name. */
  get(domain: string): DomainRecord | undefined {
    const slot = this.#slotOf.get(domain);
    return slot === undefined ? undefined : this.#slots[slot];
  }

  /** The name that the address at `buf[offset]` of this packet stands for. */
  lookup(buf: Uint8Array, packet: PacketRef, offset: number): DomainRecord | undefined {
    const slot = this.#table.lookup(packet.version, buf, offset);
    return slot < 0 ? undefined : this.#slots[slot];
  }
}

function hostPrefix(ip: IpAddress): Prefix {
  return new Prefix(ip, ip.bytes.length * 8);
}
