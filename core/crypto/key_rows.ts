/**
 * Keys side by side in one array, each in a row of 32 bytes.
 *
 * A row is all that a packet has to fetch from memory of its key, where an array of its own would be
 * four cache lines for it. Rows that are free are zeros.
 * @module
 */

import { KEY_LENGTH } from "./aead.ts";

const WORDS = KEY_LENGTH / 4;

/** No key has this row. */
export const NO_ROW = -1;

/** See the head of this file. */
export class KeyRows {
  #words = new Int32Array(64 * WORDS);
  #used = 0;
  readonly #free: number[] = [];

  /** No keys. */
  constructor() {}

  /** Copies a key of {@link KEY_LENGTH} bytes into a row and returns its number. */
  add(key: Uint8Array): number {
    const row = this.#free.pop() ?? this.#used++;
    if ((row + 1) * WORDS > this.#words.length) this.#grow();
    new Uint8Array(this.#words.buffer).set(key, row * KEY_LENGTH);
    return row;
  }

  /** Writes the key of a row into the first bytes of `to`. */
  read(row: number, to: Int32Array): void {
    const first = row * WORDS;
    for (let i = 0; i < WORDS; i++) to[i] = this.#words[first + i]!;
  }

  /** Forgets a key; its row will be another's. */
  delete(row: number): void {
    this.#words.fill(0, row * WORDS, (row + 1) * WORDS);
    this.#free.push(row);
  }

  #grow(): void {
    const former = this.#words;
    this.#words = new Int32Array(2 * former.length);
    this.#words.set(former);
    former.fill(0);
  }
}
