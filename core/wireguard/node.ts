/**
 * What all tunnels of one process share: the long-term key, the indices by which messages find their
 * tunnel, the protection against floods of handshakes, and the clock of their timestamps.
 *
 * Owns: index → tunnel. Does not own: tunnels, nor which tunnel has which public key.
 * @module
 */

import { base64, bytesEqual, readU32le } from "../bytes/mod.ts";
import type { AeadBackend } from "../crypto/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import type { Millis } from "../units.ts";
import { HANDSHAKES_PER_SECOND } from "./constants.ts";
import { CookieIssuer } from "./cookies.ts";
import { type IdentifiedInitiation, identifyInitiation, LocalIdentity } from "./handshake.ts";
import { HandshakeLimiter } from "./handshake_limiter.ts";
import { type ReceiverMacKeys, receiverMacKeys, verifyMac1 } from "./macs.ts";
import { MessageType, messageType } from "./messages.ts";
import { TimestampSource } from "./tai64n.ts";
import type { WireGuardTunnel } from "./tunnel.ts";

/** Why an initiation was dropped before it reached a tunnel. */
export type InitiationDropReason =
  /** Not an initiation. */
  | "malformed"
  /** Its sender does not know our public key. */
  | "wrong-mac"
  /** Too many handshakes, even from this address. */
  | "rate-limited"
  /** Encrypted for someone else, or damaged. */
  | "undecryptable";

/** What {@link WireGuardNode.identifyInitiation} found. */
export type InitiationIdentity =
  | {
    readonly tag: "peer";
    /** The sender's long-term key in base64. It is a claim until a tunnel has verified it. */
    readonly publicKey: string;
  }
  | {
    readonly tag: "cookie-reply";
    /** To be sent back to where the initiation came from. */
    readonly datagram: Uint8Array;
  }
  | { readonly tag: "drop"; readonly reason: InitiationDropReason };

/** What a {@link WireGuardNode} is made of. */
export interface WireGuardNodeOptions {
  /** 32 bytes. */
  readonly privateKey: Uint8Array;
  /** Seals and opens. */
  readonly aead: AeadBackend;
  /** Source of all randomness. */
  readonly random: RandomBytes;
  /** Wall clock at monotonic time zero, in milliseconds since 1970: initiations are stamped with it. */
  readonly unixMillisAtZero: number;
  /** Handshakes answered per second before cookies are asked for; 100 by default. */
  readonly handshakesPerSecond?: number;
}

/** See the head of this file. */
export class WireGuardNode {
  /** Our long-term key pair. */
  readonly identity: LocalIdentity;
  /** Source of all randomness. */
  readonly random: RandomBytes;
  /** Keys the MACs of messages to us. */
  readonly macKeys: ReceiverMacKeys;
  /** Initiations dropped, by reason, and cookie replies sent instead of an answer. */
  readonly counters: Record<InitiationDropReason | "cookie-replies", number> = {
    "malformed": 0,
    "wrong-mac": 0,
    "rate-limited": 0,
    "undecryptable": 0,
    "cookie-replies": 0,
  };

  readonly #unixMillisAtZero: number;
  readonly #timestamps = new TimestampSource();
  readonly #limiter: HandshakeLimiter;
  readonly #cookies: CookieIssuer;
  readonly #tunnels = new Map<number, WireGuardTunnel>();
  /** The last initiation that was identified, so that its tunnel need not do it again. */
  #identified: { message: Uint8Array; initiation: IdentifiedInitiation } | undefined;

  /** A node without tunnels.
   * @throws RangeError when the private key has not 32 bytes */
  constructor(options: WireGuardNodeOptions) {
    this.identity = new LocalIdentity(options.privateKey, options.aead);
    this.random = options.random;
    this.macKeys = receiverMacKeys(this.identity.publicKey);
    this.#unixMillisAtZero = options.unixMillisAtZero;
    this.#limiter = new HandshakeLimiter(options.handshakesPerSecond ?? HANDSHAKES_PER_SECOND);
    this.#cookies = new CookieIssuer(options.random, this.macKeys);
  }

  /** Our long-term public key, 32 bytes. */
  get publicKey(): Uint8Array {
    return this.identity.publicKey;
  }

  /** The tunnel that a receiver index belongs to. */
  tunnelForIndex(index: number): WireGuardTunnel | undefined {
    return this.#tunnels.get(index);
  }

  /**
   * Finds out whose tunnel the initiation `buf[start, end)` is for; {@link WireGuardTunnel.handle} of
   * that tunnel then takes the same bytes, and takes them only after this.
   *
   * @param from where it came from, as the cookie will be bound to it
   */
  identifyInitiation(
    now: Millis,
    from: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
  ): InitiationIdentity {
    if (messageType(buf, start, end) !== MessageType.Initiation) return this.#drop("malformed");
    if (!verifyMac1(buf, start, end, this.macKeys)) return this.#drop("wrong-mac");
    if (!this.#limiter.admit(now)) {
      if (!this.#cookies.verify(now, from, buf, start, end)) {
        this.counters["cookie-replies"]++;
        const datagram = this.#cookies.reply(now, from, buf, start, end);
        return { tag: "cookie-reply", datagram };
      }
      if (!this.#limiter.admitWithCookie(now, from.ip)) return this.#drop("rate-limited");
    }
    const initiation = identifyInitiation(this.identity, buf, start);
    if (initiation === undefined) return this.#drop("undecryptable");
    this.#forgetIdentified();
    this.#identified = { message: buf.slice(start, end), initiation };
    return { tag: "peer", publicKey: base64(initiation.publicKey) };
  }

  /** For tunnels: the result of {@link identifyInitiation} for these very bytes, once. */
  takeIdentified(buf: Uint8Array, start: number, end: number): IdentifiedInitiation | undefined {
    const identified = this.#identified;
    if (identified === undefined) return undefined;
    if (!bytesEqual(identified.message, buf.subarray(start, end))) return undefined;
    this.#identified = undefined;
    return identified.initiation;
  }

  /** For tunnels: a random index that no other tunnel has. */
  registerIndex(tunnel: WireGuardTunnel): number {
    while (true) {
      // One bit less than there could be: larger numbers are objects to V8, two for every packet.
      const index = readU32le(this.random(4), 0) >>> 1;
      if (this.#tunnels.has(index)) continue;
      this.#tunnels.set(index, tunnel);
      return index;
    }
  }

  /** For tunnels: an index is not in use any more. */
  releaseIndex(index: number): void {
    this.#tunnels.delete(index);
  }

  /** For tunnels: the timestamp of an initiation, later than all before it. */
  timestamp(now: Millis): Uint8Array {
    return this.#timestamps.next(this.#unixMillisAtZero + now);
  }

  /** Forgets secrets whose time is over. */
  handleTimeout(now: Millis): void {
    this.#cookies.forgetExpired(now);
  }

  /** The earliest deadline. */
  pollTimeout(): Millis {
    return this.#cookies.expiresAt;
  }

  /** Forgets the private key; the tunnels must be disposed before. */
  dispose(): void {
    this.#forgetIdentified();
    this.identity.wipe();
  }

  #drop(reason: InitiationDropReason): InitiationIdentity {
    this.counters[reason]++;
    return { tag: "drop", reason };
  }

  #forgetIdentified(): void {
    this.#identified?.initiation.state.wipe();
    this.#identified = undefined;
  }
}
