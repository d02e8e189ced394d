/**
 * Which relays are quick enough for a new connection.
 * @module
 */

/** What a choice needs to know of a relay. */
export interface Measured {
  /** Milliseconds of a round trip to the relay; undefined until one was measured. */
  readonly rttMs: number | undefined;
}

/**
 * The relays worth using, in the order given: with two of them, those within 1.5 times the best
 * round trip, else those that are no outliers (three median absolute deviations, of 2 ms at least,
 * above the median). Relays not measured yet count only when none is.
 */
export function quickRelays<R extends Measured>(relays: readonly R[]): readonly R[] {
  const rtts = relays.flatMap(({ rttMs }) => rttMs === undefined ? [] : [rttMs]);
  if (rtts.length === 0) return relays;
  const limit = rtts.length <= 2 ? 1.5 * Math.min(...rtts) : outlierLimit(rtts);
  return relays.filter(({ rttMs }) => rttMs !== undefined && rttMs <= limit);
}

function outlierLimit(values: readonly number[]): number {
  const middle = median(values);
  const deviation = median(values.map((value) => Math.abs(value - middle)));
  return middle + 3 * Math.max(2, deviation);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
