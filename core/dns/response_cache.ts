/**
 * Answers of other servers, kept for as long as their records allow.
 *
 * Only what is worth it: success, complete, not empty, and good for five seconds or more. Errors and
 * empty answers are always asked for anew, since a name that is missing now may be there soon.
 * @module
 */

import { readU16, readU32, writeU16, writeU32 } from "../bytes/fields.ts";
import { after, type Millis } from "../units.ts";
import type { DnsQuery } from "./query.ts";
import { Rcode, RecordType } from "./registry.ts";
import { findRecords, Flag, HEADER_LENGTH, parseQuestion } from "./wire.ts";

const MIN_TTL_SECONDS = 5;
const MAX_TTL_SECONDS = 86_400;
/** Larger answers are rare, and few of them could push out many. */
const MAX_MESSAGE_LENGTH = 4096;

/** How much a cache keeps. */
export interface ResponseCacheOptions {
  /** Answers kept at most; the one asked for longest ago makes room. 1000 if absent. */
  readonly maxEntries?: number;
}

/** See the head of this file. */
export class ResponseCache {
  /** The answer asked for longest ago comes first. */
  readonly #entries = new Map<string, CachedAnswer>();
  readonly #maxEntries: number;

  /** An empty cache. */
  constructor(options: ResponseCacheOptions = {}) {
    this.#maxEntries = options.maxEntries ?? 1000;
  }

  /** Answers kept, stale ones included. */
  get size(): number {
    return this.#entries.size;
  }

  /** The answer to a query, with its id, its spelling of the name and the time that is left.
   * @param server whose answer; servers may disagree */
  get(now: Millis, server: string, query: DnsQuery): Uint8Array | undefined {
    const key = cacheKey(server, query);
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    if (now >= entry.staleAt) return undefined;
    this.#entries.set(key, entry);
    const message = new Uint8Array(entry.message);
    writeU16(message, 0, query.id);
    message.set(query.bytes.subarray(HEADER_LENGTH, query.question.end), HEADER_LENGTH);
    const age = Math.floor((now - entry.storedAt) / 1000);
    for (const offset of entry.ttlOffsets) {
      writeU32(message, offset, Math.max(0, ttlAt(message, offset) - age));
    }
    return message;
  }

  /** Keeps an answer if it is worth it. The caller has checked that it belongs to the query.
   * @param message copied */
  put(now: Millis, server: string, query: DnsQuery, message: Uint8Array): void {
    // Options may make an answer personal: cookies, the subnet of who asks.
    if (message.length > MAX_MESSAGE_LENGTH || query.edns?.hasOptions) return;
    const flags = readU16(message, 2);
    if ((flags & Flag.RCODE) !== Rcode.NoError || (flags & Flag.TC) !== 0) return;
    const question = parseQuestion(message);
    if (readU16(message, 4) !== 1 || question?.end !== query.question.end) return;
    const records = findRecords(message, question.end);
    if (!records?.some((record) => record.section === "answer")) return;
    const ttlOffsets = records
      .filter((record) => record.type !== RecordType.OPT)
      .map((record) => record.fixed + 4);
    const ttlSeconds = Math.min(...ttlOffsets.map((offset) => ttlAt(message, offset)));
    if (ttlSeconds < MIN_TTL_SECONDS) return;
    const key = cacheKey(server, query);
    this.#entries.delete(key);
    if (this.#entries.size >= this.#maxEntries) {
      this.#entries.delete(this.#entries.keys().next().value!);
    }
    this.#entries.set(key, {
      message: new Uint8Array(message),
      ttlOffsets,
      storedAt: now,
      staleAt: after(now, Math.min(ttlSeconds, MAX_TTL_SECONDS) * 1000),
    });
  }

  /** Forgets everything. */
  flush(): void {
    this.#entries.clear();
  }
}

interface CachedAnswer {
  readonly message: Uint8Array;
  readonly ttlOffsets: readonly number[];
  readonly storedAt: Millis;
  readonly staleAt: Millis;
}

/** Whatever an answer may depend on. */
function cacheKey(server: string, query: DnsQuery): string {
  const { name, type, class: qclass } = query.question;
  const flags = query.flags & (Flag.RD | Flag.AD | Flag.CD);
  const edns = query.edns ? (query.edns.dnssecOk ? 2 : 1) : 0;
  return `${server} ${name} ${type} ${qclass} ${flags} ${edns}`;
}

/** With the top bit set it is to be read as zero (RFC 2181 §8). */
function ttlAt(message: Uint8Array, offset: number): number {
  const ttl = readU32(message, offset);
  return ttl > 0x7fff_ffff ? 0 : ttl;
}
