/**
 * Where the shells get the time that they hand to the state machines.
 * @module
 */

import type { Millis, UnixSeconds } from "../units.ts";

/** Now, in monotonic milliseconds of this thread; never goes backwards. Threads have different origins. */
export function monotonicNow(): Millis {
  return performance.now() as Millis;
}

/** Now, by the wall clock, in whole seconds. */
export function wallClockNow(): UnixSeconds {
  return Math.floor(Date.now() / 1000) as UnixSeconds;
}

/** The wall clock at zero of {@link monotonicNow}, in milliseconds since 1970. */
export function unixMillisAtZero(): number {
  return Date.now() - performance.now();
}
