/**
 * Who may use the relay: the long-term credential mechanism (RFC 8489 §9.2) with usernames that
 * carry their own expiry, so that nothing need be stored per user.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { longTermKey, type StunMessage } from "@firezone/core/stun";
import { parseRelayUsername, RELAY_REALM, relayPassword } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import type { Nonces } from "./nonces.ts";

/** What {@link Authenticator.check} found. */
export type AuthResult =
  | {
    readonly tag: "ok";
    /** The username, whose credential is valid now. */
    readonly username: string;
    /** Signs the answer. */
    readonly key: Uint8Array;
  }
  | {
    readonly tag: "challenge";
    /** 401 or 438; signed with {@link Authenticator.keyFor}, where the request named a user. */
    readonly code: 401 | 438;
  };

/** Checks requests. */
export class Authenticator {
  readonly #stampSecret: string;
  readonly #nonces: Nonces;

  /** Accepts the credentials that derive from this secret. */
  constructor(stampSecret: string, nonces: Nonces) {
    this.#stampSecret = stampSecret;
    this.#nonces = nonces;
  }

  /** The key of the user a request names; `undefined` when it names none that could be ours. */
  keyFor(message: StunMessage): Uint8Array | undefined {
    const user = message.username === undefined ? undefined : parseRelayUsername(message.username);
    if (user === undefined) return undefined;
    const password = relayPassword(user.expiryText, this.#stampSecret, user.salt);
    return longTermKey(message.username!, RELAY_REALM, password);
  }

  /**
   * Checks in the order of RFC 8489 §9.2.4, so that a stranger's request costs one MAC at most before
   * its sender has shown that answers reach it.
   *
   * @param wall decides about expiry, to the second
   */
  check(wall: UnixSeconds, client: SocketAddress, message: StunMessage): AuthResult {
    const { username, nonce } = message;
    if (!message.hasIntegrity || username === undefined || nonce === undefined) {
      return { tag: "challenge", code: 401 };
    }
    if (!this.#nonces.isValid(wall, client, nonce)) return { tag: "challenge", code: 438 };
    const expiresAt = parseRelayUsername(username)?.expiresAt ?? 0;
    const key = expiresAt < wall ? undefined : this.keyFor(message);
    if (key === undefined || !message.verifyIntegrity(key)) return { tag: "challenge", code: 401 };
    return { tag: "ok", username, key };
  }
}
