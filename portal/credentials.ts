/**
 * The secrets that the portal derives for others, so that it need not store or repeat itself: the
 * same two keys always give the same secrets, and peers keep their connection.
 *
 * Spec: portal-protocol §3 (ICE credentials, preshared key) and §4 (TURN).
 * @module
 */

import { pbkdf2 } from "@noble/hashes/pbkdf2.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { base32, base64, base64NoPad, utf8 } from "@firezone/core/bytes";
import { relayCredentials, type TurnCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";

/** One end of a connection, as far as secrets depend on it. */
export interface Endpoint {
  /** The device's UUID. */
  readonly id: string;
  /** WireGuard key as the device sent it: base64 text. */
  readonly publicKey: string;
}

/** What one side of a connection uses in ICE (RFC 8445). */
export interface IceCredentials {
  /** Four characters. */
  readonly username: string;
  /** 22 characters. */
  readonly password: string;
}

/** The ICE credentials of both sides (§3.1). */
export function iceCredentials(
  client: Endpoint,
  gateway: Endpoint,
): { readonly client: IceCredentials; readonly gateway: IceCredentials } {
  const seed = [client.id, client.publicKey, gateway.id, gateway.publicKey].join(":");
  const text = base32(sha256(utf8(seed)));
  return {
    client: { username: text.slice(0, 4), password: text.slice(4, 26) },
    gateway: { username: text.slice(26, 30), password: text.slice(30, 52) },
  };
}

/**
 * The WireGuard preshared key of a client and a gateway in base64 (§3.2).
 *
 * @param clientBase 32 random bytes that the client's device keeps for life; likewise `gatewayBase`
 */
export function presharedKey(
  client: Endpoint,
  clientBase: Uint8Array,
  gateway: Endpoint,
  gatewayBase: Uint8Array,
): string {
  const salt = `WG_PSK|C_ID:${client.id}|G_ID:${gateway.id}` +
    `|C_PK:${client.publicKey}|G_PK:${gateway.publicKey}`;
  const password = new Uint8Array([...clientBase, ...gatewayBase]);
  return base64(pbkdf2(sha256, password, utf8(salt), { c: 1, dkLen: 32 }));
}

/** What the bearer of `publicKey` presents to the relay with `stampSecret` (§4). */
export function turnCredentials(
  publicKey: string,
  stampSecret: string,
  expiresAt: UnixSeconds,
): TurnCredentials {
  return relayCredentials(expiresAt, stampSecret, base64NoPad(sha256(utf8(publicKey))));
}
