/**
 * How much garbage a piece of code makes, for tests that it makes none.
 * @module
 */

const RUNS = 21;
const MAX_ROUNDS = 200;

/**
 * The median growth of the heap in bytes while `batch` runs, once the compiler has had its turn: on
 * a busy machine that takes a while, so rounds go on until one stays below `limit`, or none will.
 *
 * The measurement itself makes an object, so let a batch do its work a thousand times and more: a
 * byte each time is then a limit of a few thousand.
 */
export function medianHeapGrowth(batch: () => void, limit: number): number {
  let median = Infinity;
  for (let round = 0; round < MAX_ROUNDS && median >= limit; round++) {
    const growth = Array.from({ length: RUNS }, () => {
      const before = Deno.memoryUsage().heapUsed;
      batch();
      return Deno.memoryUsage().heapUsed - before;
    });
    median = growth.sort((a, b) => a - b)[RUNS >> 1]!;
  }
  return median;
}
