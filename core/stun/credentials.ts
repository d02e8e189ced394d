/**
 * Keys for MESSAGE-INTEGRITY (RFC 8489 §9.1.1 and §9.2.2).
 *
 * Deviation: passwords, realms and user names are taken as they are, without the preparation of
 * RFC 8265; all of ours are plain ASCII, for which it changes nothing.
 * @module
 */

import { utf8 } from "../bytes/mod.ts";
import { md5 } from "@noble/hashes/legacy.js";

/** The key of the short-term mechanism, which ICE uses. */
export function shortTermKey(password: string): Uint8Array {
  return utf8(password);
}

/** The key of the long-term mechanism, which TURN uses. */
export function longTermKey(username: string, realm: string, password: string): Uint8Array {
  return md5(utf8(`${username}:${realm}:${password}`));
}
