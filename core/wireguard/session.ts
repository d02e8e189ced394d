/**
 * One session: the keys that one handshake gave, their counters and their age.
 *
 * Owns: keys, send counter, replay window. Does not own: when another session takes over, see
 * `session_slots.ts`.
 * @module
 */

import type { AeadBackend, AeadKey } from "../crypto/mod.ts";
import { after, type Millis } from "../units.ts";
import {
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_TIME_MS,
  REKEY_AFTER_MESSAGES,
  REKEY_AFTER_TIME_MS,
  REKEY_ON_RECEIVE_AFTER_MS,
} from "./constants.ts";
import type { TransportKeys } from "./handshake.ts";
import { DATA, DATA_OVERHEAD, readDataCounter, writeDataHeader } from "./messages.ts";
import { ReplayWindow } from "./replay_window.ts";

/** Why {@link Session.open} refused a message. */
export type OpenFailure = "replayed" | "forged";

/** The keys of one handshake. */
export class Session {
  /** The index that the peer puts into what it sends us. */
  readonly localIndex: number;
  /** The index that we put into what we send. */
  readonly remoteIndex: number;
  /** Whether the handshake was ours. */
  readonly isInitiator: boolean;
  /** From here on it neither seals nor opens. */
  readonly rejectAt: Millis;

  readonly #sendKey: AeadKey;
  readonly #receiveKey: AeadKey;
  readonly #window = new ReplayWindow();
  #sendCounter = 0;
  readonly #rekeyAt: Millis;
  readonly #rekeyOnReceiveAt: Millis;

  /** A session whose keys are new at `now`; the raw keys are forgotten. */
  constructor(
    now: Millis,
    aead: AeadBackend,
    localIndex: number,
    remoteIndex: number,
    isInitiator: boolean,
    keys: TransportKeys,
  ) {
    this.localIndex = localIndex;
    this.remoteIndex = remoteIndex;
    this.isInitiator = isInitiator;
    this.rejectAt = after(now, REJECT_AFTER_TIME_MS);
    this.#rekeyAt = after(now, REKEY_AFTER_TIME_MS);
    this.#rekeyOnReceiveAt = after(now, REKEY_ON_RECEIVE_AFTER_MS);
    this.#sendKey = aead.key(keys.send);
    this.#receiveKey = aead.key(keys.receive, localIndex);
    keys.send.fill(0);
    keys.receive.fill(0);
  }

  /** Data messages that the peer sent and that did not arrive, as far as later ones show it. */
  get rxLost(): number {
    return this.#window.missing;
  }

  /** Whether it may seal at all. */
  canSend(now: Millis): boolean {
    return now < this.rejectAt && this.#sendCounter < REJECT_AFTER_MESSAGES;
  }

  /** Whether who initiated it should make new keys, having sent. */
  wantsRekeyAfterSending(now: Millis): boolean {
    return this.isInitiator && (now >= this.#rekeyAt || this.#sendCounter >= REKEY_AFTER_MESSAGES);
  }

  /** Whether who initiated it should make new keys, having received. */
  wantsRekeyAfterReceiving(now: Millis): boolean {
    return this.isInitiator && now >= this.#rekeyOnReceiveAt;
  }

  /**
   * Writes the data message that carries `src[start, end)` and `padding` zeros at `dst[dstStart]`;
   * returns its length. The packet may lie where its ciphertext goes, 16 bytes after `dstStart`.
   */
  seal(
    src: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
    padding: number,
  ): number {
    const counter = this.#sendCounter++;
    writeDataHeader(dst, dstStart, this.remoteIndex, counter);
    this.#sendKey.seal(counter, src, start, end, dst, dstStart + DATA.packet, padding);
    return DATA_OVERHEAD + (end - start) + padding;
  }

  /**
   * Writes what the data message `buf[start, end)` carries at `dst[dstStart]`, which must have room.
   *
   * @returns why not, or `undefined` when it did
   */
  open(
    buf: Uint8Array,
    start: number,
    end: number,
    dst: Uint8Array,
    dstStart: number,
  ): OpenFailure | undefined {
    const counter = readDataCounter(buf, start);
    if (counter >= REJECT_AFTER_MESSAGES || !this.#window.isFresh(counter)) return "replayed";
    if (!this.#receiveKey.open(counter, buf, start + DATA.packet, end, dst, dstStart)) {
      return "forged";
    }
    this.#window.accept(counter);
    return undefined;
  }

  /** Forgets the keys. */
  dispose(): void {
    this.#window.dispose();
    this.#sendKey.dispose();
    this.#receiveKey.dispose();
  }
}
