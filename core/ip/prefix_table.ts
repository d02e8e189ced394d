/**
 * A table of prefixes that finds the longest one containing an address, straight from packet bytes.
 *
 * Each family has a binary trie without one-way branches (Morrison 1968): a node stands for a prefix
 * that is in the table, or for the point where two of them part. Nodes are places in flat arrays,
 * and the root, the prefix of length zero, is place 0, so a child of 0 is no child.
 *
 *     0.0.0.0/0 ── 10.0.0.0/8 ─┬─ 10.1.0.0/16
 *                              └─ 10.128.0.0/9 ─┬─ …
 *
 * Values are numbers, usually places in an array of the owner's.
 * Cost: a lookup visits at most one node per level and allocates nothing; 100 000 random prefixes
 * are about 20 levels deep. Memory: up to two nodes of 16 (IPv4) or 28 (IPv6) bytes per prefix.
 * @module
 */

import type { Family, Prefix } from "./address.ts";

/** Maps prefixes of both families to integers from 0 to 2^31 - 1. */
export class PrefixTable {
  readonly #ipv4 = new Trie(1);
  readonly #ipv6 = new Trie(4);

  /** Number of prefixes. */
  get size(): number {
    return this.#ipv4.size + this.#ipv6.size;
  }

  /** Adds a prefix, or gives one that is there another value.
   * @throws RangeError when `value` is no integer from 0 to 2^31 - 1 */
  insert(prefix: Prefix, value: number): void {
    if (value !== (value | 0) || value < 0) {
      throw new RangeError(`Cannot map ${prefix} to ${value}: expected an integer below 2^31`);
    }
    this.#trie(prefix.family).insert(prefix.ip.bytes, prefix.length, value);
  }

  /** Removes a prefix; returns whether it was there. */
  delete(prefix: Prefix): boolean {
    return this.#trie(prefix.family).delete(prefix.ip.bytes, prefix.length);
  }

  /** The value of exactly this prefix, -1 for none. */
  get(prefix: Prefix): number {
    return this.#trie(prefix.family).get(prefix.ip.bytes, prefix.length);
  }

  /**
   * The value of the longest prefix that contains an address, -1 for none.
   *
   * @param offset where in `buf` the address begins, 4 or 16 bytes in network order
   */
  lookup(family: Family, buf: Uint8Array, offset: number): number {
    return family === 4 ? this.#ipv4.lookup1(buf, offset) : this.#ipv6.lookup4(buf, offset);
  }

  #trie(family: Family): Trie {
    return family === 4 ? this.#ipv4 : this.#ipv6;
  }
}

const NONE = -1;

/** A trie of addresses of one length. */
class Trie {
  size = 0;
  readonly #words: number;
  #capacity = 16;
  #used = 1; // the root
  readonly #free: number[] = [];
  #lengths = new Uint8Array(this.#capacity);
  #values = new Int32Array(this.#capacity).fill(NONE);
  /** Two per node: by the first bit behind its prefix. */
  #children = new Int32Array(2 * this.#capacity);
  #keys: Int32Array;
  readonly #key = new Int32Array(4); // the prefix at hand

  /** @param words length of an address in 32-bit words: 1 or 4 */
  constructor(words: number) {
    this.#words = words;
    this.#keys = new Int32Array(words * this.#capacity);
  }

  lookup1(buf: Uint8Array, offset: number): number {
    const address = word(buf, offset);
    let best = this.#values[0]!;
    let node = this.#children[address >>> 31]!;
    while (node !== 0) {
      const length = this.#lengths[node]!;
      if ((address ^ this.#keys[node]!) >>> (32 - length) !== 0) break;
      const value = this.#values[node]!;
      if (value !== NONE) best = value;
      if (length === 32) break;
      node = this.#children[2 * node + (address >>> (31 - length) & 1)]!;
    }
    return best;
  }

  lookup4(buf: Uint8Array, offset: number): number {
    let best = this.#values[0]!;
    let node = this.#children[buf[offset]! >> 7]!;
    let current = word(buf, offset); // the word of the address in which prefixes end just now
    let index = 0; // of that word; all before it are known to match
    while (node !== 0) {
      const length = this.#lengths[node]!;
      const key = 4 * node;
      while (index < length >> 5) {
        if (current !== this.#keys[key + index]) return best;
        current = ++index < 4 ? word(buf, offset + 4 * index) : 0;
      }
      const rest = length & 31;
      if (rest !== 0 && (current ^ this.#keys[key + index]!) >>> (32 - rest) !== 0) return best;
      const value = this.#values[node]!;
      if (value !== NONE) best = value;
      if (length === 128) return best;
      node = this.#children[2 * node + (current >>> (31 - rest) & 1)]!;
    }
    return best;
  }

  get(bytes: Uint8Array, length: number): number {
    this.#load(bytes);
    let node = 0;
    do {
      const nodeLength = this.#lengths[node]!;
      if (nodeLength > length || this.#common(node, nodeLength) < nodeLength) return NONE;
      if (nodeLength === length) return this.#values[node]!;
      node = this.#children[2 * node + this.#bit(nodeLength)]!;
    } while (node !== 0);
    return NONE;
  }

  insert(bytes: Uint8Array, length: number, value: number): void {
    this.#load(bytes);
    let parentSlot = 0;
    let node = 0;
    while (true) {
      const nodeLength = this.#lengths[node]!;
      const common = this.#common(node, Math.min(nodeLength, length));
      if (common < nodeLength) {
        this.#branch(parentSlot, node, common, length, value);
        return;
      }
      if (nodeLength === length) {
        if (this.#values[node] === NONE) this.size++;
        this.#values[node] = value;
        return;
      }
      parentSlot = 2 * node + this.#bit(nodeLength);
      node = this.#children[parentSlot]!;
      if (node === 0) {
        const leaf = this.#newNode(length, value); // may replace #children
        this.#children[parentSlot] = leaf;
        return;
      }
    }
  }

  delete(bytes: Uint8Array, length: number): boolean {
    this.#load(bytes);
    let grandparentSlot = 0;
    let parentSlot = 0;
    let node = 0;
    while (this.#lengths[node]! < length) {
      const slot = 2 * node + this.#bit(this.#lengths[node]!);
      const child = this.#children[slot]!;
      if (child === 0) return false;
      grandparentSlot = parentSlot;
      parentSlot = slot;
      node = child;
    }
    if (this.#lengths[node] !== length || this.#common(node, length) < length) return false;
    if (this.#values[node] === NONE) return false;
    this.#values[node] = NONE;
    this.size--;
    if (node === 0) return true;
    this.#contract(parentSlot, node);
    // Removing a leaf may leave its parent a branching point without branches.
    const parent = parentSlot >> 1;
    if (parent !== 0 && this.#children[parentSlot] === 0) this.#contract(grandparentSlot, parent);
    return true;
  }

  /** Puts a node for the prefix at hand above `node`, from which it parts after `common` bits. */
  #branch(parentSlot: number, node: number, common: number, length: number, value: number): void {
    const isNew = common === length;
    const nodeBit = this.#keys[this.#words * node + (common >> 5)]! >>> (31 - (common & 31)) & 1;
    const fork = this.#newNode(common, isNew ? value : NONE);
    if (!isNew) {
      const leaf = this.#newNode(length, value);
      this.#children[2 * fork + (1 - nodeBit)] = leaf;
    }
    this.#children[2 * fork + nodeBit] = node;
    this.#children[parentSlot] = fork;
  }

  /** Takes a node without value out of the trie, unless two branches part there. */
  #contract(parentSlot: number, node: number): void {
    const left = this.#children[2 * node]!;
    const right = this.#children[2 * node + 1]!;
    if (this.#values[node] !== NONE || left !== 0 && right !== 0) return;
    this.#children[parentSlot] = left || right;
    this.#free.push(node);
  }

  /** A node with the first `length` bits of the prefix at hand. */
  #newNode(length: number, value: number): number {
    const node = this.#free.pop() ?? this.#used++;
    if (node === this.#capacity) this.#grow();
    this.#lengths[node] = length;
    this.#values[node] = value;
    if (value !== NONE) this.size++;
    this.#children[2 * node] = 0;
    this.#children[2 * node + 1] = 0;
    for (let i = 0; i < this.#words; i++) this.#keys[this.#words * node + i] = this.#key[i]!;
    return node;
  }

  #grow(): void {
    this.#capacity *= 2;
    this.#lengths = grown(this.#lengths, new Uint8Array(this.#capacity));
    this.#values = grown(this.#values, new Int32Array(this.#capacity));
    this.#children = grown(this.#children, new Int32Array(2 * this.#capacity));
    this.#keys = grown(this.#keys, new Int32Array(this.#words * this.#capacity));
  }

  #load(bytes: Uint8Array): void {
    for (let i = 0; i < this.#words; i++) this.#key[i] = word(bytes, 4 * i);
  }

  #bit(index: number): number {
    return this.#key[index >> 5]! >>> (31 - (index & 31)) & 1;
  }

  /** How many of the first `limit` bits a node's prefix and the one at hand have in common. */
  #common(node: number, limit: number): number {
    for (let i = 0; 32 * i < limit; i++) {
      const difference = this.#key[i]! ^ this.#keys[this.#words * node + i]!;
      if (difference !== 0) return Math.min(limit, 32 * i + Math.clz32(difference));
    }
    return limit;
  }
}

/** Four bytes as a signed integer in network order. */
function word(buf: Uint8Array, o: number): number {
  return buf[o]! << 24 | buf[o + 1]! << 16 | buf[o + 2]! << 8 | buf[o + 3]!;
}

function grown<T extends Uint8Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
