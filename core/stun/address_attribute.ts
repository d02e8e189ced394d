/**
 * The value of XOR-MAPPED-ADDRESS and its kin: an endpoint, obscured so that NATs leave it alone.
 *
 *     0      1        2      4
 *     | zero | family | port | address |   port ^ top of the cookie, address ^ cookie and id
 *
 * Spec: RFC 8489 §14.2.
 * @module
 */

import { readU16, writeU16 } from "../bytes/mod.ts";
import { type Family, IpAddress, SocketAddress } from "../ip/address.ts";

const FAMILY_IPV4 = 1;
const FAMILY_IPV6 = 2;

/** The family with this number in STUN's attributes. */
export function toFamily(n: number): Family | undefined {
  return n === FAMILY_IPV4 ? 4 : n === FAMILY_IPV6 ? 6 : undefined;
}

/** The number of a family in STUN's attributes. */
export function familyNumber(family: Family): number {
  return family === 4 ? FAMILY_IPV4 : FAMILY_IPV6;
}

/** Length of the value that holds an address of this family. */
export function addressValueLength(family: Family): number {
  return family === 4 ? 8 : 20;
}

/**
 * Reads the value `message[start, end)`; `undefined` when it is not one.
 *
 * @param message a whole message, whose cookie and transaction id undo the exclusive-or
 */
export function parseXorAddress(
  message: Uint8Array,
  start: number,
  end: number,
): SocketAddress | undefined {
  if (end - start < 4) return undefined;
  const family = toFamily(message[start + 1]!);
  if (family === undefined || end - start !== addressValueLength(family)) return undefined;
  const bytes = new Uint8Array(end - start - 4);
  for (let i = 0; i < bytes.length; i++) bytes[i] = message[start + 4 + i]! ^ message[4 + i]!;
  const port = readU16(message, start + 2) ^ readU16(message, 4);
  return new SocketAddress(new IpAddress(bytes), port);
}

/** Writes the value at `message[offset]`; cookie and transaction id are already in their places. */
export function writeXorAddress(
  message: Uint8Array,
  offset: number,
  address: SocketAddress,
): void {
  const bytes = address.ip.bytes;
  message[offset] = 0;
  message[offset + 1] = familyNumber(address.family);
  writeU16(message, offset + 2, address.port ^ readU16(message, 4));
  for (let i = 0; i < bytes.length; i++) message[offset + 4 + i] = bytes[i]! ^ message[4 + i]!;
}
