/**
 * Transaction ids: what ties an answer to its request (RFC 8489 §5).
 * @module
 */

import { hex } from "../bytes/mod.ts";
import type { RandomBytes } from "../random.ts";
import { TRANSACTION_ID_LENGTH } from "./header.ts";

/** A fresh id, as 24 hex characters. @param random unpredictable, or answers can be forged */
export function newTransactionId(random: RandomBytes): string {
  return hex(random(TRANSACTION_ID_LENGTH));
}
