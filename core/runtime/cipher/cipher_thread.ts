/**
 * A cipher thread: takes jobs out of its ring, one after the other.
 *
 *     Send  seal what is still plain in a lane ──► wait for its turn ──► one sendmsg
 *     Open  each datagram with data whose receiver index is known ──► open it where it lies, mark it
 *
 * What a thread does not know (a key that is too new, anything that is not WireGuard data) it leaves
 * as it is: the loop can do everything by itself. Whether a packet is fresh, whose it is and where it
 * may go is for the loop to say.
 * @module
 */

import { readU16, readU32le } from "../../bytes/mod.ts";
import type { AeadBackend, AeadKey } from "../../crypto/mod.ts";
import { type Family, SocketAddressCache } from "../../ip/mod.ts";
import { DatagramSender, Epoll, type Fd, readSockaddr, SendResult } from "../../os/linux/mod.ts";
import {
  type CipherMemory,
  FORGED,
  Job,
  keyReference,
  Lane,
  LANE_SIZE,
  MARK_BYTES,
  MAX_KEYS,
  SharedBuffer,
  slotOf,
} from "./cipher_memory.ts";
import { CHANNEL_DATA_HEADER_LENGTH } from "../../turn/mod.ts";
import { DATA, DATA_OVERHEAD, MessageType, readDataCounter } from "../../wireguard/mod.ts";

/** Waiting jobs are looked for at least so often. */
const WAIT_MS = 1_000;
/** A full socket is waited for so long; then what was to be sent is lost, as in any full queue. */
const FULL_MS = 5;
const FULL_ATTEMPTS = 20;

interface KnownKey {
  readonly reference: number;
  readonly key: AeadKey;
}

/** See the head of this file. */
export class CipherThread {
  readonly #memory: CipherMemory;
  readonly #index: number;
  readonly #aead: AeadBackend;
  readonly #keys: (KnownKey | undefined)[] = new Array(MAX_KEYS).fill(undefined);
  readonly #slotByIndex = new Map<number, number>();
  readonly #senders = new Map<number, DatagramSender>();
  readonly #addresses = new SocketAddressCache();
  readonly #epoll = new Epoll();
  #keysVersion = 0;
  #lanes: Uint8Array<ArrayBuffer> | undefined;
  #receive: Uint8Array<ArrayBuffer> | undefined;

  /** The thread of that number. */
  constructor(memory: CipherMemory, index: number, aead: AeadBackend) {
    this.#memory = memory;
    this.#index = index;
    this.#aead = aead;
  }

  /** Works until the memory says stop, blocking this thread. */
  run(): void {
    const { words } = this.#memory;
    const submitted = this.#memory.submitted(this.#index);
    while (!this.#memory.isStopped) {
      const seen = Atomics.load(words, submitted);
      if (!this.step()) Atomics.wait(words, submitted, seen, WAIT_MS);
    }
  }

  /** Does the next job; false when there is none. */
  step(): boolean {
    const memory = this.#memory;
    const { words } = memory;
    const done = memory.done(this.#index);
    const count = words[done]!;
    if (Atomics.load(words, memory.submitted(this.#index)) === count) return false;
    const job = memory.job(this.#index, count);
    if (words[job] === Job.Send) {
      this.#seal(words[job + 1]!);
      this.#awaitTurn(words[job + 2]!);
      this.#send(words[job + 1]!);
      Atomics.store(words, memory.turn, words[job + 2]! + 1 | 0);
      Atomics.notify(words, memory.turn);
    } else this.#open(words[job + 1]!, words[job + 2]!, words[job + 3]!);
    Atomics.store(words, done, count + 1 | 0);
    Atomics.notify(words, done);
    return true;
  }

  #seal(lane: number): void {
    const memory = this.#memory;
    const { words } = memory;
    const buf = this.#lanes ??= memory.viewBuffer(SharedBuffer.lanes);
    const at = memory.lane(lane);
    for (let i = 0, seal = at + Lane.firstSeal; i < words[at + Lane.seals]!; i++, seal += 3) {
      const place = words[seal]!;
      const key = this.#keyOf(words[seal + 2]!);
      const counter = readDataCounter(buf, place - DATA.packet);
      key.seal(counter, buf, place, place + words[seal + 1]!, buf, place);
    }
  }

  /** Lanes that were handed over before have to be sent before. */
  #awaitTurn(turn: number): void {
    const { words, turn: at } = this.#memory;
    for (let now; (now = Atomics.load(words, at)) !== turn && !this.#memory.isStopped;) {
      Atomics.wait(words, at, now, WAIT_MS);
    }
  }

  #send(lane: number): void {
    const memory = this.#memory;
    const { words, bytes } = memory;
    const buf = this.#lanes!;
    const at = memory.lane(lane);
    const family = words[at + Lane.family]! as Family;
    const address = (word: number) => readSockaddr(this.#addresses, family, bytes, 4 * (at + word));
    const sender = this.#senderFor(words[at + Lane.fd]! as Fd, family);
    const [destination, ecn] = [address(Lane.destination), words[at + Lane.ecn]!];
    const source = words[at + Lane.hasSource] ? address(Lane.source) : undefined;
    const [length, segmentSize] = [words[at + Lane.length]!, words[at + Lane.segmentSize]!];
    let start = lane * LANE_SIZE;
    let left = length;
    for (let attempt = 0; left > 0 && attempt < FULL_ATTEMPTS; attempt++) {
      const cut = segmentSize < left ? segmentSize : 0;
      const result = sender.send(source, destination, buf, start, left, cut, ecn);
      if (result === SendResult.Sent || result === SendResult.Refused) return;
      start += sender.accepted;
      left -= sender.accepted;
      this.#waitForRoom(words[at + Lane.fd]! as Fd);
    }
  }

  #waitForRoom(fd: Fd): void {
    this.#epoll.add(fd, 0, { writable: true });
    this.#epoll.wait(FULL_MS);
    this.#epoll.remove(fd);
  }

  /** Descriptors are used again by other sockets, perhaps of another family. */
  #senderFor(fd: Fd, family: Family): DatagramSender {
    const id = fd * 2 + (family === 4 ? 0 : 1);
    let sender = this.#senders.get(id);
    if (sender === undefined) {
      sender = new DatagramSender(fd, family);
      this.#senders.set(id, sender);
    }
    return sender;
  }

  #open(start: number, length: number, step: number): void {
    const memory = this.#memory;
    const { words, marks } = memory;
    const buf = this.#receive ??= memory.viewBuffer(SharedBuffer.receive);
    const end = start + length;
    // Marks are of this message or none.
    words.fill(
      0,
      marks + Math.floor(start / MARK_BYTES),
      marks + Math.ceil(end / MARK_BYTES),
    );
    if (step < DATA_OVERHEAD) return;
    this.#learnKeys();
    for (let at = start; at < end; at += step) {
      const until = Math.min(at + step, end);
      const isFramed = (buf[at]! & 0xf0) === 0x40; // ChannelData, RFC 8656 §12.4
      const message = isFramed ? at + CHANNEL_DATA_HEADER_LENGTH : at;
      const messageEnd = isFramed ? message + readU16(buf, at + 2) : until;
      if (messageEnd <= until) this.#openMessage(buf, message, messageEnd);
    }
  }

  #openMessage(buf: Uint8Array, start: number, end: number): void {
    if (end - start < DATA_OVERHEAD || buf[start] !== MessageType.Data) return;
    const at = start + DATA.receiver;
    const slot = this.#slotByIndex.get(readU32le(buf, at) | 0);
    if (slot === undefined) return;
    const reference = keyReference(slot, this.#memory.generation(slot));
    const key = this.#keyOf(reference);
    const packet = start + DATA.packet;
    const counter = readDataCounter(buf, start);
    const isGenuine = key.open(counter, buf, packet, end, buf, packet);
    const mark = this.#memory.marks + Math.floor(packet / MARK_BYTES);
    this.#memory.words[mark] = isGenuine ? reference : FORGED;
  }

  #keyOf(reference: number): AeadKey {
    const slot = slotOf(reference);
    const known = this.#keys[slot];
    if (known?.reference === reference) return known.key;
    known?.key.dispose();
    const key = this.#aead.key(this.#memory.keyBytes(slot));
    this.#keys[slot] = { reference, key };
    return key;
  }

  #learnKeys(): void {
    const memory = this.#memory;
    const version = memory.keysVersion;
    if (version === this.#keysVersion) return;
    this.#keysVersion = version;
    this.#slotByIndex.clear();
    for (let slot = 0; slot < MAX_KEYS; slot++) {
      const generation = memory.generation(slot);
      const known = this.#keys[slot];
      if (known && known.reference !== keyReference(slot, generation)) {
        known.key.dispose();
        this.#keys[slot] = undefined;
      }
      const index = memory.receiverIndex(slot);
      if (generation > 0 && index !== 0) this.#slotByIndex.set(index, slot);
    }
  }
}
