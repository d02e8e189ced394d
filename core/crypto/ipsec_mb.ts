/**
 * Intel's Multi-Buffer Crypto for IPsec by FFI: one ChaCha20-Poly1305 job at a time.
 *
 * The library hands out jobs from a ring in its manager. The caller fills the next one and has it
 * submitted; this cipher is done when that call returns. Jobs and manager are structs whose public
 * members have kept their places from version 1.2 to 2.0 (`intel-ipsec-mb.h` says that they must),
 * but for the size of a job, which the addresses of the ring tell.
 *
 * Submitting is a function pointer in the manager. Deno calls those 150 times slower than a symbol, so
 * `bsearch` does it: looking for the manager among one element, it calls its comparison once, with the
 * manager as first argument, and whatever that returns ends the search.
 *
 * The library is loaded with this module; one manager per thread is made at the first use. Both stay
 * for the life of the process.
 * @module
 */

import { KEY_LENGTH, NONCE_LENGTH, TAG_LENGTH } from "./aead.ts";
import { openLibrary } from "./native_library.ts";

const SYMBOLS = {
  alloc_mb_mgr: { parameters: ["u64"], result: "pointer" },
  // manager, where to write the architecture or null
  init_mb_mgr_auto: { parameters: ["pointer", "pointer"], result: "void" },
  imb_get_version: { parameters: [], result: "u32" },
} as const;

const LIBC_SYMBOLS = {
  // destination, source, bytes
  memcpy: { parameters: ["pointer", "pointer", "u32"], result: "void" },
  // key, base, elements, bytes of each, comparison
  bsearch: { parameters: ["pointer", "pointer", "u32", "u32", "pointer"], result: "void" },
} as const;

/** Members of IMB_MGR: function pointers. */
const Manager = { getNextJob: 64, submitJob: 72 } as const;

/** Members of IMB_JOB, in words of four bytes; lengths and addresses are of eight bytes. */
export const Job = {
  key: 0,
  decryptKey: 2, // the same
  keyLength: 4,
  source: 6,
  destination: 8,
  cipherStart: 10,
  cipherLength: 12,
  hashStart: 14,
  hashLength: 16,
  nonce: 18,
  nonceLength: 20,
  tag: 22,
  tagLength: 24,
  associatedData: 26,
  associatedDataLength: 28,
  status: 32,
  cipher: 33,
  direction: 34,
  hash: 35,
  order: 36,
} as const;
const JOB_WORDS = 37;

const CHACHA20_POLY1305 = { cipher: 19, hash: 29 } as const;
const COMPLETED = 3;
const MIN_VERSION = 0x1_02_00;
const END_OF_VERSIONS = 0x3_00_00;
/** The longest ring that there may be; it has had 128 and 256 jobs. */
const MAX_RING = 4096;

/** IMB_CIPHER_DIRECTION and IMB_CHAIN_ORDER: what is authenticated is always the ciphertext. */
export const Direction = { seal: 1, open: 2 } as const;

/** Where something begins, for jobs. */
export class Address {
  // In halves, signed: a whole one fits no small integer, so handing it around would allocate.
  readonly #low: number;
  readonly #high: number;
  /** Bytes from there on that share the upper half. */
  readonly #room: number;

  /** The address of a byte. */
  constructor(address: bigint) {
    this.#low = Number(BigInt.asIntN(32, address));
    this.#high = Number(address >> 32n);
    this.#room = Number(0x1_0000_0000n - BigInt.asUintN(32, address));
  }

  /** Where an array begins. @param bytes longer than 64 bytes, or the garbage collector moves them */
  static of(bytes: Uint8Array<ArrayBuffer>): Address {
    return new Address(Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes)));
  }

  /** Writes the address of the byte at `offset`, less than 2^31, to `words[at]` and `words[at + 1]`. */
  put(words: Int32Array, at: number, offset: number): void {
    words[at] = (this.#low + offset) | 0;
    words[at + 1] = offset < this.#room ? this.#high : this.#high + 1;
  }
}

/** A manager: encrypts and decrypts for one thread. */
export class IpsecMbManager {
  /** File name and version, for the log. */
  readonly detail: string;
  /** Three words, a zero and the counter (WireGuard §5.4.6), to be written before each job. */
  readonly nonce: Int32Array<ArrayBuffer> = new Int32Array(32);
  /** The key of the next job, to be written before it: 32 bytes take less than to fetch their address. */
  readonly key: Int32Array<ArrayBuffer> = new Int32Array(32);
  /** Where a job that opens puts the tag that it should have been. */
  readonly tag: Uint8Array<ArrayBuffer> = new Uint8Array(128);
  readonly #tagAddress = Address.of(this.tag);
  readonly #pointer: Deno.PointerObject;
  readonly #submit: Deno.PointerObject;
  readonly #libc: Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"];
  /** All jobs, as words; {@link Address.put} writes addresses here. */
  readonly words: Int32Array;
  /** Where each job of the ring begins in `words`. */
  readonly #ring: Int32Array;
  #next = 0;

  /** Walks once round the ring. @throws Error when the library does not do as it should */
  constructor(library: Library) {
    this.detail = library.detail;
    this.#libc = library.libc;
    const pointer = library.symbols.alloc_mb_mgr(0n);
    if (pointer === null) throw new Error("no memory");
    this.#pointer = pointer;
    library.symbols.init_mb_mgr_auto(pointer, null);
    const members = new Deno.UnsafePointerView(pointer);
    this.#submit = members.getPointer(Manager.submitJob)!;
    const getNextJob = new Deno.UnsafeFnPointer(
      members.getPointer(Manager.getNextJob)!,
      { parameters: ["pointer"], result: "pointer" },
    );
    const jobs: Deno.PointerObject[] = [];
    const first = Deno.UnsafePointer.value(getNextJob.call(pointer));
    do {
      const job = getNextJob.call(pointer);
      if (job === null || jobs.length === MAX_RING) throw new Error("no ring of jobs");
      jobs.push(job);
      const words = wordsAt(job, JOB_WORDS);
      this.#prepare(words);
      this.#run(words, 0);
    } while (Deno.UnsafePointer.value(getNextJob.call(pointer)) !== first);
    const addresses = jobs.map((job) => Deno.UnsafePointer.value(job));
    const lowest = addresses.reduce((a, b) => a < b ? a : b);
    const highest = addresses.reduce((a, b) => a > b ? a : b);
    this.#ring = Int32Array.from(addresses, (address) => Number(address - lowest) / 4);
    this.words = wordsAt(
      jobs[addresses.indexOf(lowest)]!,
      Number(highest - lowest) / 4 + JOB_WORDS,
    );
  }

  /** Where the next job begins in `words`: its source, destination and tag are to be put there. */
  nextJob(): number {
    const at = this.#ring[this.#next]!;
    if (++this.#next === this.#ring.length) this.#next = 0;
    return at;
  }

  /**
   * Encrypts or decrypts `length` bytes with `key`, under `nonce`.
   *
   * @param at of the job @param direction of {@link Direction}
   * @throws Error when the library refuses, which it does not
   */
  process(at: number, direction: number, length: number): void {
    const { words } = this;
    words[at + Job.cipherLength] = length;
    words[at + Job.hashLength] = length;
    words[at + Job.direction] = direction;
    words[at + Job.order] = direction;
    this.#run(words, at);
  }

  /** Has the tag put into `tag`. */
  keepTag(at: number): void {
    this.#tagAddress.put(this.words, at + Job.tag, 0);
  }

  /** As {@link process}, with the first bytes of `data`, which does not move, only authenticated. */
  processWith(
    data: Uint8Array<ArrayBuffer>,
    dataLength: number,
    at: number,
    direction: number,
    length: number,
  ): void {
    const { words } = this;
    Address.of(data).put(words, at + Job.associatedData, 0);
    words[at + Job.associatedDataLength] = dataLength;
    this.process(at, direction, length);
    this.#tagAddress.put(words, at + Job.associatedData, 0);
    words[at + Job.associatedDataLength] = 0;
  }

  /** Copies bytes. */
  copy(destination: Deno.PointerValue, source: Deno.PointerValue, length: number): void {
    this.#libc.memcpy(destination, source, length);
  }

  /** What is the same for all jobs, and a first one: to seal nothing with a key of zeros. */
  #prepare(words: Int32Array): void {
    words.fill(0);
    const tag = this.#tagAddress;
    const nonce = Address.of(new Uint8Array(this.nonce.buffer));
    const key = Address.of(new Uint8Array(this.key.buffer));
    for (const member of [Job.key, Job.decryptKey] as const) key.put(words, member, 0);
    for (const member of [Job.source, Job.destination] as const) tag.put(words, member, 0);
    words[Job.keyLength] = KEY_LENGTH;
    nonce.put(words, Job.nonce, 0);
    words[Job.nonceLength] = NONCE_LENGTH;
    tag.put(words, Job.tag, 0);
    words[Job.tagLength] = TAG_LENGTH;
    tag.put(words, Job.associatedData, 0);
    words[Job.cipher] = CHACHA20_POLY1305.cipher;
    words[Job.hash] = CHACHA20_POLY1305.hash;
    words[Job.direction] = Direction.seal;
    words[Job.order] = Direction.seal;
  }

  #run(words: Int32Array, at: number): void {
    words[at + Job.status] = 0;
    this.#libc.bsearch(this.#pointer, this.#pointer, 1, 1, this.#submit);
    if (words[at + Job.status] !== COMPLETED) throw new Error(`${this.detail} refuses a job`);
  }
}

interface Library {
  readonly detail: string;
  readonly symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly libc: Deno.DynamicLibrary<typeof LIBC_SYMBOLS>["symbols"];
}

const library = load();
let manager: IpsecMbManager | undefined;

/** This thread's manager, or `undefined` where there is no such library, or not as it should be. */
export function ipsecMb(): IpsecMbManager | undefined {
  if (manager !== undefined || library === undefined) return manager;
  try {
    return manager = new IpsecMbManager(library);
  } catch {
    return undefined; // the next backend
  }
}

function wordsAt(pointer: Deno.PointerObject, length: number): Int32Array {
  return new Int32Array(Deno.UnsafePointerView.getArrayBuffer(pointer, 4 * length));
}

function load(): Library | undefined {
  if (Deno.build.os !== "linux" || Deno.build.arch !== "x86_64") return undefined;
  const libc = openLibrary("libc.so.6", LIBC_SYMBOLS);
  for (const name of ["libIPSec_MB.so.2", "libIPSec_MB.so.1"]) {
    const symbols = openLibrary(name, SYMBOLS);
    if (symbols === undefined || libc === undefined) continue;
    const version = symbols.imb_get_version();
    if (version < MIN_VERSION || version >= END_OF_VERSIONS) continue;
    const text = [version >>> 16, version >>> 8 & 255, version & 255].join(".");
    return { detail: `${name}, version ${text}`, symbols, libc };
  }
  return undefined;
}
