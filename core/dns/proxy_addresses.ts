/**
 * Proxy addresses: what names of DNS resources resolve to on this machine. The gateway learns which
 * name they stand for and translates them to real ones.
 *
 * Every name gets a slot, and the number of a slot determines its addresses, four of each family:
 *
 *     slot 0   100.96.0.1 … .4    fd00:2021:1111:8000::1 … ::4
 *     slot 1   100.96.0.5 … .8    fd00:2021:1111:8000::5 … ::8
 *
 * Slots that touch the sentinels are left out. A name keeps its slot for good, because programs keep
 * addresses longer than they should.
 * @module
 */

import { readU32, writeU32 } from "../bytes/fields.ts";
import { IpAddress, type Prefix, prefix } from "../ip/address.ts";
import { SENTINEL_RANGE_V4 } from "./sentinels.ts";

/** Proxy addresses, sentinels among them. */
export const PROXY_RANGE_V4: Prefix = prefix("100.96.0.0/11");
/** Proxy addresses. */
export const PROXY_RANGE_V6: Prefix = prefix("fd00:2021:1111:8000::/107");

/** Addresses of each family per name. */
const PER_FAMILY = 4;
/** Both ranges have as many addresses; the first and the last are not used. */
const RANGE_SIZE = 2 ** 21;
const SLOTS = Math.floor((RANGE_SIZE - 2) / PER_FAMILY);
const BASE_V4 = readU32(PROXY_RANGE_V4.ip.bytes, 0);
const SENTINELS_START = readU32(SENTINEL_RANGE_V4.ip.bytes, 0) - BASE_V4;
const SENTINELS_END = SENTINELS_START + 256;

/** What has to be kept for a name to have the same addresses again. */
export interface ProxyRecord {
  /** The name, in lower case. */
  readonly domain: string;
  /** Its slot. */
  readonly slot: number;
}

/** The names that have addresses. */
export class ProxyAddresses {
  /** The name asked for longest ago comes first. */
  readonly #slots = new Map<string, number>();
  readonly #domains = new Map<number, string>();
  readonly #limit: number;
  #next = 0;

  /** Takes over what a former process assigned; entries that do not make sense are left out.
   * @param restored earlier entries win over later ones that contradict them
   * @param limit slots to use, for tests */
  constructor(restored: Iterable<ProxyRecord> = [], limit: number = SLOTS) {
    this.#limit = limit;
    for (const { domain, slot } of restored) {
      if (domain === "" || !isUsable(slot, limit)) continue;
      if (this.#slots.has(domain) || this.#domains.has(slot)) continue;
      this.#slots.set(domain, slot);
      this.#domains.set(slot, domain);
    }
  }

  /** Number of names with addresses. */
  get size(): number {
    return this.#slots.size;
  }

  /** Whether `domain` has addresses already. */
  has(domain: string): boolean {
    return this.#slots.has(domain);
  }

  /** The addresses of a name, IPv4 first; assigned now if it has none. Undefined: all are taken.
   * @param domain in lower case, without a final dot */
  assign(domain: string): readonly IpAddress[] | undefined {
    let slot = this.#slots.get(domain);
    if (slot !== undefined) this.#slots.delete(domain); // to the end of the order
    else {
      slot = this.#takeSlot();
      if (slot === undefined) return undefined;
      this.#domains.set(slot, domain);
    }
    this.#slots.set(domain, slot);
    return addressesOf(slot);
  }

  /** The name that an address stands for. */
  domainOf(ip: IpAddress): string | undefined {
    const slot = slotOf(ip);
    return slot === undefined ? undefined : this.#domains.get(slot);
  }

  /** The addresses of a name that has some. */
  addressesOf(domain: string): readonly IpAddress[] | undefined {
    const slot = this.#slots.get(domain);
    return slot === undefined ? undefined : addressesOf(slot);
  }

  /** What to keep, the names asked for longest ago first.
   * @param limit number of names; those asked for last are chosen */
  records(limit = Infinity): ProxyRecord[] {
    const all = Array.from(this.#slots, ([domain, slot]) => ({ domain, slot }));
    return all.length > limit ? all.slice(all.length - limit) : all;
  }

  #takeSlot(): number | undefined {
    while (this.#next < this.#limit) {
      const slot = this.#next++;
      if (isUsable(slot, this.#limit) && !this.#domains.has(slot)) return slot;
    }
    return undefined;
  }
}

function isUsable(slot: number, limit: number): boolean {
  if (!Number.isInteger(slot) || slot < 0 || slot >= limit) return false;
  const first = 1 + slot * PER_FAMILY;
  return first + PER_FAMILY <= SENTINELS_START || first >= SENTINELS_END;
}

function addressesOf(slot: number): IpAddress[] {
  const addresses: IpAddress[] = [];
  for (const range of [PROXY_RANGE_V4, PROXY_RANGE_V6]) {
    for (let i = 0; i < PER_FAMILY; i++) {
      const bytes = range.ip.bytes.slice();
      const at = bytes.length - 4;
      writeU32(bytes, at, readU32(bytes, at) + 1 + slot * PER_FAMILY + i);
      addresses.push(new IpAddress(bytes));
    }
  }
  return addresses;
}

function slotOf(ip: IpAddress): number | undefined {
  const range = ip.family === 4 ? PROXY_RANGE_V4 : PROXY_RANGE_V6;
  if (!range.contains(ip)) return undefined;
  const at = ip.bytes.length - 4;
  const offset = readU32(ip.bytes, at) - readU32(range.ip.bytes, at);
  return offset === 0 ? undefined : Math.floor((offset - 1) / PER_FAMILY);
}
