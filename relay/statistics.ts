/**
 * The line that a relay logs now and then about what it does.
 * @module
 */

import type { RelayTotals } from "./metrics.ts";

/** Fields of the line. */
export interface StatisticsFields {
  /** How many there are. */
  readonly allocations: number;
  /** How many there are. */
  readonly channels: number;
  /** Application data relayed since the last line, on average: `1.25 MB/s`. */
  readonly throughput: string;
}

/** Makes the lines, one after the other. */
export class Statistics {
  #beforeMs: number;
  #bytesBefore = 0;

  /** Begins to measure.
   * @param nowMs monotonic */
  constructor(nowMs: number) {
    this.#beforeMs = nowMs;
  }

  /** What happened since the last line. */
  next(nowMs: number, totals: RelayTotals): StatisticsFields {
    const { allocations, channels, bytes } = totals;
    const seconds = Math.max(nowMs - this.#beforeMs, 1) / 1000;
    const throughput = formatRate((bytes - this.#bytesBefore) / seconds);
    this.#beforeMs = nowMs;
    this.#bytesBefore = bytes;
    return { allocations, channels, throughput };
  }
}

const UNITS = ["B/s", "kB/s", "MB/s", "GB/s", "TB/s"] as const;

/** A rate in decimal units with two decimals. */
export function formatRate(bytesPerSecond: number): string {
  let value = bytesPerSecond;
  let unit = 0;
  // What would be rounded to 1000.00 belongs to the next unit.
  for (; value >= 999.995 && unit < UNITS.length - 1; unit++) value /= 1000;
  return `${value.toFixed(2)} ${UNITS[unit]}`;
}
