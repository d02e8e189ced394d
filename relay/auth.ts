/**
 * Who may use the relay: the long-term credential mechanism (RFC 8489 §9.2) with usernames that
 * carry their own expiry, so that nothing need be stored per user.
 *
 * Deviation: a later request on an allocation may bear other valid credentials than the one that
 * made it (RFC 8656 §5 would answer 441). Clients whose portal gave them new credentials would else
 * be locked out of their own port until the old allocation expires.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { longTermKey, type StunMessage } from "@firezone/core/stun";
import { parseRelayUsername, RELAY_REALM, relayPassword } from "@firezone/core/turn";
import type { Millis, UnixSeconds } from "@firezone/core/units";
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
    /** 401 or 438. */
    readonly code: 401 | 438;
    /** Signs the answer, where the request named a user. */
    readonly key: Uint8Array | undefined;
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

  /** Checks in the order of RFC 8489 §9.2.4. @param wall decides about expiry, to the second */
  check(now: Millis, wall: UnixSeconds, client: SocketAddress, message: StunMessage): AuthResult {
    const key = this.keyFor(message);
    const { username, nonce } = message;
    if (!message.hasIntegrity || username === undefined || nonce === undefined) {
      return { tag: "challenge", code: 401, key };
    }
    if (!this.#nonces.isValid(now, client, nonce)) {
      return { tag: "challenge", code: 438, key };
    }
    const expiresAt = parseRelayUsername(username)?.expiresAt ?? 0;
    if (key === undefined || expiresAt < wall || !message.verifyIntegrity(key)) {
      return { tag: "challenge", code: 401, key };
    }
    return { tag: "ok", username, key };
  }
}
