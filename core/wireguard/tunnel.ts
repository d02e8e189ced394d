/**
 * One WireGuard peer: handshakes, sessions, timers (paper §5 and §6).
 *
 *     no session ── seal, initiate ──► handshake under way ── answered ──► session
 *         ▲                                  │ not answered                  │ older than 120 s:
 *         └────── expired ◄──────────────────┘                               │ a new handshake
 *         └────── expired ◄───────── no new keys for 540 s ◄─────────────────┘ beside it
 *
 * An end with `initiates: false` (a gateway) answers handshakes and never starts one, whatever is
 * sent or received; that is our deviation from the paper, in which either end may.
 * The response of a peer is not asked for a cookie under load: who sends one must have seen our
 * random index, and there is at most one per initiation of ours.
 * Where datagrams come from and go to is not known here; their owner knows the path.
 *
 * Cost: data messages allocate nothing, where the cipher does not.
 * @module
 */

import { bytesEqual, readU32le } from "../bytes/mod.ts";
import { x25519PrivateKey } from "../crypto/mod.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import {
  COOKIE_LIFETIME_MS,
  FORGET_AFTER_MS,
  INNER_MTU,
  REKEY_ATTEMPT_TIME_MS,
} from "./constants.ts";
import { readCookieReply } from "./cookies.ts";
import {
  createInitiation,
  createResponse,
  type PendingInitiation,
  readResponse,
  verifyInitiation,
  wipe,
} from "./handshake.ts";
import { HandshakeAttempt } from "./handshake_attempt.ts";
import { type ReceiverMacKeys, receiverMacKeys, verifyMac1, writeMacs } from "./macs.ts";
import {
  COOKIE_REPLY,
  DATA,
  DATA_OVERHEAD,
  MessageType,
  messageType,
  RESPONSE,
} from "./messages.ts";
import type { WireGuardNode } from "./node.ts";
import { Session } from "./session.ts";
import { SessionSlots } from "./session_slots.ts";
import { isLater } from "./tai64n.ts";
import { TrafficTimers } from "./traffic_timers.ts";

/** Why a message was dropped. */
export type WireGuardDropReason =
  /** No message of WireGuard. */
  | "malformed"
  /** For no session and no handshake of this tunnel, or for one that is over. */
  | "unknown-index"
  /** mac1 is wrong: it was not made for us. */
  | "wrong-mac"
  /** A handshake or cookie that does not decrypt: damaged, forged, or another preshared key. */
  | "undecryptable"
  /** A data message whose tag is wrong. */
  | "forged"
  /** Seen before, or older than the window. */
  | "replayed"
  /** Its keys are older than REJECT_AFTER_TIME. */
  | "stale-keys"
  /** The caller's buffer is too small for it. */
  | "too-long"
  /** An initiation that the node did not identify as this peer's just before. */
  | "not-identified";

/** What {@link WireGuardTunnel.handle} made of a message; one is made and reused. */
export interface WireGuardResult {
  /** `data`: a packet is there; `keepalive`: an authentic empty message; `handled`: part of a
   * handshake, something may be queued; `dropped`: see `reason`. */
  code: "data" | "keepalive" | "handled" | "dropped";
  /** Of the packet in bytes, with its padding: its own header tells its true length. */
  length: number;
  /** Why it was dropped; only meaningful then. */
  reason?: WireGuardDropReason;
}

/** What the owner of a tunnel must know. */
export type WireGuardEvent =
  /** There are new keys, and both ends have them. */
  | { readonly tag: "handshake-completed"; readonly isInitiator: boolean }
  /** The response to our handshake did not decrypt; most likely the preshared keys differ. Told once
   * per initiation, which keeps waiting for a good response. */
  | { readonly tag: "handshake-failed" }
  /** `unanswered`: a handshake was tried for REKEY_ATTEMPT_TIME; keys that are left still work.
   * `no-new-keys`: the last handshake was too long ago, all keys are gone. Either way a new
   * handshake may follow. */
  | { readonly tag: "expired"; readonly reason: "unanswered" | "no-new-keys" };

/** What a {@link WireGuardTunnel} is made of. */
export interface WireGuardTunnelOptions {
  /** What it shares with the other tunnels. */
  readonly node: WireGuardNode;
  /** The peer's long-term key, 32 bytes. */
  readonly remotePublicKey: Uint8Array;
  /** 32 bytes; zeros when there is none. */
  readonly presharedKey?: Uint8Array;
  /** Whether this end may start handshakes. */
  readonly initiates: boolean;
  /** Once there are keys, something is sent at least that often. Not at all by default. */
  readonly persistentKeepaliveMs?: number;
  /** How long one handshake is tried; the paper's 90 s by default. */
  readonly rekeyAttemptTimeMs?: number;
  /** Who is told by {@link WireGuardTunnel.owner} that it is theirs. */
  readonly owner?: unknown;
  /** The current time. */
  readonly now: Millis;
}

/** See the head of this file. */
export class WireGuardTunnel {
  // What a data message looks at comes first, to lie side by side in memory.
  /** Whose it is, for who finds it by an index. */
  readonly owner: unknown;
  readonly #sessions: SessionSlots;
  readonly #timers: TrafficTimers;
  #hasNews = false;
  #rxBytes = 0;
  #rxPackets = 0;
  #txBytes = 0;
  #txPackets = 0;

  /** The peer's long-term key, 32 bytes. */
  readonly remotePublicKey: Uint8Array;
  /** Messages dropped, by reason. */
  readonly drops: Record<WireGuardDropReason, number> = {
    "malformed": 0,
    "unknown-index": 0,
    "wrong-mac": 0,
    "undecryptable": 0,
    "forged": 0,
    "replayed": 0,
    "stale-keys": 0,
    "too-long": 0,
    "not-identified": 0,
  };

  readonly #node: WireGuardNode;
  readonly #presharedKey: Uint8Array;
  readonly #initiates: boolean;
  readonly #remoteMacKeys: ReceiverMacKeys;
  /** What both long-term keys share; undefined when the peer's key is of small order. */
  readonly #staticSecret: Uint8Array | undefined;
  readonly #attempt: HandshakeAttempt;
  readonly #transmits: Uint8Array[] = [];
  readonly #events: WireGuardEvent[] = [];

  #pending: PendingInitiation | undefined;
  /** Whether a response to `#pending` was already reported as undecryptable. */
  #failureReported = false;
  /** The handshake message we sent last, to which a cookie reply may refer. */
  #lastSent: { readonly index: number; readonly mac1: Uint8Array } | undefined;
  #cookie: { readonly value: Uint8Array; readonly validUntil: Millis } | undefined;
  /** Of the newest initiation of the peer; older ones are replays. */
  #remoteTimestamp: Uint8Array | undefined;
  #forgetAt: Millis = NEVER;
  #lastHandshakeAt: Millis | undefined;
  /** Of sessions that are out of use. */
  #rxLostBefore = 0;
  #disposed = false;

  /** A tunnel without a session.
   * @throws RangeError when a key has not 32 bytes */
  constructor(options: WireGuardTunnelOptions) {
    const { node, remotePublicKey, presharedKey = new Uint8Array(32) } = options;
    if (remotePublicKey.length !== 32 || presharedKey.length !== 32) {
      throw new RangeError("Cannot make a tunnel: public and preshared key have 32 bytes each");
    }
    this.#node = node;
    this.remotePublicKey = remotePublicKey.slice();
    this.owner = options.owner;
    this.#presharedKey = presharedKey.slice();
    this.#initiates = options.initiates;
    this.#remoteMacKeys = receiverMacKeys(remotePublicKey);
    this.#staticSecret = node.identity.shareWith(remotePublicKey);
    this.#sessions = new SessionSlots((session) => {
      this.#rxLostBefore += session.rxLost;
      session.dispose();
      node.releaseIndex(session.localIndex);
    });
    this.#attempt = new HandshakeAttempt(
      node.random,
      options.rekeyAttemptTimeMs ?? REKEY_ATTEMPT_TIME_MS,
    );
    this.#timers = new TrafficTimers(options.initiates, options.persistentKeepaliveMs);
  }

  /** When the last handshake was completed. */
  get lastHandshakeAt(): Millis | undefined {
    return this.#lastHandshakeAt;
  }

  /** Bytes of authentic data messages received, overhead and keepalives included. */
  get rxBytes(): number {
    return this.#rxBytes;
  }

  /** Bytes of data messages sent, overhead and keepalives included. */
  get txBytes(): number {
    return this.#txBytes;
  }

  /** Authentic data messages received, keepalives included. */
  get rxPackets(): number {
    return this.#rxPackets;
  }

  /** Data messages sent, keepalives included. */
  get txPackets(): number {
    return this.#txPackets;
  }

  /**
   * Data messages that the peer sent and that did not arrive: gaps in their counters. What is only
   * late is taken off again.
   */
  get rxLost(): number {
    return this.#rxLostBefore + this.#sessions.rxLost;
  }

  /** Whether {@link seal} would succeed. */
  canSeal(now: Millis): boolean {
    return this.#sessions.current?.canSend(now) ?? false;
  }

  /** Bytes of the message that carries a packet of `length` bytes. */
  sealedLength(length: number): number {
    return DATA_OVERHEAD + paddedLength(length);
  }

  /**
   * Starts a handshake, on the end that initiates; on the other one nothing happens.
   *
   * Without `force` nothing happens either while one is under way, and it waits until the last
   * initiation is REKEY_TIMEOUT old. The session there is stays in use until the new one is there.
   */
  initiate(now: Millis, force = false): void {
    if (!this.#initiates || this.#disposed) return;
    this.#hasNews = true;
    if (force) this.#attempt.force(now);
    else this.#attempt.begin(now);
    this.#runAttempt(now);
  }

  /**
   * Writes the message that carries the packet `src[start, end)` at `dst[dstStart]`, which must have
   * {@link sealedLength} bytes of room. The packet may lie 16 bytes after `dstStart` already.
   *
   * @returns bytes written; 0 when there is no session, and a handshake was queued if we may
   */
  seal(
    now: Millis,
    src: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
  ): number {
    const session = this.#sessions.current;
    if (session === undefined || !session.canSend(now)) {
      this.initiate(now);
      return 0;
    }
    const length = end - start;
    const written = session.seal(src, start, end, dst, dstStart, paddedLength(length) - length);
    this.#txBytes += written;
    this.#txPackets++;
    this.#timers.onDataSent(now);
    if (session.wantsRekeyAfterSending(now)) this.initiate(now);
    return written;
  }

  /**
   * Takes a message for this tunnel, whatever its bytes. An initiation must have been identified by
   * the node first.
   *
   * @param dst where the packet of a data message goes, from `dstStart` on; what is there when the
   * message is dropped is undefined
   * @param out filled always
   */
  handle(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
    out: WireGuardResult,
  ): void {
    out.length = 0;
    const type = messageType(buf, start, end);
    if (type === MessageType.Data) return this.#onData(now, buf, start, end, dst, dstStart, out);
    this.#hasNews = true;
    switch (type) {
      case MessageType.Initiation:
        return this.#onInitiation(now, buf, start, end, out);
      case MessageType.Response:
        return this.#onResponse(now, buf, start, end, out);
      case MessageType.CookieReply:
        return this.#onCookieReply(now, buf, start, out);
      default:
        return this.#drop(out, "malformed");
    }
  }

  /** Does what is due; ask for the next deadline afterwards. */
  handleTimeout(now: Millis): void {
    this.#hasNews = true;
    this.#sessions.expire(now);
    if (now >= this.#forgetAt) return this.#forget();
    this.#runAttempt(now);
    const timers = this.#timers;
    if (now >= timers.deadPeerAt) {
      timers.deadPeerAt = NEVER;
      this.initiate(now);
    }
    if (now >= timers.keepaliveAt || now >= timers.persistentAt) this.#sendKeepalive(now);
  }

  /** The earliest deadline; "now" while something is queued. */
  pollTimeout(): Millis {
    this.#hasNews = false;
    return this.#timers.told = this.#nextDeadline();
  }

  /**
   * Whether something is queued or due before what {@link pollTimeout} answered last. Data messages
   * mostly put deadlines off, and then nobody has to ask: that costs more than this.
   */
  get hasNews(): boolean {
    return this.#hasNews || this.#timers.isAhead;
  }

  /** The next message of the control path: handshakes and keepalives. */
  pollTransmit(): Uint8Array | undefined {
    return this.#transmits.shift();
  }

  /** The next thing the owner must know. */
  pollEvent(): WireGuardEvent | undefined {
    return this.#events.shift();
  }

  /** Forgets all keys and indices; the tunnel stays silent from now on. */
  dispose(): void {
    this.#disposed = true;
    this.#clear();
    this.#transmits.length = 0;
    this.#events.length = 0;
    this.#staticSecret?.fill(0);
    this.#presharedKey.fill(0);
  }

  #nextDeadline(): Millis {
    if (this.#transmits.length > 0 || this.#events.length > 0) return 0 as Millis;
    const at = earlier(this.#attempt.next, this.#timers.next);
    return earlier(at, earlier(this.#sessions.expiresAt, this.#forgetAt));
  }

  // ---- data (§5.4.6)

  #onData(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
    out: WireGuardResult,
  ): void {
    const session = this.#sessions.find(readU32le(buf, start + DATA.receiver));
    if (session === undefined) return this.#drop(out, "unknown-index");
    if (now >= session.rejectAt) return this.#drop(out, "stale-keys");
    const length = end - start - DATA_OVERHEAD;
    if (length > dst.length - dstStart) return this.#drop(out, "too-long");
    const failure = session.open(buf, start, end, dst, dstStart);
    if (failure !== undefined) return this.#drop(out, failure);

    this.#rxBytes += end - start;
    this.#rxPackets++;
    if (this.#sessions.confirm(session)) this.#onCompleted(now, false);
    if (length === 0) {
      out.code = "keepalive";
      this.#timers.onAnythingReceived(now);
    } else {
      out.code = "data";
      out.length = length;
      this.#timers.onDataReceived(now);
    }
    if (session === this.#sessions.current && session.wantsRekeyAfterReceiving(now)) {
      this.initiate(now);
    }
  }

  #sendKeepalive(now: Millis): void {
    const session = this.#sessions.current;
    this.#timers.onAnythingSent(now);
    if (session === undefined || !session.canSend(now)) return this.initiate(now);
    const message = new Uint8Array(DATA_OVERHEAD);
    this.#txBytes += session.seal(message, 0, 0, message, 0, 0);
    this.#txPackets++;
    this.#transmits.push(message);
    if (session.wantsRekeyAfterSending(now)) this.initiate(now);
  }

  // ---- handshakes (§5.4.2 to §5.4.4)

  #runAttempt(now: Millis): void {
    const due = this.#attempt.handleTimeout(now);
    if (due === "send") this.#sendInitiation(now);
    else if (due === "give-up") {
      this.#dropPending();
      this.#events.push({ tag: "expired", reason: "unanswered" });
    }
  }

  /** Every initiation has its own ephemeral key, index and timestamp, retransmissions too. */
  #sendInitiation(now: Millis): void {
    this.#dropPending();
    if (this.#staticSecret === undefined) return;
    const node = this.#node;
    const localIndex = node.registerIndex(this);
    this.#pending = createInitiation(
      node.identity,
      this.remotePublicKey,
      this.#staticSecret,
      localIndex,
      node.timestamp(now),
      x25519PrivateKey(node.random),
    );
    if (this.#pending === undefined) return node.releaseIndex(localIndex);
    this.#failureReported = false;
    this.#sendHandshake(now, localIndex, this.#pending.message);
  }

  #onInitiation(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    out: WireGuardResult,
  ): void {
    const initiation = this.#node.takeIdentified(buf, start, end);
    if (initiation === undefined || this.#disposed) return this.#drop(out, "not-identified");
    if (!bytesEqual(initiation.publicKey, this.remotePublicKey)) {
      return this.#drop(out, "not-identified");
    }
    const verified = this.#staticSecret && verifyInitiation(initiation, this.#staticSecret);
    if (verified === undefined) return this.#drop(out, "undecryptable");
    if (this.#remoteTimestamp && !isLater(verified.timestamp, this.#remoteTimestamp)) {
      verified.state.wipe();
      return this.#drop(out, "replayed");
    }
    this.#remoteTimestamp = verified.timestamp;
    const localIndex = this.#node.registerIndex(this);
    const response = createResponse(
      initiation,
      this.#presharedKey,
      localIndex,
      x25519PrivateKey(this.#node.random),
    );
    if (response === undefined) {
      verified.state.wipe();
      this.#node.releaseIndex(localIndex);
      return this.#drop(out, "undecryptable");
    }
    const { aead } = this.#node.identity;
    this.#sessions.addAnswered(
      new Session(now, aead, localIndex, initiation.remoteIndex, false, response.keys),
    );
    this.#forgetAt = after(now, FORGET_AFTER_MS);
    this.#timers.onAnythingReceived(now);
    this.#timers.onAnythingSent(now);
    this.#sendHandshake(now, localIndex, response.message);
    out.code = "handled";
  }

  #onResponse(
    now: Millis,
    buf: Uint8Array,
    start: number,
    end: number,
    out: WireGuardResult,
  ): void {
    const pending = this.#pending;
    if (pending?.localIndex !== readU32le(buf, start + RESPONSE.receiver)) {
      return this.#drop(out, "unknown-index");
    }
    if (!verifyMac1(buf, start, end, this.#node.macKeys)) return this.#drop(out, "wrong-mac");
    const { identity } = this.#node;
    const keys = readResponse(identity, pending, this.#presharedKey, buf, start);
    if (keys === undefined) {
      if (!this.#failureReported) this.#events.push({ tag: "handshake-failed" });
      this.#failureReported = true;
      return this.#drop(out, "undecryptable");
    }
    const { localIndex } = pending;
    const remoteIndex = readU32le(buf, start + RESPONSE.sender);
    // The index lives on in the session.
    this.#pending = undefined;
    wipe(pending);
    this.#sessions.addInitiated(
      new Session(now, identity.aead, localIndex, remoteIndex, true, keys),
    );
    this.#forgetAt = after(now, FORGET_AFTER_MS);
    this.#timers.onAnythingReceived(now);
    this.#onCompleted(now, true);
    // Only when the peer hears from us with the new keys may it use them itself.
    this.#sendKeepalive(now);
    out.code = "handled";
  }

  #onCookieReply(now: Millis, buf: Uint8Array, start: number, out: WireGuardResult): void {
    const sent = this.#lastSent;
    if (sent?.index !== readU32le(buf, start + COOKIE_REPLY.receiver)) {
      return this.#drop(out, "unknown-index");
    }
    const value = readCookieReply(this.#remoteMacKeys, sent.mac1, buf, start);
    if (value === undefined) return this.#drop(out, "undecryptable");
    // It is used by the next retransmission; answering at once would feed the flood (§6.6).
    this.#cookie = { value, validUntil: after(now, COOKIE_LIFETIME_MS) };
    out.code = "handled";
  }

  #sendHandshake(now: Millis, index: number, message: Uint8Array): void {
    const cookie = this.#cookie && now < this.#cookie.validUntil ? this.#cookie.value : undefined;
    const mac1 = writeMacs(message, this.#remoteMacKeys, cookie);
    this.#lastSent = { index, mac1 };
    this.#transmits.push(message);
  }

  #onCompleted(now: Millis, isInitiator: boolean): void {
    this.#hasNews = true;
    this.#attempt.stop();
    this.#dropPending();
    this.#lastHandshakeAt = now;
    this.#events.push({ tag: "handshake-completed", isInitiator });
  }

  // ---- the end

  #forget(): void {
    this.#clear();
    this.#events.push({ tag: "expired", reason: "no-new-keys" });
  }

  #clear(): void {
    this.#sessions.clear();
    this.#attempt.stop();
    this.#timers.stop();
    this.#dropPending();
    this.#forgetAt = NEVER;
    this.#lastSent = undefined;
    this.#cookie = undefined;
  }

  #dropPending(): void {
    if (this.#pending === undefined) return;
    this.#node.releaseIndex(this.#pending.localIndex);
    wipe(this.#pending);
    this.#pending = undefined;
  }

  #drop(out: WireGuardResult, reason: WireGuardDropReason): void {
    this.drops[reason]++;
    out.code = "dropped";
    out.reason = reason;
  }
}

/** §5.4.6: a multiple of 16, so that lengths tell less; but a padded packet must fit the path. */
function paddedLength(length: number): number {
  const padded = (length + 15) & ~15;
  return padded <= INNER_MTU ? padded : Math.max(length, INNER_MTU);
}
