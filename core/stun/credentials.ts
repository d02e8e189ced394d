/**
 * Keys for MESSAGE-INTEGRITY (RFC 8489 §9.1.1 and §9.2.2).
 *
 * Deviation: passwords, realms and user names are taken as they are, without the preparation of
 * RFC 8265; all of ours are plain ASCII, for which it changes nothing.
 * @module
 */

import { createHash } from "node:crypto";
import { utf8 } from "../bytes/mod.ts";

/** The key of the short-term mechanism, which ICE uses. */
export function shortTermKey(password: string): Uint8Array {
  return utf8(password);
}

/** The key of the long-term mechanism, which TURN uses. */
export function longTermKey(username: string, realm: string, password: string): Uint8Array {
  return createHash("md5").update(`${username}:${realm}:${password}`, "utf8").digest();
}
