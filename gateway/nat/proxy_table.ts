/**
 * The static part of a client's NAT: which real address each proxy address stands for.
 *
 *     db.example.com  ─┬─ 100.96.0.1 ─► 10.0.0.5          proxy addresses of a family take turns
 *                      ├─ 100.96.0.2 ─► 10.0.0.6          among the real addresses of that family
 *                      ├─ 100.96.0.3 ─► 10.0.0.5
 *                      ├─ 100.96.0.4 ─► 10.0.0.6
 *                      └─ fd00:…::1  ─► nothing           there is no AAAA record
 *
 * A name may belong to several resources. What has not been assigned for longest makes way when the
 * table is full; its client says so again with the next query.
 * @module
 */

import type { Family, IpAddress } from "@firezone/core/ip";
import { AddressSlots } from "./address_slots.ts";

/** What a client said, and what its name resolved to. */
export interface Assignment {
  /** The DNS resource. */
  readonly resourceId: string;
  /** In lower case and without a final dot. */
  readonly domain: string;
  /** Addresses that stand for the name. */
  readonly proxyIps: readonly IpAddress[];
  /** Real addresses; a family may be missing. */
  readonly addresses: readonly IpAddress[];
}

interface Entry {
  readonly domain: string;
  resourceIds: readonly string[];
  /** Slot of the real address, -1 for none. */
  target: number;
}

const NO_RESOURCES: readonly string[] = [];

/** See the head of this file. */
export class ProxyTable {
  readonly #maxNames: number;
  readonly #proxies = new AddressSlots();
  readonly #reals: AddressSlots;
  #entries: (Entry | undefined)[] = [];
  /** Slots of the proxy addresses by name; the name assigned longest ago comes first. */
  readonly #names = new Map<string, Set<number>>();

  /** An empty table.
   * @param reals holds the real addresses; an entry refers to its own */
  constructor(maxNames: number, reals: AddressSlots) {
    this.#maxNames = maxNames;
    this.#reals = reals;
  }

  /** Number of names. */
  get size(): number {
    return this.#names.size;
  }

  /** The slot of the proxy address at `buf[offset]`, -1 when it is none. */
  lookup(family: Family, buf: Uint8Array, offset: number): number {
    return this.#proxies.lookup(family, buf, offset);
  }

  /** The address of a slot. */
  address(slot: number): IpAddress {
    return this.#proxies.address(slot);
  }

  /** Resources whose filters decide on traffic with a proxy address. */
  resourceIds(slot: number): readonly string[] {
    return this.#entries[slot]?.resourceIds ?? NO_RESOURCES;
  }

  /** Slot of the real address that new flows to a proxy address go to, -1 when there is none. */
  target(slot: number): number {
    return this.#entries[slot]?.target ?? -1;
  }

  /** Whether a name has addresses by way of a resource. */
  has(resourceId: string, domain: string): boolean {
    const slots = this.#names.get(domain) ?? [];
    return [...slots].some((slot) => this.resourceIds(slot).includes(resourceId));
  }

  /** Whether one of the addresses stands for another name so far. */
  contradicts({ domain, proxyIps }: Assignment): boolean {
    return proxyIps.some((ip) => {
      const slot = this.#proxies.find(ip);
      return slot >= 0 && this.#entries[slot]!.domain !== domain;
    });
  }

  /** The name that has to make way before another one is assigned. */
  surplus(domain: string): string | undefined {
    if (this.#names.has(domain) || this.#names.size < this.#maxNames) return undefined;
    return this.#names.keys().next().value;
  }

  /** Sets what addresses stand for; none of them may contradict what is there. */
  assign({ resourceId, domain, proxyIps, addresses }: Assignment): void {
    const slots = this.#names.get(domain) ?? new Set();
    this.#names.delete(domain); // to the end of the order
    this.#names.set(domain, slots);
    for (const family of [4, 6] as const) {
      const targets = addresses.filter((ip) => ip.family === family);
      const proxies = distinct(proxyIps.filter((ip) => ip.family === family));
      for (const [i, proxy] of proxies.entries()) {
        slots.add(this.#put(proxy, domain, resourceId, targets[i % targets.length]));
      }
    }
    if (slots.size === 0) this.#names.delete(domain);
  }

  /** Takes resources away from names; a name without any is forgotten.
   * @returns slots of the proxy addresses that stand for nothing any more */
  retain(keep: (domain: string, resourceId: string) => boolean): Set<number> {
    const gone = new Set<number>();
    for (const [domain, slots] of this.#names) {
      for (const slot of slots) {
        const entry = this.#entries[slot]!;
        const kept = entry.resourceIds.filter((id) => keep(domain, id));
        if (kept.length === entry.resourceIds.length) continue;
        entry.resourceIds = kept;
        if (kept.length > 0) continue;
        slots.delete(slot);
        gone.add(slot);
      }
      if (slots.size === 0) this.#names.delete(domain);
    }
    return gone;
  }

  /** Takes all resources away from a name.
   * @returns slots of its proxy addresses, which stand for nothing any more */
  forget(domain: string): Set<number> {
    const slots = this.#names.get(domain) ?? new Set();
    this.#names.delete(domain);
    for (const slot of slots) this.#entries[slot]!.resourceIds = NO_RESOURCES;
    return slots;
  }

  /** Frees slots that {@link retain} or {@link forget} returned, once no flow uses them. */
  free(slots: Iterable<number>): void {
    for (const slot of slots) {
      const { target } = this.#entries[slot]!;
      if (target >= 0) this.#reals.release(target);
      this.#entries[slot] = undefined;
      this.#proxies.release(slot);
    }
  }

  /** Forgets everything. */
  clear(): void {
    for (const entry of this.#entries) {
      if (entry && entry.target >= 0) this.#reals.release(entry.target);
    }
    this.#entries = [];
    this.#names.clear();
    this.#proxies.clear();
  }

  #put(proxy: IpAddress, domain: string, resourceId: string, target?: IpAddress): number {
    // The new target is taken before the old one is let go, so that the same one keeps its slot.
    const targetSlot = target ? this.#reals.take(target) : -1;
    const known = this.#proxies.find(proxy);
    if (known < 0) {
      const slot = this.#proxies.take(proxy);
      this.#entries[slot] = { domain, resourceIds: [resourceId], target: targetSlot };
      return slot;
    }
    const entry = this.#entries[known]!;
    if (entry.target >= 0) this.#reals.release(entry.target);
    entry.target = targetSlot;
    if (!entry.resourceIds.includes(resourceId)) {
      entry.resourceIds = [...entry.resourceIds, resourceId];
    }
    return known;
  }
}

/** Sorted by text and without repetitions, so that every repeat of a message pairs alike. */
function distinct(addresses: readonly IpAddress[]): IpAddress[] {
  const byText = new Map(addresses.map((ip) => [ip.text, ip]));
  return [...byText.values()].sort((a, b) => compareBytes(a.bytes, b.bytes));
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return 0;
}
