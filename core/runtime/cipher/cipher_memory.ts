/**
 * What the loop of a data plane and its cipher threads share: a block of words, and the addresses of
 * the buffers that packets lie in.
 *
 *     header   threads, version of the keys, whether to stop, addresses of the buffers, whose turn it is
 *     thread   how many jobs were submitted │ how many are done │ a ring of jobs      (one per thread)
 *     keys     generation, receiver index, key                                     (one per key)
 *     lanes    where to send what lies in it, and what is still to be sealed there  (one per lane)
 *     marks    what became of the datagram that begins there   (one per 32 bytes of the receive buffer)
 *
 * Each ring has one writer, the loop, and one reader. What a job needs is written first and the count
 * of submitted jobs last, by an atomic store; the thread answers with the count of those done.
 *
 * The buffers are ordinary memory of the loop's thread, to which the threads have views of their own:
 * packets are not copied to be handed over, and the loop works on them as if it were alone.
 * @module
 */

/** Jobs that may wait for a thread. */
export const RING_SIZE = 64;
/** Bytes of a lane: what one send can take. */
export const LANE_SIZE = 65_536;
/** Lanes: those being filled and those that threads work on. */
export const LANES = 16;
/** Packets to be sealed in a lane at most: as many as a send has segments. */
export const MAX_SEALS = 64;
/** Keys that threads know; each session has two. Any more are used by the loop alone. */
export const MAX_KEYS = 8192;
/** Bytes of the receive buffer for each mark: no two messages with data begin that close together. */
export const MARK_BYTES = 32;
/** Bytes of the receive buffer. */
export const RECEIVE_SIZE = 512 << 10;

/** What a job asks for: the first of its words. */
export const Job = {
  /** Seal a lane and send it when its turn has come: its number and its turn. */
  Send: 1,
  /** Open the datagrams of a message: where it begins, its length, the length of each datagram. */
  Open: 2,
} as const;

/** Mark of a datagram that is not genuine; its bytes are gone. */
export const FORGED = -1;

/** Offsets of a lane's words. */
export const Lane = {
  fd: 0,
  family: 1,
  length: 2,
  segmentSize: 3,
  ecn: 4,
  hasSource: 5,
  seals: 6,
  /** Bytes of two structs sockaddr follow here. */
  destination: 8,
  source: 16,
  /** Place, length and key of each packet to be sealed. */
  firstSeal: 32,
} as const;

const HEADER_WORDS = 32;
const KEYS_VERSION = 1;
const STOP = 2;
const TURN = 16; // another cache line than what the loop writes
const BUFFERS = 8;
const THREAD_WORDS = 32 + RING_SIZE * 4;
const DONE = 16; // another cache line than what the loop writes
const RING = 32;
const KEY_WORDS = 10;
const KEY_BYTES = 32;
const LANE_WORDS = Lane.firstSeal + 3 * MAX_SEALS;
const MARKS = RECEIVE_SIZE / MARK_BYTES;

/** Numbers of the shared buffers. */
export const SharedBuffer = { lanes: 0, receive: 1 } as const;

/** See the head of this file. */
export class CipherMemory {
  /** To be handed to the threads. */
  readonly buffer: SharedArrayBuffer;
  /** How many threads there are. */
  readonly threads: number;
  /** Everything, as words. */
  readonly words: Int32Array<SharedArrayBuffer>;
  /** Everything, as bytes. */
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  /** Where the marks begin, in words. */
  readonly marks: number;
  readonly #keys: number;
  readonly #lanes: number;

  /** The view of memory that {@link create} made. */
  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.threads = this.words[0]!;
    this.#keys = HEADER_WORDS + this.threads * THREAD_WORDS;
    this.#lanes = this.#keys + MAX_KEYS * KEY_WORDS;
    this.marks = this.#lanes + LANES * LANE_WORDS;
  }

  /** Fresh memory for that many threads. */
  static create(threads: number): CipherMemory {
    const words = HEADER_WORDS + threads * THREAD_WORDS + MAX_KEYS * KEY_WORDS +
      LANES * LANE_WORDS + MARKS;
    const buffer = new SharedArrayBuffer(4 * words);
    new Int32Array(buffer)[0] = threads;
    return new CipherMemory(buffer);
  }

  /** Makes a buffer known. @param which of {@link SharedBuffer} */
  setBuffer(which: number, address: number, length: number): void {
    const at = BUFFERS + 4 * which;
    this.words[at] = address; // stored modulo 2^32
    this.words[at + 1] = address / 0x1_0000_0000;
    this.words[at + 2] = length;
  }

  /** A view of a buffer, in any thread; it keeps nothing alive. */
  viewBuffer(which: number): Uint8Array<ArrayBuffer> {
    const at = BUFFERS + 4 * which;
    const [low, high, length] = [this.words[at]!, this.words[at + 1]!, this.words[at + 2]!];
    const address = BigInt(high >>> 0) << 32n | BigInt(low >>> 0);
    const pointer = Deno.UnsafePointer.create(address);
    if (pointer === null) throw new Error("The loop has not said where its buffers are");
    return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(pointer, length));
  }

  /** Index of the count of jobs submitted to a thread. */
  submitted(thread: number): number {
    return HEADER_WORDS + thread * THREAD_WORDS;
  }

  /** Index of the count of jobs that a thread has done. */
  done(thread: number): number {
    return this.submitted(thread) + DONE;
  }

  /** Index of the words of a thread's job. */
  job(thread: number, count: number): number {
    return this.submitted(thread) + RING + 4 * (count & (RING_SIZE - 1));
  }

  /** Index of a lane's words. */
  lane(lane: number): number {
    return this.#lanes + lane * LANE_WORDS;
  }

  /** A key's generation; 0 while there is none. What else is known of the key is there when this is. */
  generation(slot: number): number {
    return Atomics.load(this.words, this.#keys + slot * KEY_WORDS);
  }

  /** The receiver index of what is sealed with a key, in messages to us. */
  receiverIndex(slot: number): number {
    return this.words[this.#keys + slot * KEY_WORDS + 1]!;
  }

  /** A key's bytes. */
  keyBytes(slot: number): Uint8Array {
    const at = 4 * (this.#keys + slot * KEY_WORDS + 2);
    return this.bytes.subarray(at, at + KEY_BYTES);
  }

  /** Makes a key known, or forgets it (generation 0). */
  setKey(slot: number, generation: number, receiverIndex: number, key: Uint8Array): void {
    const at = this.#keys + slot * KEY_WORDS;
    this.words[at + 1] = receiverIndex;
    this.bytes.set(key, 4 * (at + 2));
    Atomics.store(this.words, at, generation);
    Atomics.add(this.words, KEYS_VERSION, 1);
  }

  /** Index of the turn: how many lanes were sent. They leave in the order in which they were handed over. */
  get turn(): number {
    return TURN;
  }

  /** Changes with every {@link setKey}. */
  get keysVersion(): number {
    return Atomics.load(this.words, KEYS_VERSION);
  }

  /** Whether threads shall end. */
  get isStopped(): boolean {
    return Atomics.load(this.words, STOP) !== 0;
  }

  /** Makes all threads end, whatever waits. */
  stop(): void {
    Atomics.store(this.words, STOP, 1);
    for (let i = 0; i < this.threads; i++) {
      Atomics.notify(this.words, this.submitted(i));
      Atomics.notify(this.words, this.done(i));
    }
    Atomics.notify(this.words, TURN);
  }
}

/** Names a key together with its generation, so that none is taken for another; never 0 or below. */
export function keyReference(slot: number, generation: number): number {
  return generation * MAX_KEYS + slot;
}

/** The slot in a {@link keyReference}. */
export function slotOf(reference: number): number {
  return reference & (MAX_KEYS - 1);
}

/** Generations go round from 1 to here. */
export const MAX_GENERATION: number = 0x7fff_ffff / MAX_KEYS - 1 | 0;
