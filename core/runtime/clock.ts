/**
 * Where the shells get the time that they hand to the state machines.
 * @module
 */

import { bootTimeMs } from "../os/linux/mod.ts";
import type { Millis, UnixSeconds } from "../units.ts";

/**
 * Now, in monotonic milliseconds since the machine was started; never goes backwards.
 *
 * Time that the machine sleeps counts, which `performance.now()` leaves out: keys, authorisations
 * and what NATs remember grow old meanwhile.
 */
export function monotonicNow(): Millis {
  return bootTimeMs() as Millis;
}

/** Now, by the wall clock, in whole seconds. */
export function wallClockNow(): UnixSeconds {
  return Math.floor(Date.now() / 1000) as UnixSeconds;
}

/** The wall clock at zero of {@link monotonicNow}, in milliseconds since 1970. */
export function unixMillisAtZero(): number {
  return Date.now() - monotonicNow();
}
