/**
 * Which of the counters of a session were seen, so that none is accepted twice.
 *
 * A ring of bits, as in RFC 6479: words ahead of the greatest counter are cleared when it moves, and
 * nothing is ever shifted. Counters too far behind the greatest are refused as if seen.
 *
 * The rings of many sessions lie in one array: an array for each would be an object more that the
 * packets of many clients have to fetch from memory.
 * Cost: 1 KiB per session, nothing per packet.
 * @module
 */

const WORD_BITS = 32;
const WORDS = 256;
const RINGS_PER_ARRAY = 64;

/** Counters this much behind the greatest one may still arrive. One word less than the ring has, as
 * the word of the greatest counter is only partly in use. */
export const REPLAY_WINDOW_SIZE: number = (WORDS - 1) * WORD_BITS;

/** A place for a ring. */
interface Place {
  readonly words: Int32Array;
  readonly first: number;
}

const NO_WORDS = new Int32Array(0);

/** Rings of windows that are not used any more, and of those to come. */
const freePlaces: Place[] = [];

/** The window of one session and direction. */
export class ReplayWindow {
  #greatest = -1;
  #accepted = 0;
  #words: Int32Array;
  readonly #first: number;

  /** A window that has seen nothing. */
  constructor() {
    const { words, first } = takePlace();
    this.#words = words;
    this.#first = first;
  }

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
    const word = this.#first + Math.floor(counter / WORD_BITS) % WORDS;
    return (this.#words[word]! & 1 << counter % WORD_BITS) === 0;
  }

  /** Marks `counter` as seen; only for one that {@link isFresh}. */
  accept(counter: number): void {
    this.#accepted++;
    const wordNumber = Math.floor(counter / WORD_BITS);
    if (counter > this.#greatest) {
      const before = Math.floor(this.#greatest / WORD_BITS);
      const from = Math.max(before + 1, wordNumber - WORDS + 1);
      for (let i = from; i <= wordNumber; i++) this.#words[this.#first + i % WORDS] = 0;
      this.#greatest = counter;
    }
    const word = this.#first + wordNumber % WORDS;
    this.#words[word] = this.#words[word]! | 1 << counter % WORD_BITS;
  }

  /** Leaves the ring to another window; this one must not be used any more. */
  dispose(): void {
    if (this.#words === NO_WORDS) return; // once: two windows in one ring would be a disaster
    freePlaces.push({ words: this.#words, first: this.#first });
    this.#words = NO_WORDS;
  }
}

function takePlace(): Place {
  if (freePlaces.length === 0) {
    const words = new Int32Array(RINGS_PER_ARRAY * WORDS);
    for (let i = RINGS_PER_ARRAY - 1; i >= 0; i--) freePlaces.push({ words, first: i * WORDS });
  }
  const place = freePlaces.pop()!;
  place.words.fill(0, place.first, place.first + WORDS);
  return place;
}
