/**
 * STUN messages attribute by attribute, right or wrong on purpose, made without the code under test.
 * @module
 */

import fc from "fast-check";
import { createHmac } from "node:crypto";

/** An attribute as it stands in the message. */
export interface RawAttribute {
  /** Number of the attribute. */
  readonly type: number;
  /** Its value, without padding. */
  readonly value: Uint8Array;
}

/** How a message is finished. */
export interface RawFinish {
  /** Key of MESSAGE-INTEGRITY; none if absent. */
  readonly key?: Uint8Array | undefined;
  /** Of FINGERPRINT. */
  readonly fingerprint?: "right" | "wrong" | undefined;
}

const MAGIC = 0x2112a442;

/** Attribute numbers (RFC 8489 §18.3, RFC 8656 §18). */
export const TYPE = {
  username: 0x0006,
  integrity: 0x0008,
  channelNumber: 0x000c,
  lifetime: 0x000d,
  peerAddress: 0x0012,
  realm: 0x0014,
  nonce: 0x0015,
  requestedFamily: 0x0017,
  evenPort: 0x0018,
  requestedTransport: 0x0019,
  dontFragment: 0x001a,
  mappedAddress: 0x0020,
  reservationToken: 0x0022,
  priority: 0x0024,
  useCandidate: 0x0025,
  additionalFamily: 0x8000,
  software: 0x8022,
  fingerprint: 0x8028,
  iceControlled: 0x8029,
  iceControlling: 0x802a,
} as const;

/** Writes a message. @param type the first two bytes: class and method @param id twelve bytes */
export function rawStun(
  type: number,
  id: Uint8Array,
  attributes: readonly RawAttribute[],
  finish: RawFinish = {},
): Uint8Array {
  let bytes = new Uint8Array(20);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, type);
  view.setUint32(4, MAGIC);
  bytes.set(id, 8);
  for (const attribute of attributes) bytes = append(bytes, attribute);
  if (finish.key !== undefined) {
    const covered = withLength(bytes, bytes.length + 24 - 20);
    const value = createHmac("sha1", finish.key).update(covered).digest();
    bytes = append(bytes, { type: TYPE.integrity, value });
  }
  if (finish.fingerprint !== undefined) {
    const value = new Uint8Array(4);
    const crc = crc32(withLength(bytes, bytes.length + 8 - 20)) ^ 0x5354554e;
    new DataView(value.buffer).setUint32(0, finish.fingerprint === "right" ? crc : ~crc);
    bytes = append(bytes, { type: TYPE.fingerprint, value });
  }
  return withLength(bytes, bytes.length - 20);
}

/** A value of four bytes. */
export function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** The value of an XOR-…-ADDRESS attribute. @param ip four or sixteen bytes */
export function xorAddress(ip: Uint8Array, port: number, id: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + ip.length);
  const view = new DataView(bytes.buffer);
  bytes[1] = ip.length === 4 ? 1 : 2;
  view.setUint16(2, port ^ MAGIC >>> 16);
  const mask = new Uint8Array([...u32(MAGIC), ...id]);
  for (const [i, byte] of ip.entries()) bytes[4 + i] = byte ^ mask[i]!;
  return bytes;
}

/** Damage that is done to a datagram. */
export type Damage =
  | { readonly tag: "set"; readonly at: number; readonly byte: number }
  | { readonly tag: "cut"; readonly at: number }
  | { readonly tag: "append"; readonly bytes: Uint8Array };

/** A little damage, mostly none. */
export const damages: fc.Arbitrary<readonly Damage[]> = fc.oneof(
  { weight: 6, arbitrary: fc.constant([]) },
  {
    weight: 1,
    arbitrary: fc.array(
      fc.oneof(
        fc.record({ tag: fc.constant("set" as const), at: fc.nat(200), byte: fc.nat(255) }),
        fc.record({ tag: fc.constant("cut" as const), at: fc.nat(200) }),
        fc.record({
          tag: fc.constant("append" as const),
          bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }),
        }),
      ),
      { minLength: 1, maxLength: 3 },
    ),
  },
);

/** Does it. Positions past the end count from the beginning again. */
export function damage(bytes: Uint8Array, list: readonly Damage[]): Uint8Array {
  let damaged = bytes.slice();
  for (const step of list) {
    switch (step.tag) {
      case "set":
        if (damaged.length > 0) damaged[step.at % damaged.length] = step.byte;
        break;
      case "cut":
        damaged = damaged.slice(0, step.at % (damaged.length + 1));
        break;
      case "append":
        damaged = new Uint8Array([...damaged, ...step.bytes]);
    }
  }
  return damaged;
}

/** An attribute of a known or unknown type with any value. */
export const wildAttribute: fc.Arbitrary<RawAttribute> = fc.record({
  type: fc.oneof(fc.constantFrom(...Object.values(TYPE)), fc.nat(0xffff)),
  value: fc.oneof(
    fc.uint8Array({ maxLength: 24 }),
    fc.constantFrom(4, 8, 20).chain((length) =>
      fc.uint8Array({ minLength: length, maxLength: length })
    ),
  ),
});

function append(bytes: Uint8Array, { type, value }: RawAttribute): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(bytes.length + 4 + (value.length + 3 & ~3));
  longer.set(bytes);
  const view = new DataView(longer.buffer);
  view.setUint16(bytes.length, type);
  view.setUint16(bytes.length + 2, value.length);
  longer.set(value, bytes.length + 4);
  return longer;
}

function withLength(bytes: Uint8Array, length: number): Uint8Array {
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint16(2, length);
  return copy;
}

/** CRC-32 of ITU-T V.42, bit by bit. */
function crc32(bytes: Uint8Array): number {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = crc >>> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc;
}
