/**
 * Whole DNS messages as values, by the codec of npm `dns-packet`.
 *
 * For those who want to know what a message says: looking up names, tests. What only passes through
 * is handled where it lies (`wire.ts`).
 * @module
 */

import { Buffer } from "node:buffer";
import packet from "dns-packet";
import { type IpAddress, parseIpAddress } from "../ip/address.ts";
import { findRecords, Flag, HEADER_LENGTH, parseQuestion } from "./wire.ts";
import { readU16 } from "../bytes/fields.ts";
import { MAX_UDP_MESSAGE } from "./registry.ts";

/** A record with the data that we know how to read. */
export interface DecodedRecord {
  /** The name it is about, as it was written, without the final dot. */
  readonly name: string;
  /** `A`, `CNAME`, …; `UNKNOWN_n` for types that the codec does not know. */
  readonly type: string;
  /** How long it may be kept, in seconds. */
  readonly ttlSeconds: number;
  /** Addresses and names in text; undefined for anything else. */
  readonly data: string | undefined;
}

/** A message with one question or none. */
export interface DecodedMessage {
  /** Its id. */
  readonly id: number;
  /** Whether it is a response. */
  readonly isResponse: boolean;
  /** Whether more is to be had over TCP. */
  readonly isTruncated: boolean;
  /** The response code, without EDNS's extension. */
  readonly rcode: number;
  /** Records of the answer section. */
  readonly answers: readonly DecodedRecord[];
}

/** Decodes a message; undefined where it does not make sense. Never throws. */
export function decodeMessage(bytes: Uint8Array): DecodedMessage | undefined {
  // Counts and bounds are checked first, so that the codec makes no room for what is not there.
  if (bytes.length < HEADER_LENGTH) return undefined;
  const questions = readU16(bytes, 4);
  if (questions > 1) return undefined;
  const start = questions === 1 ? parseQuestion(bytes)?.end : HEADER_LENGTH;
  if (start === undefined || findRecords(bytes, start) === undefined) return undefined;
  const flags = readU16(bytes, 2);
  try {
    const decoded = packet.decode(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return {
      id: readU16(bytes, 0),
      isResponse: (flags & Flag.QR) !== 0,
      isTruncated: (flags & Flag.TC) !== 0,
      rcode: flags & Flag.RCODE,
      answers: decoded.answers.map((record: RawRecord): DecodedRecord => ({
        name: record.name,
        type: record.type,
        ttlSeconds: record.ttl ?? 0,
        data: typeof record.data === "string" ? record.data : undefined,
      })),
    };
  } catch {
    return undefined; // data of a record that its type does not allow
  }
}

/**
 * Encodes a query that asks for recursion.
 *
 * @param type as text: `A`, `AAAA`, `TXT`
 * @param id 0 to 65535
 */
export function encodeQuery(id: number, name: string, type: string): Uint8Array {
  return new Uint8Array(packet.encode({
    type: "query",
    id,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type, name }],
    additionals: [{
      type: "OPT",
      name: ".",
      udpPayloadSize: MAX_UDP_MESSAGE,
      flags: 0,
      options: [],
    }],
  }));
}

/** The addresses in an answer section, whatever names they are about. */
export function addressesIn(message: DecodedMessage): IpAddress[] {
  return message.answers.flatMap((record) =>
    record.type === "A" || record.type === "AAAA"
      ? (record.data === undefined ? [] : parseIpAddress(record.data) ?? [])
      : []
  );
}

interface RawRecord {
  readonly name: string;
  readonly type: string;
  readonly ttl?: number;
  readonly data?: unknown;
}
