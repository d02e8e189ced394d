/**
 * Cookies (paper §5.3 and §5.4.7): under load we work only for those who show that they receive what
 * is sent to the address they claim.
 *
 *     cookie = Mac(our secret of these two minutes, address ‖ port)
 *
 * {@link CookieIssuer} is the side that is under load, {@link readCookieReply} the other one.
 * @module
 */

import { readU32le, writeU32le } from "../bytes/mod.ts";
import { blake2sMac, xchachaOpen, xchachaSeal, XNONCE_LENGTH } from "../crypto/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import { after, type Millis, NEVER } from "../units.ts";
import { COOKIE_LIFETIME_MS } from "./constants.ts";
import { copyMac1, MAC_LENGTH, type ReceiverMacKeys, verifyMac2 } from "./macs.ts";
import { COOKIE_REPLY, COOKIE_REPLY_LENGTH, INITIATION, MessageType } from "./messages.ts";

const SECRET_LENGTH = 32;

/** Hands out cookies and recognises them. */
export class CookieIssuer {
  readonly #random: RandomBytes;
  readonly #keys: ReceiverMacKeys;
  readonly #secret = new Uint8Array(SECRET_LENGTH);
  #secretEndsAt: Millis = NEVER;

  /** An issuer without a secret yet.
   * @param keys those of messages to us */
  constructor(random: RandomBytes, keys: ReceiverMacKeys) {
    this.#random = random;
    this.#keys = keys;
  }

  /** When the secret must be forgotten; {@link NEVER} while there is none. */
  get expiresAt(): Millis {
    return this.#secretEndsAt;
  }

  /** Whether mac2 of the message in `buf[start, end)` was made with a cookie for `from`. */
  verify(
    now: Millis,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): boolean {
    this.forgetExpired(now);
    if (this.#secretEndsAt === NEVER) return false;
    return verifyMac2(buf, start, end, this.#cookie(from));
  }

  /** The reply that gives the sender of the initiation in `buf[start, end)` its cookie. */
  reply(
    now: Millis,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): Uint8Array {
    this.forgetExpired(now);
    if (this.#secretEndsAt === NEVER) {
      this.#secret.set(this.#random(SECRET_LENGTH));
      this.#secretEndsAt = after(now, COOKIE_LIFETIME_MS);
    }
    const message = new Uint8Array(COOKIE_REPLY_LENGTH);
    const nonce = this.#random(XNONCE_LENGTH);
    writeU32le(message, 0, MessageType.CookieReply);
    writeU32le(message, COOKIE_REPLY.receiver, readU32le(buf, start + INITIATION.sender));
    message.set(nonce, COOKIE_REPLY.nonce);
    message.set(
      xchachaSeal(this.#keys.cookie, nonce, copyMac1(buf, end), this.#cookie(from)),
      COOKIE_REPLY.cookie,
    );
    return message;
  }

  /** Forgets the secret when its time is over. */
  forgetExpired(now: Millis): void {
    if (now < this.#secretEndsAt) return;
    this.#secret.fill(0);
    this.#secretEndsAt = NEVER;
  }

  #cookie(from: SocketAddress): Uint8Array {
    const { bytes } = from.ip;
    return blake2sMac(this.#secret, bytes, new Uint8Array([from.port >>> 8, from.port]));
  }
}

/**
 * The cookie in the cookie reply at `buf[start]`.
 *
 * @param keys those of messages to the sender of the reply
 * @param mac1 of the message that it replies to
 * @returns 16 bytes, or `undefined` when it is not a reply to that message
 */
export function readCookieReply(
  keys: ReceiverMacKeys,
  mac1: Uint8Array,
  buf: Uint8Array,
  start: number,
): Uint8Array | undefined {
  const nonce = buf.slice(start + COOKIE_REPLY.nonce, start + COOKIE_REPLY.cookie);
  const sealed = buf.slice(start + COOKIE_REPLY.cookie, start + COOKIE_REPLY_LENGTH);
  const cookie = xchachaOpen(keys.cookie, nonce, mac1, sealed);
  return cookie?.length === MAC_LENGTH ? cookie : undefined;
}
