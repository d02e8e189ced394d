/**
 * Randomness as an argument: state machines never draw their own.
 * @module
 */

/** Returns `length` fresh bytes. Unpredictable in programs, seeded in tests. */
export type RandomBytes = (length: number) => Uint8Array;

/** A uniformly distributed integer in `[0, bound)`; `bound` is at most 2^32. */
export function randomBelow(random: RandomBytes, bound: number): number {
  // Values past the last full multiple of `bound` would favour small results.
  const limit = 2 ** 32 - (2 ** 32 % bound);
  while (true) {
    const b = random(4);
    const n = (b[0]! * 0x1000000) + (b[1]! << 16 | b[2]! << 8 | b[3]!);
    if (n < limit) return n % bound;
  }
}

/** A random UUID (RFC 9562, version 4) in lowercase text. */
export function randomUuid(random: RandomBytes): string {
  const b = random(16);
  b[6] = b[6]! & 0x0f | 0x40;
  b[8] = b[8]! & 0x3f | 0x80;
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)]
    .join("-");
}
