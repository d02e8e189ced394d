/**
 * Randomness that replays.
 * @module
 */

import type { RandomBytes } from "../random.ts";

/** A reproducible stream of bytes (xorshift32): same seed, same stream. For tests alone. */
export function seededRandom(seed: number): RandomBytes {
  let state = (seed ^ 0x9e3779b9) | 0 || 1;
  return (length) => {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      bytes[i] = state >>> 11;
    }
    return bytes;
  };
}
