/**
 * Addresses as small numbers, for as long as somebody refers to them.
 *
 * The packet path then compares and hashes numbers. A number is given to another address once the
 * last reference is gone.
 * Cost: a lookup walks a prefix table and allocates nothing.
 * @module
 */

import { type Family, type IpAddress, Prefix, PrefixTable } from "@firezone/core/ip";

/** See the head of this file. */
export class AddressSlots {
  #table = new PrefixTable();
  #addresses: (IpAddress | undefined)[] = [];
  #references: number[] = [];
  #free: number[] = [];

  /** Number of addresses that are referred to. */
  get size(): number {
    return this.#table.size;
  }

  /** The slot of the address at `buf[offset]`, -1 when it has none. */
  lookup(family: Family, buf: Uint8Array, offset: number): number {
    return this.#table.lookup(family, buf, offset);
  }

  /** The slot of an address, given to it now if need be; counts as a reference. */
  take(address: IpAddress): number {
    const known = this.find(address);
    if (known >= 0) {
      this.#references[known]!++;
      return known;
    }
    const slot = this.#free.pop() ?? this.#addresses.length;
    this.#addresses[slot] = address;
    this.#references[slot] = 1;
    this.#table.insert(hostPrefix(address), slot);
    return slot;
  }

  /** The slot of an address, -1 when it has none; no reference. */
  find(address: IpAddress): number {
    return this.#table.lookup(address.family, address.bytes, 0);
  }

  /** One more reference to a slot that has some. */
  retain(slot: number): void {
    this.#references[slot]!++;
  }

  /** One reference less; with the last one the slot is free. */
  release(slot: number): void {
    if (--this.#references[slot]! > 0) return;
    this.#table.delete(hostPrefix(this.#addresses[slot]!));
    this.#addresses[slot] = undefined;
    this.#free.push(slot);
  }

  /** The address of a slot that is referred to. */
  address(slot: number): IpAddress {
    return this.#addresses[slot]!;
  }

  /** Forgets everything. */
  clear(): void {
    this.#table = new PrefixTable();
    this.#addresses = [];
    this.#references = [];
    this.#free = [];
  }
}

function hostPrefix(address: IpAddress): Prefix {
  return new Prefix(address, address.bytes.length * 8);
}
