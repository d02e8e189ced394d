/**
 * DNS answers: those that are made here, and those of other servers on their way through.
 * @module
 */

import { readU16, writeU16, writeU32 } from "../bytes/fields.ts";
import type { DnsQuery } from "./query.ts";
import { CLASS_IN, MAX_UDP_MESSAGE, Rcode, RecordType } from "./registry.ts";
import { findRecords, Flag, HEADER_LENGTH, parseQuestion } from "./wire.ts";

/** A record about the name that was asked for. */
export interface AnswerRecord {
  /** Its type. */
  readonly type: number;
  /** How long it may be kept, in seconds. */
  readonly ttlSeconds: number;
  /** The data as it stands in the message; names in it are not compressed. */
  readonly data: Uint8Array;
}

/** Records start with a pointer to the name of the question. */
const NAME_POINTER = 0xc000 | HEADER_LENGTH;
const OPT_LENGTH = 11;

/** Makes the answer to a query; the name is echoed in the case it was asked in. */
export function makeAnswer(
  query: DnsQuery,
  rcode: number,
  records: readonly AnswerRecord[] = [],
): Uint8Array {
  const { end } = query.question;
  let length = end + (query.edns ? OPT_LENGTH : 0);
  for (const record of records) length += 12 + record.data.length;
  const bytes = new Uint8Array(length);
  bytes.set(query.bytes.subarray(0, end));
  writeU16(bytes, 2, Flag.QR | Flag.RA | query.flags & (Flag.RD | Flag.CD) | rcode);
  writeU16(bytes, 6, records.length);
  writeU16(bytes, 8, 0);
  writeU16(bytes, 10, query.edns ? 1 : 0);
  let at = end;
  for (const { type, ttlSeconds, data } of records) {
    writeU16(bytes, at, NAME_POINTER);
    writeU16(bytes, at + 2, type);
    writeU16(bytes, at + 4, CLASS_IN);
    writeU32(bytes, at + 6, ttlSeconds);
    writeU16(bytes, at + 10, data.length);
    bytes.set(data, at + 12);
    at += 12 + data.length;
  }
  if (query.edns) {
    // Root, OPT, our own limit, no extended code, version 0; the DO bit is echoed (RFC 3225 §3).
    writeU16(bytes, at + 1, RecordType.OPT);
    writeU16(bytes, at + 3, MAX_UDP_MESSAGE);
    if (query.edns.dnssecOk) bytes[at + 7] = 0x80;
  }
  return bytes;
}

/** Whether a message answers a query that was sent with `id`. */
export function isAnswerTo(message: Uint8Array, query: DnsQuery, id: number): boolean {
  if (message.length < HEADER_LENGTH || readU16(message, 0) !== id) return false;
  const flags = readU16(message, 2);
  if ((flags & Flag.QR) === 0) return false;
  // Some servers leave the question out of errors.
  if (readU16(message, 4) === 0) return (flags & Flag.RCODE) !== Rcode.NoError;
  const asked = query.question;
  const question = readU16(message, 4) === 1 ? parseQuestion(message) : undefined;
  return question !== undefined && question.name === asked.name && question.type === asked.type &&
    question.class === asked.class;
}

/** Another server's answer under the id that it was asked with. */
export function returnedAnswer(message: Uint8Array, id: number): Uint8Array {
  const bytes = new Uint8Array(message);
  writeU16(bytes, 0, id);
  return bytes;
}

/** Makes an answer that denies a name (NXDOMAIN) one that only denies records of the type. */
export function asNoData(message: Uint8Array): void {
  const flags = readU16(message, 2);
  if ((flags & Flag.RCODE) === Rcode.NxDomain) writeU16(message, 2, flags & ~Flag.RCODE);
}

/**
 * An answer that fits: itself, or what says that there is more over TCP (RFC 2181 §9).
 *
 * @param maxLength in bytes
 */
export function truncateAnswer(message: Uint8Array, maxLength: number): Uint8Array {
  if (message.length <= maxLength) return message;
  const hasQuestion = readU16(message, 4) === 1;
  const end = hasQuestion ? parseQuestion(message)?.end : undefined;
  const opt = end === undefined
    ? undefined
    : findRecords(message, end)?.find((record) => record.type === RecordType.OPT);
  const kept = message.subarray(0, end ?? HEADER_LENGTH);
  const fits = opt !== undefined && kept.length + opt.end - opt.start <= maxLength;
  const bytes = new Uint8Array(kept.length + (fits ? opt.end - opt.start : 0));
  bytes.set(kept);
  if (fits) bytes.set(message.subarray(opt.start, opt.end), kept.length);
  writeU16(bytes, 2, readU16(message, 2) | Flag.TC);
  writeU16(bytes, 4, end === undefined ? 0 : 1);
  writeU16(bytes, 6, 0);
  writeU16(bytes, 8, 0);
  writeU16(bytes, 10, fits ? 1 : 0);
  return bytes;
}
