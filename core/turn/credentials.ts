/**
 * Credentials that portal and relay agree on without talking to each other: the portal signs an
 * expiry with the relay's secret, the relay computes the same password from the username alone.
 *
 *     username = "<expiry>:<salt>"
 *     password = unpadded base64 of SHA-256("<expiry>:<stamp secret>:<salt>")
 *
 * The secret is used as the text it is, never decoded from hex. They are used with the long-term
 * mechanism of RFC 8489 §9.2 in the realm {@link RELAY_REALM}.
 * @module
 */

import { base64NoPad, utf8 } from "../bytes/mod.ts";
import type { UnixSeconds } from "../units.ts";
import { sha256 } from "@noble/hashes/sha2.js";

/** The realm of every relay. */
export const RELAY_REALM = "firezone";

/** What a client presents to a relay. */
export interface TurnCredentials {
  /** `<expiry>:<salt>`. */
  readonly username: string;
  /** See the head of this file. */
  readonly password: string;
  /** {@link RELAY_REALM}, except in tests against other servers. */
  readonly realm: string;
}

/** A username, taken apart. */
export interface RelayUsername {
  /** As it was written, since the password depends on the text. */
  readonly expiryText: string;
  /** The credential is valid up to and including this second. */
  readonly expiresAt: UnixSeconds;
  /** Anything without a colon. */
  readonly salt: string;
}

/** The password for a username's two halves. */
export function relayPassword(expiryText: string, stampSecret: string, salt: string): string {
  return base64NoPad(sha256(utf8(`${expiryText}:${stampSecret}:${salt}`)));
}

/** A credential that the relay with this secret accepts until `expiresAt`. */
export function relayCredentials(
  expiresAt: UnixSeconds,
  stampSecret: string,
  salt: string,
): TurnCredentials {
  const expiryText = String(expiresAt);
  return {
    username: `${expiryText}:${salt}`,
    password: relayPassword(expiryText, stampSecret, salt),
    realm: RELAY_REALM,
  };
}

/** Takes a username apart; `undefined` where it is not one of a relay's. */
export function parseRelayUsername(username: string): RelayUsername | undefined {
  const match = /^(\d{1,20}):([^:]*)$/.exec(username);
  if (!match) return undefined;
  const expiresAt = Number(match[1]);
  // Past 2^53 seconds would be rounded; nobody issues them, so they are no usernames.
  if (!Number.isSafeInteger(expiresAt)) return undefined;
  return { expiryText: match[1]!, expiresAt: expiresAt as UnixSeconds, salt: match[2]! };
}
