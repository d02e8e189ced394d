/**
 * Bytes that look random and that both ends can make from a number, so that whatever happens to them
 * on the way shows.
 *
 * @module
 */

/** An endless stream of bytes; the same seed gives the same bytes. */
export class Pattern {
  readonly #words = new Uint32Array(4096);
  readonly #bytes = new Uint8Array(this.#words.buffer);
  #state: number;
  #at = this.#bytes.length;

  /** The stream of that number. */
  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b1) | 1; // xorshift must not begin at zero
  }

  /** Writes the next bytes of the stream. */
  fill(buf: Uint8Array): void {
    for (let done = 0; done < buf.length;) {
      const part = this.#next(buf.length - done);
      buf.set(part, done);
      done += part.length;
    }
  }

  /** Whether these are the next bytes of the stream. */
  check(buf: Uint8Array): boolean {
    for (let done = 0; done < buf.length;) {
      const part = this.#next(buf.length - done);
      for (let i = 0; i < part.length; i++) if (part[i] !== buf[done + i]) return false;
      done += part.length;
    }
    return true;
  }

  #next(limit: number): Uint8Array {
    if (this.#at === this.#bytes.length) this.#refill();
    const end = Math.min(this.#bytes.length, this.#at + limit);
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  /** xorshift32 (Marsaglia 2003). */
  #refill(): void {
    let x = this.#state;
    for (let i = 0; i < this.#words.length; i++) {
      x ^= x << 13;
      x ^= x >>> 17;
      x ^= x << 5;
      this.#words[i] = x;
    }
    this.#state = x;
    this.#at = 0;
  }
}

/** Numbers below `limit`; the same seed gives the same numbers. */
export class Dice {
  readonly #pattern: Pattern;
  readonly #word = new Uint8Array(4);

  /** The numbers of that seed. */
  constructor(seed: number) {
    this.#pattern = new Pattern(seed);
  }

  /** The next one, from 0 to `limit` - 1. */
  below(limit: number): number {
    this.#pattern.fill(this.#word);
    return new DataView(this.#word.buffer).getUint32(0) % limit;
  }
}
