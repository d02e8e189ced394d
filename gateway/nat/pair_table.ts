/**
 * A hash table from pairs of small integers to small integers, in one flat array.
 *
 *     │ a │ b │ value │ a │ b │ value │ …    value -1: nothing there
 *
 * Collisions go to the next place (linear probing), and deleting moves what follows back (Knuth,
 * vol. 3, §6.4, algorithm R), so that there are no graves to step over. A seed keeps strangers, who
 * choose the numbers, from choosing collisions.
 * Cost: nothing is allocated but when the table grows. At least half of the places stay free.
 * @module
 */

const WIDTH = 3;
const NONE = -1;
const SMALLEST = 16;

/** Maps pairs `(a, b)`, each from 0 to 2^31 - 1, to numbers from 0 to 2^31 - 1. */
export class PairTable {
  readonly #seed: number;
  #places: Int32Array = emptyPlaces(SMALLEST);
  #mask = SMALLEST - 1;
  #size = 0;

  /** An empty table.
   * @param seed 32 random bits */
  constructor(seed: number) {
    this.#seed = seed | 0;
  }

  /** Number of pairs. */
  get size(): number {
    return this.#size;
  }

  /** The value of a pair, -1 for none. */
  get(a: number, b: number): number {
    const places = this.#places;
    for (let i = this.#home(a, b);; i = (i + 1) & this.#mask) {
      const value = places[WIDTH * i + 2]!;
      if (value === NONE || places[WIDTH * i] === a && places[WIDTH * i + 1] === b) return value;
    }
  }

  /** Sets the value of a pair. */
  set(a: number, b: number, value: number): void {
    if (2 * this.#size > this.#mask) this.#grow();
    this.#put(a, b, value);
  }

  /** Removes a pair; returns whether it was there. */
  delete(a: number, b: number): boolean {
    const places = this.#places;
    const mask = this.#mask;
    let hole = this.#home(a, b);
    while (true) {
      if (places[WIDTH * hole + 2] === NONE) return false;
      if (places[WIDTH * hole] === a && places[WIDTH * hole + 1] === b) break;
      hole = (hole + 1) & mask;
    }
    this.#size--;
    for (let i = (hole + 1) & mask; places[WIDTH * i + 2] !== NONE; i = (i + 1) & mask) {
      // What lies between its home and here may move back to the hole, the rest may not.
      const home = this.#home(places[WIDTH * i]!, places[WIDTH * i + 1]!);
      if (((i - home) & mask) < ((i - hole) & mask)) continue;
      places.copyWithin(WIDTH * hole, WIDTH * i, WIDTH * (i + 1));
      hole = i;
    }
    places[WIDTH * hole + 2] = NONE;
    return true;
  }

  /** Removes everything and gives the memory back. */
  clear(): void {
    this.#places = emptyPlaces(SMALLEST);
    this.#mask = SMALLEST - 1;
    this.#size = 0;
  }

  #put(a: number, b: number, value: number): void {
    const places = this.#places;
    let i = this.#home(a, b);
    while (places[WIDTH * i + 2] !== NONE) {
      if (places[WIDTH * i] === a && places[WIDTH * i + 1] === b) {
        places[WIDTH * i + 2] = value;
        return;
      }
      i = (i + 1) & this.#mask;
    }
    places[WIDTH * i] = a;
    places[WIDTH * i + 1] = b;
    places[WIDTH * i + 2] = value;
    this.#size++;
  }

  #grow(): void {
    const old = this.#places;
    const length = 2 * (this.#mask + 1);
    this.#places = emptyPlaces(length);
    this.#mask = length - 1;
    this.#size = 0;
    for (let i = 0; i < old.length; i += WIDTH) {
      if (old[i + 2] !== NONE) this.#put(old[i]!, old[i + 1]!, old[i + 2]!);
    }
  }

  /** Where a pair is looked for first: both numbers and the seed through MurmurHash3's finish. */
  #home(a: number, b: number): number {
    let h = mix(this.#seed ^ a);
    h = mix(h ^ b);
    return h & this.#mask;
  }
}

function mix(n: number): number {
  let h = Math.imul(n ^ n >>> 16, 0x85ebca6b);
  h = Math.imul(h ^ h >>> 13, 0xc2b2ae35);
  return h ^ h >>> 16;
}

function emptyPlaces(length: number): Int32Array {
  return new Int32Array(WIDTH * length).fill(NONE);
}
