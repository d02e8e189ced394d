/**
 * Which of the counters of a session were seen, so that none is accepted twice.
 *
 * A ring of bits, as in RFC 6479: words ahead of the greatest counter are cleared when it moves, and
 * nothing is ever shifted. Counters too far behind the greatest are refused as if seen.
 * Cost: 1 KiB per session, nothing per packet.
 * @module
 */

const WORD_BITS = 32;
const WORDS = 256;

/** Counters this much behind the greatest one may still arrive. One word less than the ring has, as
 * the word of the greatest counter is only partly in use. */
export const REPLAY_WINDOW_SIZE: number = (WORDS - 1) * WORD_BITS;

/** The window of one session and direction. */
export class ReplayWindow {
  readonly #words = new Int32Array(WORDS);
  #greatest = -1;
  #accepted = 0;

  /** A window that has seen nothing. */
  constructor() {}

  /** Counters up to the greatest one that were never accepted: what is lost, or late so far. */
  get missing(): number {
    return this.#greatest + 1 - this.#accepted;
  }

  /** Whether `counter` is new and not too old. Changes nothing: authenticate first, then
   * {@link accept}.
   * @param counter below 2^53 */
  isFresh(counter: number): boolean {
    if (counter > this.#greatest) return true;
    if (this.#greatest - counter >= REPLAY_WINDOW_SIZE) return false;
    const word = Math.floor(counter / WORD_BITS) % WORDS;
    return (this.#words[word]! & 1 << counter % WORD_BITS) === 0;
  }

  /** Marks `counter` as seen; only for one that {@link isFresh}. */
  accept(counter: number): void {
    this.#accepted++;
    const wordNumber = Math.floor(counter / WORD_BITS);
    if (counter > this.#greatest) {
      const before = Math.floor(this.#greatest / WORD_BITS);
      const first = Math.max(before + 1, wordNumber - WORDS + 1);
      for (let i = first; i <= wordNumber; i++) this.#words[i % WORDS] = 0;
      this.#greatest = counter;
    }
    const word = wordNumber % WORDS;
    this.#words[word] = this.#words[word]! | 1 << counter % WORD_BITS;
  }
}
