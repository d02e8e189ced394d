/**
 * The system's randomness, for the shells around the state machines.
 * @module
 */

import type { RandomBytes } from "./random.ts";

/** Unpredictable bytes. */
export const systemRandom: RandomBytes = (length: number): Uint8Array =>
  crypto.getRandomValues(new Uint8Array(length));
