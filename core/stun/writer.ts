/**
 * Writes STUN messages: attributes in the order of the calls, then integrity and fingerprint.
 *
 * Spec: RFC 8489 §5 and §14. Padding is zero.
 * Cost: allocates; meant for the control path alone.
 * @module
 */

import { fromHex, utf8, writeU16, writeU32 } from "../bytes/mod.ts";
import type { Family, SocketAddress } from "../ip/address.ts";
import { addressValueLength, familyNumber, writeXorAddress } from "./address_attribute.ts";
import { ATTRIBUTE, ATTRIBUTE_HEADER_LENGTH, padded } from "./attributes.ts";
import { errorReason } from "./error_code.ts";
import { computeFingerprint } from "./fingerprint.ts";
import {
  HEADER_LENGTH,
  MAGIC_COOKIE,
  messageType,
  type StunClass,
  TRANSACTION_ID_LENGTH,
} from "./header.ts";
import { computeIntegrity, INTEGRITY_LENGTH } from "./integrity.ts";

/** What {@link StunWriter.finish} appends. */
export interface StunFinish {
  /** Key for MESSAGE-INTEGRITY; without one there is none. */
  readonly integrityKey?: Uint8Array | undefined;
  /** Whether FINGERPRINT comes last. */
  readonly fingerprint?: boolean | undefined;
}

/** Builds one message; every method but {@link finish} returns the writer itself. */
export class StunWriter {
  /** Of the message. */
  readonly method: number;
  #bytes = new Uint8Array(256);
  #length = HEADER_LENGTH;

  /** Begins a message. @throws RangeError when `transactionId` is not 24 hex characters */
  constructor(cls: StunClass, method: number, transactionId: string) {
    const id = fromHex(transactionId);
    if (id?.length !== TRANSACTION_ID_LENGTH) {
      throw new RangeError(`Not a transaction id: ${JSON.stringify(transactionId)}`);
    }
    this.method = method;
    writeU16(this.#bytes, 0, messageType(cls, method));
    writeU32(this.#bytes, 4, MAGIC_COOKIE);
    this.#bytes.set(id, 8);
  }

  /** Appends USERNAME. */
  username(text: string): this {
    return this.#text(ATTRIBUTE.username, text);
  }

  /** Appends REALM. */
  realm(text: string): this {
    return this.#text(ATTRIBUTE.realm, text);
  }

  /** Appends NONCE. */
  nonce(text: string): this {
    return this.#text(ATTRIBUTE.nonce, text);
  }

  /** Appends SOFTWARE. */
  software(text: string): this {
    return this.#text(ATTRIBUTE.software, text);
  }

  /** Appends ERROR-CODE. @param code 300 to 699 */
  errorCode(code: number, reason: string = errorReason(code)): this {
    const text = utf8(reason);
    const at = this.#append(ATTRIBUTE.errorCode, 4 + text.length);
    this.#bytes[at + 2] = Math.trunc(code / 100);
    this.#bytes[at + 3] = code % 100;
    this.#bytes.set(text, at + 4);
    return this;
  }

  /** Appends XOR-MAPPED-ADDRESS. */
  mappedAddress(address: SocketAddress): this {
    return this.#address(ATTRIBUTE.xorMappedAddress, address);
  }

  /** Appends XOR-PEER-ADDRESS. */
  peerAddress(address: SocketAddress): this {
    return this.#address(ATTRIBUTE.xorPeerAddress, address);
  }

  /** Appends XOR-RELAYED-ADDRESS; may be called once per family. */
  relayedAddress(address: SocketAddress): this {
    return this.#address(ATTRIBUTE.xorRelayedAddress, address);
  }

  /** Appends LIFETIME. */
  lifetime(seconds: number): this {
    return this.#u32(ATTRIBUTE.lifetime, seconds);
  }

  /** Appends CHANNEL-NUMBER. */
  channelNumber(number: number): this {
    return this.#u32(ATTRIBUTE.channelNumber, number * 0x10000);
  }

  /** Appends REQUESTED-TRANSPORT. @param protocol 17 for UDP */
  requestedTransport(protocol: number): this {
    return this.#u32(ATTRIBUTE.requestedTransport, protocol * 0x1000000);
  }

  /** Appends REQUESTED-ADDRESS-FAMILY. */
  requestedAddressFamily(family: Family): this {
    return this.#u32(ATTRIBUTE.requestedAddressFamily, familyNumber(family) * 0x1000000);
  }

  /** Appends ADDITIONAL-ADDRESS-FAMILY. */
  additionalAddressFamily(family: Family): this {
    return this.#u32(ATTRIBUTE.additionalAddressFamily, familyNumber(family) * 0x1000000);
  }

  /** Appends PRIORITY. */
  priority(priority: number): this {
    return this.#u32(ATTRIBUTE.priority, priority);
  }

  /** Appends USE-CANDIDATE. */
  useCandidate(): this {
    this.#append(ATTRIBUTE.useCandidate, 0);
    return this;
  }

  /** Appends ICE-CONTROLLING. @param tieBreaker 64 bits */
  iceControlling(tieBreaker: bigint): this {
    return this.#u64(ATTRIBUTE.iceControlling, tieBreaker);
  }

  /** Appends ICE-CONTROLLED. @param tieBreaker 64 bits */
  iceControlled(tieBreaker: bigint): this {
    return this.#u64(ATTRIBUTE.iceControlled, tieBreaker);
  }

  /** Appends UNKNOWN-ATTRIBUTES, which belongs to an error 420. */
  unknownAttributes(types: readonly number[]): this {
    const at = this.#append(ATTRIBUTE.unknownAttributes, 2 * types.length);
    for (const [i, type] of types.entries()) writeU16(this.#bytes, at + 2 * i, type);
    return this;
  }

  /**
   * Completes the message and returns its bytes, which are the caller's. Call it once.
   *
   * @throws RangeError when the attributes exceed what the length field can say
   */
  finish(options: StunFinish = {}): Uint8Array {
    if (options.integrityKey) {
      const offset = this.#length;
      const value = computeIntegrity(this.#bytes, offset, options.integrityKey);
      const at = this.#append(ATTRIBUTE.messageIntegrity, INTEGRITY_LENGTH); // may move the bytes
      this.#bytes.set(value, at);
    }
    const offset = this.#length;
    const valueAt = options.fingerprint ? this.#append(ATTRIBUTE.fingerprint, 4) : undefined;
    const length = this.#length - HEADER_LENGTH;
    if (length > 0xffff) throw new RangeError(`A STUN message cannot hold ${length} bytes`);
    writeU16(this.#bytes, 2, length);
    if (valueAt !== undefined) {
      writeU32(this.#bytes, valueAt, computeFingerprint(this.#bytes, offset));
    }
    return this.#bytes.slice(0, this.#length);
  }

  /** Makes room for a zeroed value and returns where it begins. */
  #append(type: number, length: number): number {
    if (length > 0xffff) throw new RangeError(`An attribute cannot hold ${length} bytes`);
    const value = this.#length + ATTRIBUTE_HEADER_LENGTH;
    const end = value + padded(length);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(2 * end);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    writeU16(this.#bytes, this.#length, type);
    writeU16(this.#bytes, this.#length + 2, length);
    this.#length = end;
    return value;
  }

  #text(type: number, text: string): this {
    const bytes = utf8(text);
    const at = this.#append(type, bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  #address(type: number, address: SocketAddress): this {
    const at = this.#append(type, addressValueLength(address.family));
    writeXorAddress(this.#bytes, at, address);
    return this;
  }

  #u32(type: number, value: number): this {
    const at = this.#append(type, 4);
    writeU32(this.#bytes, at, value);
    return this;
  }

  #u64(type: number, value: bigint): this {
    const at = this.#append(type, 8);
    writeU32(this.#bytes, at, Number(value >> 32n & 0xffffffffn));
    writeU32(this.#bytes, at + 4, Number(value & 0xffffffffn));
    return this;
  }
}
