/**
 * What can be fuzzed, and a run over it that a seed repeats.
 *
 * fast-check makes the inputs, and makes a failing one smaller. Seed and path name an input for ever:
 * the path of a failure leads to the smallest input that was found.
 * @module
 */

import fc from "fast-check";

/** Something that must survive any input. */
export interface FuzzTarget {
  /** Its name on the command line. */
  readonly name: string;
  /** Completes "feeds …". */
  readonly description: string;
  /** Makes the property that has to hold; it counts in `coverage` how far inputs get. */
  property(coverage: Coverage): fc.IRawProperty<unknown, false>;
}

/** How a run is bounded. */
export interface FuzzOptions {
  /** Inputs are the same for the same seed. */
  readonly seed: number;
  /** Inputs at most. */
  readonly runs?: number | undefined;
  /** Time at most. */
  readonly milliseconds?: number | undefined;
  /** Of a failure, to see it again. */
  readonly path?: string | undefined;
}

/** What a run found. */
export interface FuzzReport {
  /** Inputs that were tried, without those of shrinking. */
  readonly runs: number;
  /** How often inputs got somewhere. */
  readonly coverage: Coverage;
  /** The smallest input that failed. */
  readonly failure?: FuzzFailure;
}

/** An input that broke something. */
export interface FuzzFailure {
  /** Repeats it together with the seed. */
  readonly path: string;
  /** The input, in words. */
  readonly input: string;
  /** What went wrong. */
  readonly error: unknown;
}

/** Counts by name, to see what inputs reach. */
export class Coverage {
  readonly #counts = new Map<string, number>();

  /** Counts one. */
  hit(name: string): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** How often something was reached. */
  of(name: string): number {
    return this.#counts.get(name) ?? 0;
  }

  /** All counts, by name. */
  entries(): [string, number][] {
    return [...this.#counts].sort(([a], [b]) => a < b ? -1 : 1);
  }
}

/** Feeds a target until something breaks or the bound is reached. */
export function fuzz(target: FuzzTarget, options: FuzzOptions): FuzzReport {
  const coverage = new Coverage();
  const { seed, runs = 2 ** 31 - 1, milliseconds, path } = options;
  const details = fc.check(target.property(coverage), {
    seed,
    numRuns: runs,
    ...(milliseconds !== undefined && { interruptAfterTimeLimit: milliseconds }),
    ...(path !== undefined && { path, endOnFailure: true }),
  });
  const report = { runs: details.numRuns, coverage };
  if (!details.failed || details.counterexamplePath === null) return report;
  const failure = {
    path: details.counterexamplePath,
    input: fc.stringify(details.counterexample),
    error: details.errorInstance,
  };
  return { ...report, failure };
}
