/**
 * TAI64N, the timestamps in initiations that keep recorded ones from being played back.
 *
 *     2^62 + seconds, 8 bytes | nanoseconds, 4 bytes          big-endian, so bytes compare as time
 *
 * Spec: https://cr.yp.to/libtai/tai64.html. As all of WireGuard does, we count leap seconds as the
 * constant 10 s of 1970: only the order of the stamps of one sender matters.
 * @module
 */

import { writeU32 } from "../bytes/mod.ts";

/** Bytes of a timestamp. */
export const TAI64N_LENGTH = 12;

const TAI_MINUS_UNIX_SECONDS = 10;

/** The timestamp of a number of microseconds since 1970. */
export function tai64n(unixMicros: number): Uint8Array {
  const stamp = new Uint8Array(TAI64N_LENGTH);
  const seconds = Math.floor(unixMicros / 1_000_000);
  const tai = seconds + TAI_MINUS_UNIX_SECONDS;
  writeU32(stamp, 0, 0x4000_0000 + Math.floor(tai / 0x1_0000_0000));
  writeU32(stamp, 4, tai % 0x1_0000_0000);
  writeU32(stamp, 8, (unixMicros - seconds * 1_000_000) * 1000);
  return stamp;
}

/** Whether stamp `a` is later than stamp `b`. */
export function isLater(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < TAI64N_LENGTH; i++) {
    if (a[i] !== b[i]) return a[i]! > b[i]!;
  }
  return false;
}

/** Gives the timestamps of one sender: always later than the one before, however fast. */
export class TimestampSource {
  #lastMicros = 0;

  /** A source that has given none. */
  constructor() {}

  /** A stamp for a number of milliseconds since 1970. */
  next(unixMillis: number): Uint8Array {
    this.#lastMicros = Math.max(Math.floor(unixMillis) * 1000, this.#lastMicros + 1);
    return tai64n(this.#lastMicros);
  }
}
