/**
 * Socket addresses as the kernel lays them out.
 *
 *     struct sockaddr_in (netinet/in.h), 16 bytes      struct sockaddr_in6, 28 bytes
 *        0  2  sin_family  AF_INET, host order            0  2  sin6_family   AF_INET6, host order
 *        2  2  sin_port    network order                  2  2  sin6_port     network order
 *        4  4  sin_addr                                   4  4  sin6_flowinfo zero
 *        8  8  zero                                       8 16  sin6_addr
 *                                                        24  4  sin6_scope_id host order
 *
 * Link-local IPv6 addresses are carried without their scope, so nothing can be sent to them; the
 * dialer adds it.
 * Cost: a known address allocates nothing in either direction.
 * @module
 */

import { readU16, writeU16 } from "../../bytes/fields.ts";
import type { Family, SocketAddress, SocketAddressCache } from "../../ip/address.ts";

/** Address family of IPv4. */
export const AF_INET = 2;
/** Address family of IPv6. */
export const AF_INET6 = 10;
/** Room for either struct, a multiple of eight. */
export const SOCKADDR_SIZE = 32;

/** Size of the struct of a family. */
export function sockaddrLength(family: Family): number {
  return family === 4 ? 16 : 28;
}

/** Writes `address` at `offset` and returns where it ends. */
export function writeSockaddr(buf: Uint8Array, offset: number, address: SocketAddress): number {
  const bytes = address.ip.bytes;
  if (bytes.length === 4) {
    buf[offset] = AF_INET;
    buf[offset + 1] = 0;
    writeU16(buf, offset + 2, address.port);
    for (let i = 0; i < 4; i++) buf[offset + 4 + i] = bytes[i]!;
    buf.fill(0, offset + 8, offset + 16);
    return offset + 16;
  }
  buf[offset] = AF_INET6;
  buf[offset + 1] = 0;
  writeU16(buf, offset + 2, address.port);
  for (let i = 0; i < 4; i++) buf[offset + 4 + i] = 0;
  for (let i = 0; i < 16; i++) buf[offset + 8 + i] = bytes[i]!;
  for (let i = 0; i < 4; i++) buf[offset + 24 + i] = 0;
  return offset + 28;
}

/** The address that a struct of `family` at `offset` holds. */
export function readSockaddr(
  cache: SocketAddressCache,
  family: Family,
  buf: Uint8Array,
  offset: number,
): SocketAddress {
  const port = readU16(buf, offset + 2);
  return cache.get(family, buf, offset + (family === 4 ? 4 : 8), port);
}
