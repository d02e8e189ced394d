/**
 * UUIDs that follow from what they name, so that they survive restarts without being stored.
 * @module
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { hex, utf8 } from "@firezone/core/bytes";

/** A UUID of the first 16 bytes, with version nibble 4 and the RFC 9562 variant. */
export function uuidFromBytes(bytes: Uint8Array): string {
  const b = bytes.slice(0, 16);
  b[6] = b[6]! & 0x0f | 0x40;
  b[8] = b[8]! & 0x3f | 0x80;
  const text = hex(b);
  return [
    text.slice(0, 8),
    text.slice(8, 12),
    text.slice(12, 16),
    text.slice(16, 20),
    text.slice(20),
  ]
    .join("-");
}

/** The UUID of a thing of some kind; different kinds or names give different UUIDs. */
export function namedUuid(kind: string, name: string): string {
  return uuidFromBytes(sha256(utf8(`firezone-portal:${kind}:${name}`)));
}

/** A relay's id (portal-protocol §2.9): of its stamp secret, hence new with each relay process. */
export function relayId(stampSecret: string): string {
  return uuidFromBytes(sha256(utf8(stampSecret)));
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Whether a text is a UUID in the lowercase form that the wire uses. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}
