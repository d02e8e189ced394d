/**
 * A STUN message as it came in, with its attributes decoded.
 *
 * Spec: RFC 8489 §6.3 and §14, RFC 8656 §18, RFC 8445 §16.1. Deviations:
 * - A value that does not decode leaves its field undefined and is reported in
 *   {@link StunMessage.malformedAttribute}; servers answer that with 400.
 * - Text above the lengths that the RFC allows does not decode, so an echo always fits a message.
 * - MAPPED-ADDRESS and UNKNOWN-ATTRIBUTES are known but not read; MESSAGE-INTEGRITY-SHA256, DATA,
 *   DONT-FRAGMENT and RESERVATION-TOKEN are unknown.
 *
 * Owns: what the bytes say. Does not own: whether it may be said, see `integrity.ts` and the owner.
 * Cost: copies the message; meant for the control path alone.
 * @module
 */

import { hex, readU16, readU32 } from "../bytes/mod.ts";
import type { Family, SocketAddress } from "../ip/address.ts";
import { parseXorAddress, toFamily } from "./address_attribute.ts";
import {
  ATTRIBUTE,
  ATTRIBUTE_HEADER_LENGTH,
  attributesFit,
  isUnknownComprehensionRequired,
  padded,
} from "./attributes.ts";
import type { StunError } from "./error_code.ts";
import { verifyFingerprintAt } from "./fingerprint.ts";
import { classOf, HEADER_LENGTH, looksLikeStun, methodOf, type StunClass } from "./header.ts";
import { INTEGRITY_LENGTH, verifyIntegrityAt } from "./integrity.ts";
import { MAX_TEXT_LENGTH, MAX_USERNAME_LENGTH, parseText } from "./text_attribute.ts";

type Attributes = {
  -readonly [
    K in Exclude<
      keyof StunMessage,
      | "class"
      | "method"
      | "transactionId"
      | "unknownComprehensionRequired"
      | "malformedAttribute"
      | "hasIntegrity"
      | "verifyIntegrity"
      | "verifyFingerprint"
    >
  ]: StunMessage[K];
};

interface Scan {
  readonly attributes: Attributes;
  readonly unknown: number[];
  malformed: number | undefined;
  /** Where MESSAGE-INTEGRITY begins; -1 without. */
  integrityAt: number;
  /** Where FINGERPRINT begins; -1 without. */
  fingerprintAt: number;
}

/**
 * A message; made by {@link parseStunMessage}, immutable. Of several attributes with one type the
 * first counts.
 */
export class StunMessage {
  /** Request, indication or one of the two kinds of response. */
  readonly class: StunClass;
  /** One of `METHOD`, or a number that we do not know, up to 0xff. */
  readonly method: number;
  /** 24 hex characters. */
  readonly transactionId: string;
  /** USERNAME. */
  readonly username: string | undefined;
  /** REALM. */
  readonly realm: string | undefined;
  /** NONCE. */
  readonly nonce: string | undefined;
  /** SOFTWARE. */
  readonly software: string | undefined;
  /** ERROR-CODE. */
  readonly errorCode: StunError | undefined;
  /** XOR-MAPPED-ADDRESS: the sender of the request, as the receiver saw it. */
  readonly mappedAddress: SocketAddress | undefined;
  /** XOR-PEER-ADDRESS. */
  readonly peerAddress: SocketAddress | undefined;
  /** XOR-RELAYED-ADDRESS, the first of each family. */
  readonly relayedAddresses: readonly SocketAddress[];
  /** LIFETIME, up to 2^32 - 1. */
  readonly lifetimeSeconds: number | undefined;
  /** CHANNEL-NUMBER, 0x4000 to 0x7fff; those above 0x4fff belong to RFC 5766 alone. */
  readonly channelNumber: number | undefined;
  /** EVEN-PORT: whether the next higher port is to be reserved as well. */
  readonly evenPort: "even" | "even-and-next" | undefined;
  /** REQUESTED-TRANSPORT, a protocol number; 17 is UDP. */
  readonly requestedTransport: number | undefined;
  /** REQUESTED-ADDRESS-FAMILY. */
  readonly requestedAddressFamily: Family | undefined;
  /** ADDITIONAL-ADDRESS-FAMILY. */
  readonly additionalAddressFamily: Family | undefined;
  /** PRIORITY of the candidate that the sender would learn. */
  readonly priority: number | undefined;
  /** Whether USE-CANDIDATE is there. */
  readonly useCandidate: boolean;
  /** Tie-breaker of a sender in the controlling role. */
  readonly iceControlling: bigint | undefined;
  /** Tie-breaker of a sender in the controlled role. */
  readonly iceControlled: bigint | undefined;
  /** Types of attributes that we would have to understand but do not, in order, without repeats. */
  readonly unknownComprehensionRequired: readonly number[];
  /** Type of the first attribute whose value did not decode. */
  readonly malformedAttribute: number | undefined;
  readonly #bytes: Uint8Array;
  readonly #integrityAt: number;
  readonly #fingerprintAt: number;

  /** Decodes a whole message that is known to be framed well; use {@link parseStunMessage}.
   * @param bytes kept, so it must not change any more */
  constructor(bytes: Uint8Array) {
    const type = readU16(bytes, 0);
    this.class = classOf(type);
    this.method = methodOf(type);
    this.transactionId = hex(bytes.subarray(8, HEADER_LENGTH));
    const { attributes, unknown, malformed, integrityAt, fingerprintAt } = scan(bytes);
    this.username = attributes.username;
    this.realm = attributes.realm;
    this.nonce = attributes.nonce;
    this.software = attributes.software;
    this.errorCode = attributes.errorCode;
    this.mappedAddress = attributes.mappedAddress;
    this.peerAddress = attributes.peerAddress;
    this.relayedAddresses = attributes.relayedAddresses;
    this.lifetimeSeconds = attributes.lifetimeSeconds;
    this.channelNumber = attributes.channelNumber;
    this.evenPort = attributes.evenPort;
    this.requestedTransport = attributes.requestedTransport;
    this.requestedAddressFamily = attributes.requestedAddressFamily;
    this.additionalAddressFamily = attributes.additionalAddressFamily;
    this.priority = attributes.priority;
    this.useCandidate = attributes.useCandidate;
    this.iceControlling = attributes.iceControlling;
    this.iceControlled = attributes.iceControlled;
    this.unknownComprehensionRequired = unknown;
    this.malformedAttribute = malformed;
    this.#bytes = bytes;
    this.#integrityAt = integrityAt;
    this.#fingerprintAt = fingerprintAt;
  }

  /** Whether a MESSAGE-INTEGRITY of the right length is there, not whether it is right. */
  get hasIntegrity(): boolean {
    return this.#integrityAt >= 0;
  }

  /** Whether MESSAGE-INTEGRITY is there and was made with `key`; the time taken tells nothing. */
  verifyIntegrity(key: Uint8Array): boolean {
    return this.#integrityAt >= 0 && verifyIntegrityAt(this.#bytes, this.#integrityAt, key);
  }

  /** Whether FINGERPRINT is right; `undefined` without one. */
  verifyFingerprint(): boolean | undefined {
    return this.#fingerprintAt < 0 ? undefined : verifyFingerprintAt(
      this.#bytes,
      this.#fingerprintAt,
    );
  }
}

/**
 * Parses the datagram `buf[start, end)`, whatever its bytes; never throws.
 *
 * @param buf borrowed for this call only
 * @returns `undefined` when it is not exactly one STUN message, or its attributes do not fit together
 */
export function parseStunMessage(
  buf: Uint8Array,
  start: number,
  end: number,
): StunMessage | undefined {
  if (!looksLikeStun(buf, start, end)) return undefined;
  if (!attributesFit(buf, start + HEADER_LENGTH, end)) return undefined;
  return new StunMessage(buf.slice(start, end));
}

function scan(bytes: Uint8Array): Scan {
  const found: Scan = {
    attributes: noAttributes(),
    unknown: [],
    malformed: undefined,
    integrityAt: -1,
    fingerprintAt: -1,
  };
  const seen = new Set<number>();
  let at = HEADER_LENGTH;
  // Nothing counts after FINGERPRINT, and nothing else after MESSAGE-INTEGRITY (§14.5).
  while (at < bytes.length && found.fingerprintAt < 0) {
    const type = readU16(bytes, at);
    const start = at + ATTRIBUTE_HEADER_LENGTH;
    const end = start + readU16(bytes, at + 2);
    const isProtected = !seen.has(ATTRIBUTE.messageIntegrity);
    if (type === ATTRIBUTE.fingerprint || isProtected) {
      const isRepeat = seen.has(type) && type !== ATTRIBUTE.xorRelayedAddress;
      if (!isRepeat && !decode(found, bytes, type, at, start, end)) found.malformed ??= type;
      seen.add(type);
    }
    at = start + padded(end - start);
  }
  return found;
}

/** Takes the attribute at `at`, whose value is `bytes[start, end)`; false when it makes no sense. */
function decode(
  found: Scan,
  bytes: Uint8Array,
  type: number,
  at: number,
  start: number,
  end: number,
): boolean {
  const a = found.attributes;
  switch (type) {
    case ATTRIBUTE.username:
      return (a.username = parseText(bytes, start, end, MAX_USERNAME_LENGTH)) !== undefined;
    case ATTRIBUTE.realm:
      return (a.realm = parseText(bytes, start, end, MAX_TEXT_LENGTH)) !== undefined;
    case ATTRIBUTE.nonce:
      return (a.nonce = parseText(bytes, start, end, MAX_TEXT_LENGTH)) !== undefined;
    case ATTRIBUTE.software:
      return (a.software = parseText(bytes, start, end, MAX_TEXT_LENGTH)) !== undefined;
    case ATTRIBUTE.errorCode:
      return (a.errorCode = parseErrorCode(bytes, start, end)) !== undefined;
    case ATTRIBUTE.xorMappedAddress:
      return (a.mappedAddress = parseXorAddress(bytes, start, end)) !== undefined;
    case ATTRIBUTE.xorPeerAddress:
      return (a.peerAddress = parseXorAddress(bytes, start, end)) !== undefined;
    case ATTRIBUTE.xorRelayedAddress: {
      const address = parseXorAddress(bytes, start, end);
      if (address === undefined) return false;
      if (a.relayedAddresses.every((other) => other.family !== address.family)) {
        a.relayedAddresses = [...a.relayedAddresses, address];
      }
      return true;
    }
    case ATTRIBUTE.lifetime:
      return (a.lifetimeSeconds = parseU32(bytes, start, end)) !== undefined;
    case ATTRIBUTE.channelNumber:
      return (a.channelNumber = parseChannelNumber(bytes, start, end)) !== undefined;
    case ATTRIBUTE.evenPort:
      if (end - start !== 1) return false;
      a.evenPort = (bytes[start]! & 0x80) === 0 ? "even" : "even-and-next";
      return true;
    case ATTRIBUTE.requestedTransport:
      return (a.requestedTransport = parseFirstByte(bytes, start, end)) !== undefined;
    case ATTRIBUTE.requestedAddressFamily:
      return (a.requestedAddressFamily = parseFamily(bytes, start, end)) !== undefined;
    case ATTRIBUTE.additionalAddressFamily:
      return (a.additionalAddressFamily = parseFamily(bytes, start, end)) !== undefined;
    case ATTRIBUTE.draftAdditionalAddressFamily:
      a.additionalAddressFamily ??= parseFamily(bytes, start, end);
      return true; // whatever it holds: it may be ignored
    case ATTRIBUTE.priority:
      return (a.priority = parseU32(bytes, start, end)) !== undefined;
    case ATTRIBUTE.useCandidate:
      return a.useCandidate = end === start;
    case ATTRIBUTE.iceControlling:
      return (a.iceControlling = parseU64(bytes, start, end)) !== undefined;
    case ATTRIBUTE.iceControlled:
      return (a.iceControlled = parseU64(bytes, start, end)) !== undefined;
    case ATTRIBUTE.messageIntegrity:
      if (end - start !== INTEGRITY_LENGTH) return false;
      found.integrityAt = at;
      return true;
    case ATTRIBUTE.fingerprint:
      if (end - start !== 4) return false;
      found.fingerprintAt = at;
      return true;
    default:
      if (isUnknownComprehensionRequired(type)) found.unknown.push(type);
      return true;
  }
}

function parseErrorCode(bytes: Uint8Array, start: number, end: number): StunError | undefined {
  if (end - start < 4) return undefined;
  const hundreds = bytes[start + 2]! & 7;
  const rest = bytes[start + 3]!;
  const reason = parseText(bytes, start + 4, end, MAX_TEXT_LENGTH);
  if (hundreds < 3 || hundreds > 6 || rest > 99 || reason === undefined) return undefined;
  return { code: hundreds * 100 + rest, reason };
}

function parseU32(bytes: Uint8Array, start: number, end: number): number | undefined {
  return end - start === 4 ? readU32(bytes, start) : undefined;
}

function parseU64(bytes: Uint8Array, start: number, end: number): bigint | undefined {
  if (end - start !== 8) return undefined;
  return BigInt(readU32(bytes, start)) << 32n | BigInt(readU32(bytes, start + 4));
}

function parseChannelNumber(bytes: Uint8Array, start: number, end: number): number | undefined {
  const number = end - start === 4 ? readU16(bytes, start) : 0;
  return number >= 0x4000 && number <= 0x7fff ? number : undefined;
}

function parseFirstByte(bytes: Uint8Array, start: number, end: number): number | undefined {
  return end - start === 4 ? bytes[start] : undefined;
}

function parseFamily(bytes: Uint8Array, start: number, end: number): Family | undefined {
  return end - start === 4 ? toFamily(bytes[start]!) : undefined;
}

function noAttributes(): Attributes {
  return {
    username: undefined,
    realm: undefined,
    nonce: undefined,
    software: undefined,
    errorCode: undefined,
    mappedAddress: undefined,
    peerAddress: undefined,
    relayedAddresses: [],
    lifetimeSeconds: undefined,
    channelNumber: undefined,
    evenPort: undefined,
    requestedTransport: undefined,
    requestedAddressFamily: undefined,
    additionalAddressFamily: undefined,
    priority: undefined,
    useCandidate: false,
    iceControlling: undefined,
    iceControlled: undefined,
  };
}
