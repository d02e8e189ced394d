/**
 * Deadlines of many things in one heap, so that the next one is known at once and moving one costs
 * the logarithm of their number.
 *
 * Order among equal deadlines is the order in which they were set, so that a seed replays exactly.
 * @module
 */

import { type Millis, NEVER } from "./units.ts";

interface Entry<K> {
  readonly key: K;
  at: Millis;
  order: number;
  index: number;
}

/** A set of keys with one deadline each. */
export class Deadlines<K> {
  readonly #heap: Entry<K>[] = [];
  readonly #byKey = new Map<K, Entry<K>>();
  #nextOrder = 0;

  /** Number of keys with a deadline. */
  get size(): number {
    return this.#heap.length;
  }

  /** The earliest deadline, or {@link NEVER}. */
  get next(): Millis {
    return this.#heap.length === 0 ? NEVER : this.#heap[0]!.at;
  }

  /** The deadline of `key`, or {@link NEVER}. */
  of(key: K): Millis {
    return this.#byKey.get(key)?.at ?? NEVER;
  }

  /** Sets or moves the deadline of `key`; {@link NEVER} removes it. */
  set(key: K, at: Millis): void {
    if (at === NEVER) return this.delete(key);
    const entry = this.#byKey.get(key);
    if (entry === undefined) {
      const added = { key, at, order: this.#nextOrder++, index: this.#heap.length };
      this.#byKey.set(key, added);
      this.#heap.push(added);
      this.#up(added);
    } else if (entry.at !== at) {
      entry.at = at;
      entry.order = this.#nextOrder++;
      this.#up(entry);
      this.#down(entry);
    }
  }

  /**
   * Makes the deadline of `key` no later than `at`; an earlier one stays. For deadlines that traffic
   * puts off again and again: whoever is woken in vain says anew when to be woken.
   */
  hasten(key: K, at: Millis): void {
    const entry = this.#byKey.get(key);
    if (entry === undefined || at < entry.at) this.set(key, at);
  }

  /** Forgets `key`; nothing happens when it has no deadline. */
  delete(key: K): void {
    const entry = this.#byKey.get(key);
    if (entry === undefined) return;
    this.#byKey.delete(key);
    const last = this.#heap.pop()!;
    if (last === entry) return;
    last.index = entry.index;
    this.#heap[last.index] = last;
    this.#up(last);
    this.#down(last);
  }

  /** Removes and returns one key whose deadline is at or before `now`, earliest first. */
  takeDue(now: Millis): K | undefined {
    const first = this.#heap[0];
    if (first === undefined || first.at > now) return undefined;
    this.delete(first.key);
    return first.key;
  }

  #before(a: Entry<K>, b: Entry<K>): boolean {
    return a.at < b.at || a.at === b.at && a.order < b.order;
  }

  #up(entry: Entry<K>): void {
    while (entry.index > 0) {
      const parent = this.#heap[(entry.index - 1) >> 1]!;
      if (!this.#before(entry, parent)) return;
      this.#swap(entry, parent);
    }
  }

  #down(entry: Entry<K>): void {
    while (true) {
      let least = entry;
      for (let child = 2 * entry.index + 1; child <= 2 * entry.index + 2; child++) {
        const other = this.#heap[child];
        if (other !== undefined && this.#before(other, least)) least = other;
      }
      if (least === entry) return;
      this.#swap(entry, least);
    }
  }

  #swap(a: Entry<K>, b: Entry<K>): void {
    [a.index, b.index] = [b.index, a.index];
    this.#heap[a.index] = a;
    this.#heap[b.index] = b;
  }
}
