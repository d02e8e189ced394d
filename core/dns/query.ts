/**
 * A DNS query as a resolver reads it.
 * @module
 */

import { readU16, readU32, writeU16 } from "../bytes/fields.ts";
import { MAX_UDP_MESSAGE, MIN_UDP_MESSAGE, Rcode, RecordType } from "./registry.ts";
import {
  findRecords,
  Flag,
  HEADER_LENGTH,
  parseQuestion,
  type Question,
  type RecordRef,
} from "./wire.ts";

/** A well-formed query with one question. */
export interface DnsQuery {
  /** The message. */
  readonly bytes: Uint8Array;
  /** What the answer has to be marked with. */
  readonly id: number;
  /** The flags field. */
  readonly flags: number;
  /** What is asked. */
  readonly question: Question;
  /** Largest answer over UDP that the sender takes, in bytes; between 512 and our own limit. */
  readonly maxAnswer: number;
  /** What its OPT record says (RFC 6891), if there is one. */
  readonly edns: {
    /** Where the record's type stands in {@link bytes}. */
    readonly fixed: number;
    /** DNSSEC records are wanted. */
    readonly dnssecOk: boolean;
    /** Whether it has options, which make answers personal. */
    readonly hasOptions: boolean;
  } | undefined;
}

/** What some bytes that claim to be a query are. */
export type ParsedQuery =
  | {
    /** One that can be answered. */
    readonly tag: "query";
    /** It. */
    readonly query: DnsQuery;
  }
  | {
    /** One that is answered with an error. */
    readonly tag: "refused";
    /** That answer. */
    readonly answer: Uint8Array;
  }
  | {
    /** None at all: too short to have an id, or itself an answer. */
    readonly tag: "ignored";
  };

const IGNORED: ParsedQuery = { tag: "ignored" };
const DNSSEC_OK = 0x8000;
const EDNS_VERSION = 0;
/** Upper bits of BADVERS (16), whose lower four are zero. */
const BADVERS_UPPER = 1;

/** Reads a query, whatever the bytes; keeps them. */
export function parseQuery(bytes: Uint8Array): ParsedQuery {
  if (bytes.length < HEADER_LENGTH) return IGNORED;
  const flags = readU16(bytes, 2);
  // An answer to an answer could go on for ever.
  if ((flags & Flag.QR) !== 0) return IGNORED;
  if ((flags & Flag.OPCODE) !== 0) return refused(bytes, Rcode.NotImp);
  if (readU16(bytes, 4) !== 1) return refused(bytes, Rcode.FormErr);
  const question = parseQuestion(bytes);
  const records = question && findRecords(bytes, question.end);
  if (!question || !records) return refused(bytes, Rcode.FormErr);
  const opts = records.filter((record) => record.type === RecordType.OPT);
  if (opts.length > 1 || !opts.every(isProperOpt)) return refused(bytes, Rcode.FormErr);
  if (opts[0] && bytes[opts[0].fixed + 5] !== EDNS_VERSION) return badVersion(bytes);
  // Transfers are streams of messages, and nothing behind us has zones for everybody.
  if (question.type === RecordType.AXFR || question.type === RecordType.IXFR) {
    return refused(bytes, Rcode.Refused);
  }
  const fixed = opts[0]?.fixed;
  const size = fixed === undefined ? MIN_UDP_MESSAGE : readU16(bytes, fixed + 2);
  return {
    tag: "query",
    query: {
      bytes,
      id: readU16(bytes, 0),
      flags,
      question,
      maxAnswer: Math.min(Math.max(size, MIN_UDP_MESSAGE), MAX_UDP_MESSAGE),
      edns: fixed === undefined ? undefined : {
        fixed,
        dnssecOk: (readU32(bytes, fixed + 4) & DNSSEC_OK) !== 0,
        hasOptions: readU16(bytes, fixed + 8) > 0,
      },
    },
  };
}

/** The query as it goes to another server: with another id, and asking for no fragments. */
export function forwardedQuery(query: DnsQuery, id: number): Uint8Array {
  const bytes = new Uint8Array(query.bytes);
  writeU16(bytes, 0, id);
  if (query.edns) {
    const size = readU16(bytes, query.edns.fixed + 2);
    writeU16(bytes, query.edns.fixed + 2, Math.min(size, MAX_UDP_MESSAGE));
  }
  return bytes;
}

/** It stands where it belongs and is named by the root (RFC 6891 §6.1.2). */
function isProperOpt({ section, start, fixed }: RecordRef): boolean {
  return section === "additional" && fixed === start + 1;
}

/** Says which version of EDNS we speak (RFC 6891 §6.1.3). */
function badVersion(bytes: Uint8Array): ParsedQuery {
  const answer = refusal(bytes, Rcode.NoError, 11);
  writeU16(answer, 10, 1);
  writeU16(answer, HEADER_LENGTH + 1, RecordType.OPT);
  writeU16(answer, HEADER_LENGTH + 3, MAX_UDP_MESSAGE);
  answer[HEADER_LENGTH + 5] = BADVERS_UPPER;
  return { tag: "refused", answer };
}

function refused(bytes: Uint8Array, rcode: number): ParsedQuery {
  return { tag: "refused", answer: refusal(bytes, rcode) };
}

function refusal(bytes: Uint8Array, rcode: number, roomBehind = 0): Uint8Array {
  const answer = new Uint8Array(HEADER_LENGTH + roomBehind);
  const kept = readU16(bytes, 2) & (Flag.OPCODE | Flag.RD);
  writeU16(answer, 0, readU16(bytes, 0));
  writeU16(answer, 2, Flag.QR | Flag.RA | kept | rcode);
  return answer;
}
