/**
 * Proxy addresses: what names of DNS resources resolve to on this machine. The gateway learns which
 * name they stand for and translates them to real ones.
 *
 * Every name gets a slot, and the number of a slot determines its addresses, four of each family:
 *
 *     slot 0   100.96.0.1 … .4    fd00:2021:1111:8000::1 … ::4
 *     slot 1   100.96.0.5 … .8    fd00:2021:1111:8000::5 … ::8
 *
 * Slots that touch the sentinels are left out. A name keeps its slot, because programs keep addresses
 * longer than they should. Only when there are very many names does the one asked for longest ago
 * make way; its slot is not used again before all others were.
 * @module
 */

import { readU32, writeU32 } from "../bytes/fields.ts";
import { type Family, IpAddress, type Prefix, prefix } from "../ip/address.ts";
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

/** Names that have addresses at the same time; some 200 bytes each. */
const MAX_NAMES = 65_536;

/** What has to be kept for a name to have the same addresses again. */
export interface ProxyRecord {
  /** The name, in lower case. */
  readonly domain: string;
  /** Its slot. */
  readonly slot: number;
}

/** How much {@link ProxyAddresses} has; for tests. */
export interface ProxyAddressesOptions {
  /** Names at most. */
  readonly maxNames?: number;
  /** Slots to use. */
  readonly slots?: number;
}

/** The names that have addresses. */
export class ProxyAddresses {
  /** The name asked for longest ago comes first. */
  readonly #slots = new Map<string, number>();
  /** Goes on where it stopped: what lies before it was evicted or asked for again. */
  readonly #oldestFirst = this.#slots.entries();
  readonly #domains = new Map<number, string>();
  readonly #evicted: string[] = [];
  readonly #maxNames: number;
  readonly #slotCount: number;
  #next = 0;

  /** Takes over what a former process assigned; entries that do not make sense are left out.
   * @param restored earlier entries win over later ones that contradict them */
  constructor(restored: Iterable<ProxyRecord> = [], options: ProxyAddressesOptions = {}) {
    this.#maxNames = options.maxNames ?? MAX_NAMES;
    this.#slotCount = options.slots ?? SLOTS;
    for (const { domain, slot } of restored) {
      if (domain === "" || !isUsable(slot, this.#slotCount)) continue;
      if (this.#slots.has(domain) || this.#domains.has(slot)) continue;
      if (this.#slots.size >= this.#maxNames) this.#evictOldest();
      this.#put(domain, slot);
    }
    this.#evicted.length = 0; // nobody has heard of them
  }

  /** Number of names with addresses. */
  get size(): number {
    return this.#slots.size;
  }

  /** Whether `domain` has addresses already. */
  has(domain: string): boolean {
    return this.#slots.has(domain);
  }

  /** The slot of a name; it gets one now if it has none, and another name may lose its own.
   * @param domain in lower case, without a final dot */
  assign(domain: string): number {
    const known = this.#slots.get(domain);
    if (known === undefined && this.#slots.size >= this.#maxNames) this.#evictOldest();
    const slot = known ?? this.#takeSlot();
    this.#slots.delete(domain); // to the end of the order
    this.#put(domain, slot);
    return slot;
  }

  /** The name that an address stands for. */
  domainOf(ip: IpAddress): string | undefined {
    return this.#domains.get(proxySlotAt(ip.family, ip.bytes, 0));
  }

  /** The next name that has lost its addresses. */
  pollEvicted(): string | undefined {
    return this.#evicted.shift();
  }

  /** What to keep, the names asked for longest ago first.
   * @param limit number of names; those asked for last are chosen */
  records(limit = Infinity): ProxyRecord[] {
    const all = Array.from(this.#slots, ([domain, slot]) => ({ domain, slot }));
    return all.length > limit ? all.slice(all.length - limit) : all;
  }

  #put(domain: string, slot: number): void {
    this.#slots.set(domain, slot);
    this.#domains.set(slot, domain);
  }

  #evictOldest(): void {
    const [domain, slot] = this.#oldestFirst.next().value!;
    this.#slots.delete(domain);
    this.#domains.delete(slot);
    this.#evicted.push(domain);
  }

  /** The next free slot, all round: there are more of them than names. */
  #takeSlot(): number {
    while (true) {
      const slot = this.#next;
      this.#next = (slot + 1) % this.#slotCount;
      if (isUsable(slot, this.#slotCount) && !this.#domains.has(slot)) return slot;
    }
  }
}

/** The addresses of a slot, IPv4 first. */
export function proxyAddressesOf(slot: number): readonly IpAddress[] {
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

/** The slot of the address at `buf[offset]`, -1 when it is no proxy address. Allocates nothing. */
export function proxySlotAt(family: Family, buf: Uint8Array, offset: number): number {
  const { bytes } = (family === 4 ? PROXY_RANGE_V4 : PROXY_RANGE_V6).ip;
  const at = bytes.length - 4;
  for (let i = 0; i < at; i++) if (buf[offset + i] !== bytes[i]) return -1;
  const place = readU32(buf, offset + at) - readU32(bytes, at);
  return place > 0 && place < RANGE_SIZE ? Math.floor((place - 1) / PER_FAMILY) : -1;
}

function isUsable(slot: number, slotCount: number): boolean {
  if (!Number.isInteger(slot) || slot < 0 || slot >= slotCount) return false;
  const first = 1 + slot * PER_FAMILY;
  return first + PER_FAMILY <= SENTINELS_START || first >= SENTINELS_END;
}
