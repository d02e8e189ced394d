/**
 * The loop's side of its cipher threads: an AEAD whose work others do, in order all the same.
 *
 *     TUN ──► machine ──► seal: copy into the lane, note ──► lane full ──► thread: seal, sendmsg
 *     UDP ──► slots ──► thread: open in place, mark ──► machine ──► open: marked, so copy ──► TUN
 *
 * The machines do not know: they seal and open as ever, counters, replay windows and everything else
 * that decides stays in the loop. Any thread may seal a lane or open a message, so one connection can
 * keep all of them busy; but lanes are sent in the order in which they were filled, and messages taken
 * in the order of their arrival. Where there is little to do (a few packets in a
 * burst) the loop does it by itself, because waking a thread takes longer.
 *
 * Owns: the buffers. Does not own: the threads, see `cipher_threads.ts`.
 * Cost: allocates nothing per packet.
 * @module
 */

import {
  type AeadBackend,
  type AeadKey,
  type AeadName,
  PointerCache,
  TAG_LENGTH,
} from "../../crypto/mod.ts";
import type { SocketAddress } from "../../ip/mod.ts";
import {
  addressOf,
  copyMemory,
  type Fd,
  Memory,
  ReceiveSlots,
  SLOT_SIZE,
  type UdpSocket,
  writeSockaddr,
} from "../../os/linux/mod.ts";
import { DATA, readDataCounter } from "../../wireguard/mod.ts";
import type { LaneSender } from "../send_batch.ts";
import {
  type CipherMemory,
  Job,
  keyReference,
  Lane,
  LANE_SIZE,
  LANES,
  MARK_BYTES,
  MAX_GENERATION,
  MAX_KEYS,
  MAX_SEALS,
  RECEIVE_SIZE,
  RING_SIZE,
  SharedBuffer,
  slotOf,
} from "./cipher_memory.ts";

/** From so many packets on a burst goes to a thread. */
const MIN_PACKETS = 12;
/** A thread that is waited for is looked at at least so often. */
const WAIT_MS = 100;
/** Not a lane: the job was another. */
const NO_LANE = -1;
/** One half is opened while the other is received into. */
const SLOTS = RECEIVE_SIZE / SLOT_SIZE / 2;

/** See the head of this file. */
export class CipherPool implements AeadBackend, LaneSender {
  /** That of the backend. */
  readonly name: AeadName;
  /** For the log, with the number of threads. */
  readonly detail: string;
  /** What lanes lie in. */
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(LANES * LANE_SIZE);
  /** Two sets of slots, for sockets to receive into by turns. */
  readonly slots: readonly [ReceiveSlots, ReceiveSlots];
  readonly #aead: AeadBackend;
  readonly #memory: CipherMemory;
  readonly #words: Int32Array;
  readonly #received = new Memory(RECEIVE_SIZE);
  readonly #freeLanes: number[] = [];
  readonly #freeKeys: number[] = [];
  /** Keys by slot. */
  readonly #keys: (PooledKey | undefined)[] = new Array(MAX_KEYS).fill(undefined);
  /** The lane of each job in each ring. */
  readonly #lanesOut: Int32Array[];
  /** Jobs of each thread whose lane was taken back. */
  readonly #takenBack: Int32Array;
  /** For each set of slots how many jobs a thread has done when all that came into it is opened. */
  readonly #opensUntil: ReadonlyMap<ReceiveSlots, Int32Array>;
  readonly #pointers = { from: new PointerCache(), to: new PointerCache() };
  #fds: Readonly<Record<4 | 6, Fd | undefined>> = { 4: undefined, 6: undefined };
  #generation = 0;
  #nextOpener = 0;
  /** Lanes handed over so far. */
  #turn = 0;
  /** Whether the datagrams at hand were opened by threads. */
  #isMarked = false;

  /** The loop's end of `memory`, over the backend that the threads have, too. */
  constructor(memory: CipherMemory, aead: AeadBackend) {
    this.#memory = memory;
    this.#words = memory.words;
    this.#aead = aead;
    this.name = aead.name;
    this.detail = `${aead.detail}, ${memory.threads} more threads`;
    this.slots = [
      new ReceiveSlots(SLOTS, this.#received, 0),
      new ReceiveSlots(SLOTS, this.#received, SLOTS * SLOT_SIZE),
    ];
    this.#lanesOut = Array.from({ length: memory.threads }, () => new Int32Array(RING_SIZE));
    this.#takenBack = Int32Array.from(
      { length: memory.threads },
      (_, thread) => this.#done(thread),
    );
    this.#opensUntil = new Map(this.slots.map((slots) => [slots, new Int32Array(memory.threads)]));
    this.#turn = Atomics.load(this.#words, memory.turn);
    for (let lane = LANES - 1; lane >= 0; lane--) this.#freeLanes.push(lane);
    for (let slot = MAX_KEYS - 1; slot >= 0; slot--) this.#freeKeys.push(slot);
    memory.setBuffer(SharedBuffer.lanes, addressOf(this.buffer.buffer), this.buffer.length);
    memory.setBuffer(SharedBuffer.receive, this.#received.address, RECEIVE_SIZE);
  }

  /** How many threads help. */
  get threads(): number {
    return this.#memory.threads;
  }

  // ---- the AEAD

  /** A key that threads know as well; see {@link AeadBackend.key}. */
  key(key: Uint8Array, receiverIndex = 0): AeadKey {
    const inner = this.#aead.key(key);
    const slot = this.#freeKeys.pop();
    if (slot === undefined) return inner;
    this.#generation = this.#generation % MAX_GENERATION + 1;
    const pooled = new PooledKey(this, inner, keyReference(slot, this.#generation));
    this.#keys[slot] = pooled;
    this.#memory.setKey(slot, this.#generation, receiverIndex, key);
    return pooled;
  }

  /** See {@link AeadBackend.sealOnce}. */
  sealOnce(
    key: Uint8Array,
    nonce: Uint8Array,
    data: Uint8Array,
    plaintext: Uint8Array,
  ): Uint8Array {
    return this.#aead.sealOnce(key, nonce, data, plaintext);
  }

  /** See {@link AeadBackend.openOnce}. */
  openOnce(
    key: Uint8Array,
    nonce: Uint8Array,
    data: Uint8Array,
    sealed: Uint8Array,
  ): Uint8Array | undefined {
    return this.#aead.openOnce(key, nonce, data, sealed);
  }

  // ---- sending

  /** Sockets have other descriptors from now on; what was to be sent by the old ones is sent. */
  setSockets(fd4: Fd | undefined, fd6: Fd | undefined): void {
    this.drain();
    this.#fds = { 4: fd4, 6: fd6 };
  }

  /** Where a lane begins that nobody uses; waits for threads if need be. */
  takeLane(): number {
    if (this.#freeLanes.length === 0) this.#findLanes();
    return this.#freeLanes.pop()! * LANE_SIZE;
  }

  /** Leaves a lane to a thread; see {@link LaneSender.handOff}. */
  handOff(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): boolean {
    const words = this.#words;
    const lane = start / LANE_SIZE;
    const at = this.#memory.lane(lane);
    this.#forgetSealsFrom(at, start + length);
    const fd = this.#fds[destination.family];
    const isIdle = Atomics.load(words, this.#memory.turn) === this.#turn;
    // While threads have something to send, the order demands that they get this, too.
    if (fd === undefined || isIdle && words[at + Lane.seals]! < MIN_PACKETS) {
      this.#sealLane(at);
      return false;
    }
    words[at + Lane.fd] = fd;
    words[at + Lane.family] = destination.family;
    words[at + Lane.length] = length;
    words[at + Lane.segmentSize] = segmentSize;
    words[at + Lane.ecn] = ecn;
    const hasSource = source !== undefined && source.family === destination.family;
    words[at + Lane.hasSource] = hasSource ? 1 : 0;
    writeSockaddr(this.#memory.bytes, 4 * (at + Lane.destination), destination);
    if (hasSource) writeSockaddr(this.#memory.bytes, 4 * (at + Lane.source), source);
    this.#submit((this.#turn >>> 0) % this.#memory.threads, lane, Job.Send, lane, this.#turn, 0);
    this.#turn = this.#turn + 1 | 0;
    return true;
  }

  /** Seals here what a lane still holds plain. */
  finish(start: number): void {
    this.#sealLane(this.#memory.lane(start / LANE_SIZE));
  }

  /** Notes that a packet in a lane is to be sealed. @internal */
  deferSeal(
    reference: number,
    src: Uint8Array,
    srcStart: number,
    length: number,
    place: number,
    padding: number,
  ): boolean {
    const words = this.#words;
    const at = this.#memory.lane(place >>> 16);
    // A reservation that was not committed is made again at the same place.
    this.#forgetSealsFrom(at, place);
    const count = words[at + Lane.seals]!;
    if (count === MAX_SEALS) return false;
    const from = this.#pointers.from.find(src, srcStart);
    const to = this.#pointers.to.find(this.buffer, place);
    if (from === null || to === null) return false;
    if (length > 0) copyMemory(to, from, length);
    for (let i = 0; i < padding; i++) this.buffer[place + length + i] = 0;
    const seal = at + Lane.firstSeal + 3 * count;
    words[seal] = place;
    words[seal + 1] = length + padding;
    words[seal + 2] = reference;
    words[at + Lane.seals] = count + 1;
    return true;
  }

  #forgetSealsFrom(at: number, place: number): void {
    const words = this.#words;
    let count = words[at + Lane.seals]!;
    while (count > 0 && words[at + Lane.firstSeal + 3 * (count - 1)]! >= place) count--;
    words[at + Lane.seals] = count;
  }

  #sealLane(at: number): void {
    const words = this.#words;
    const buf = this.buffer;
    const count = words[at + Lane.seals]!;
    words[at + Lane.seals] = 0;
    for (let i = 0, seal = at + Lane.firstSeal; i < count; i++, seal += 3) {
      const place = words[seal]!;
      const end = place + words[seal + 1]!;
      const key = this.#keys[slotOf(words[seal + 2]!)]!.inner;
      key.seal(readDataCounter(buf, place - DATA.packet), buf, place, end, buf, place);
    }
  }

  #findLanes(): void {
    for (;;) {
      let busy = -1;
      for (let thread = 0; thread < this.#memory.threads; thread++) {
        this.#takeBack(thread);
        // What was taken back counts, not what is done: a thread may finish between two looks at it.
        if (this.#words[this.#memory.submitted(thread)] !== this.#takenBack[thread]) busy = thread;
      }
      if (this.#freeLanes.length > 0) return;
      if (busy < 0) throw new Error("All lanes are lent");
      this.#waitFor(busy, this.#takenBack[busy]! + 1 | 0);
    }
  }

  /** Takes back the lanes of the jobs that a thread has done. */
  #takeBack(thread: number): void {
    const done = this.#done(thread);
    const lanes = this.#lanesOut[thread]!;
    for (let job = this.#takenBack[thread]!; job !== done; job = job + 1 | 0) {
      const lane = lanes[job & (RING_SIZE - 1)]!;
      if (lane === NO_LANE) continue;
      this.#words[this.#memory.lane(lane) + Lane.seals] = 0;
      this.#freeLanes.push(lane);
    }
    this.#takenBack[thread] = done;
  }

  // ---- receiving

  /** Has threads open the messages that a socket has just received into `slots`; see {@link finishOpening}. */
  beginOpening(slots: ReceiveSlots, socket: UdpSocket, messages: number): boolean {
    let packets = 0;
    for (let m = 0; m < messages; m++) packets += socket.length(m) / socket.segmentSize(m);
    if (packets < MIN_PACKETS) return false;
    const until = this.#opensUntil.get(slots)!;
    // A thread that gets none of them has done enough. What it had to do last time may be so long
    // ago that, as counts go round, it looks like something to come.
    until.set(this.#takenBack);
    for (let m = 0; m < messages; m++) {
      const thread = this.#nextOpener++ % this.#memory.threads;
      const [start, length, step] = [socket.start(m), socket.length(m), socket.segmentSize(m)];
      this.#submit(thread, NO_LANE, Job.Open, start, length, step);
      until[thread] = this.#words[this.#memory.submitted(thread)]!;
    }
    return true;
  }

  /** Waits until threads have opened what {@link beginOpening} gave them of these slots, not of others. */
  finishOpening(slots: ReceiveSlots): void {
    const until = this.#opensUntil.get(slots)!;
    for (let thread = 0; thread < this.#memory.threads; thread++) {
      this.#waitFor(thread, until[thread]!);
    }
    this.#isMarked = true;
  }

  /** What comes next is not opened by threads. */
  endOpening(): void {
    this.#isMarked = false;
  }

  /** What a thread made of the message whose packet begins there: 0, `FORGED`, or the key's reference. @internal */
  markOf(src: Uint8Array, packet: number): number {
    if (!this.#isMarked || src !== this.#received.bytes) return 0;
    return this.#words[this.#memory.marks + Math.floor(packet / MARK_BYTES)]!;
  }

  /** Copies what a thread has opened. @internal */
  copy(src: Uint8Array, from: number, dst: Uint8Array, to: number, length: number): void {
    if (length === 0) return;
    const [source, target] = [this.#pointers.from.find(src, from), this.#pointers.to.find(dst, to)];
    if (source !== null && target !== null) copyMemory(target, source, length);
    else dst.set(src.subarray(from, from + length), to);
  }

  // ---- threads

  /** Waits until no thread has anything to do. */
  drain(): void {
    for (let thread = 0; thread < this.#memory.threads; thread++) {
      this.#waitFor(thread, this.#words[this.#memory.submitted(thread)]!);
      this.#takeBack(thread);
    }
  }

  /** A key is not used any more. @internal */
  forget(reference: number): void {
    const slot = slotOf(reference);
    this.drain();
    for (let lane = 0; lane < LANES; lane++) this.#sealLane(this.#memory.lane(lane));
    this.#memory.setKey(slot, 0, 0, new Uint8Array(32));
    this.#keys[slot] = undefined;
    this.#freeKeys.push(slot);
  }

  #submit(thread: number, lane: number, kind: number, a: number, b: number, c: number): void {
    const words = this.#words;
    const submitted = this.#memory.submitted(thread);
    const count = words[submitted]!;
    if ((count - this.#done(thread) | 0) >= RING_SIZE - 1) this.#waitFor(thread, count - 32 | 0);
    this.#takeBack(thread);
    const job = this.#memory.job(thread, count);
    words[job] = kind;
    words[job + 1] = a;
    words[job + 2] = b;
    words[job + 3] = c;
    this.#lanesOut[thread]![count & (RING_SIZE - 1)] = lane;
    Atomics.store(words, submitted, count + 1 | 0);
    Atomics.notify(words, submitted);
  }

  #done(thread: number): number {
    return Atomics.load(this.#words, this.#memory.done(thread));
  }

  #waitFor(thread: number, count: number): void {
    const at = this.#memory.done(thread);
    for (;;) {
      const done = Atomics.load(this.#words, at);
      if ((done - count | 0) >= 0) return;
      if (this.#memory.isStopped) throw new Error("The cipher threads have ended");
      Atomics.wait(this.#words as Int32Array<SharedArrayBuffer>, at, done, WAIT_MS);
    }
  }
}

/** A key that the threads have, too. */
class PooledKey implements AeadKey {
  /** Seals and opens here. */
  readonly inner: AeadKey;
  /** Names it to the threads. */
  readonly reference: number;
  readonly #pool: CipherPool;
  #isDisposed = false;

  constructor(pool: CipherPool, inner: AeadKey, reference: number) {
    this.#pool = pool;
    this.inner = inner;
    this.reference = reference;
  }

  seal(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
    padding = 0,
  ): void {
    const pool = this.#pool;
    if (
      dst === pool.buffer && src !== dst &&
      pool.deferSeal(this.reference, src, srcStart, srcEnd - srcStart, dstStart, padding)
    ) return;
    this.inner.seal(counter, src, srcStart, srcEnd, dst, dstStart, padding);
  }

  open(
    counter: number,
    src: Uint8Array,
    srcStart: number,
    srcEnd: number,
    dst: Uint8Array,
    dstStart: number,
  ): boolean {
    const mark = this.#pool.markOf(src, srcStart);
    if (mark === 0) return this.inner.open(counter, src, srcStart, srcEnd, dst, dstStart);
    if (mark !== this.reference) return false;
    this.#pool.copy(src, srcStart, dst, dstStart, srcEnd - srcStart - TAG_LENGTH);
    return true;
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#pool.forget(this.reference);
    this.inner.dispose();
  }
}
