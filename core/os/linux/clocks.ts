/**
 * The kernel's clocks (clock_gettime(2)).
 * @module
 */

import { osError } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const CLOCK_MONOTONIC = 1;
const CLOCK_BOOTTIME = 7;

// struct timespec (bits/types/struct_timespec.h), 16 bytes: i64 seconds, i64 nanoseconds
const timespec = new Memory(16);

/** Milliseconds since the machine was started, sleep included; never goes backwards. @throws OsError */
export function bootTimeMs(): number {
  return readMs(CLOCK_BOOTTIME);
}

/** How long the machine has slept since it was started, in milliseconds. @throws OsError */
export function sleptMs(): number {
  return bootTimeMs() - readMs(CLOCK_MONOTONIC);
}

function readMs(clock: number): number {
  if (libc.clock_gettime(clock, timespec.bytes) < 0) throw osError("clock_gettime", `${clock}`);
  const seconds = timespec.u32[0]! + timespec.u32[1]! * 0x1_0000_0000;
  return seconds * 1000 + timespec.u32[2]! / 1e6;
}
