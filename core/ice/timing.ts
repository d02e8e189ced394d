/**
 * When checks are repeated, and how long a silent pair is believed in.
 *
 * A check that is not answered is repeated after `initialRtoMs`, then after twice as long each time,
 * up to `maxRtoMs`; `retransmits` repetitions at most. An answered pair is checked after `maxRtoMs`
 * at the latest, and by chance up to a fifth, at most a second, sooner.
 * @module
 */

/** How patient an agent is. */
export interface IceTiming {
  /** Wait after the first check of a pair, in milliseconds. */
  readonly initialRtoMs: number;
  /** Longest wait between two checks of a pair. */
  readonly maxRtoMs: number;
  /** Checks without an answer, the first not counted. */
  readonly retransmits: number;
}

/** Wait after the `sends`th check without an answer, counted from 1. */
export function retransmitDelayMs(timing: IceTiming, sends: number): number {
  return Math.min(timing.initialRtoMs * 2 ** (sends - 1), timing.maxRtoMs);
}

/**
 * From the first check without an answer until the pair is given up.
 *
 * A quarter of a second doubling up to 1.5 s, twelve times, gives 16.5 s; up to 15 s, 45 times,
 * gives 615.5 s; 25 s, four times, gives 100 s.
 */
export function pairTimeoutMs(timing: IceTiming): number {
  const retransmits = Math.max(1, timing.retransmits);
  let sum = retransmitDelayMs(timing, retransmits);
  for (let n = 2; n <= retransmits; n++) sum += retransmitDelayMs(timing, n);
  return sum;
}

/** Whether two timings are the same. */
export function sameTiming(a: IceTiming, b: IceTiming): boolean {
  return a.initialRtoMs === b.initialRtoMs && a.maxRtoMs === b.maxRtoMs &&
    a.retransmits === b.retransmits;
}
