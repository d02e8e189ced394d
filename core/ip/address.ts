/**
 * IP addresses, socket addresses and prefixes as values.
 *
 * Objects here are immutable and compared by their text (`text`, `key`), which is canonical: dotted
 * quad for IPv4, RFC 5952 for IPv6. IPv4-mapped IPv6 addresses are not folded into IPv4.
 * On the packet path a {@link SocketAddressCache} lends the same object for the same bytes, so a
 * datagram from a known sender allocates nothing.
 * @module
 */

import { bytesEqual } from "../bytes/compare.ts";

/** IP version. */
export type Family = 4 | 6;

/** An IPv4 or IPv6 address. */
export class IpAddress {
  /** Canonical text; equal addresses have equal texts. */
  readonly text: string;

  /** Wraps raw bytes.
   * @param bytes 4 or 16 bytes in network order; kept, so it must not change any more */
  constructor(
    /** Network order; not to be changed. */
    readonly bytes: Uint8Array,
    /** Interface that a link-local address is on (RFC 4007 §11), by name or number; else empty. */
    readonly zone: string = "",
  ) {
    if (bytes.length !== 4 && bytes.length !== 16) {
      throw new RangeError(`Cannot make an IP address of ${bytes.length} bytes: expected 4 or 16`);
    }
    const text = bytes.length === 4 ? bytes.join(".") : formatIpv6(bytes);
    this.text = zone === "" ? text : `${text}%${zone}`;
  }

  /** 4 or 6. */
  get family(): Family {
    return this.bytes.length === 4 ? 4 : 6;
  }

  /** Whether both are the same address. */
  equals(other: IpAddress): boolean {
    return this === other || this.text === other.text;
  }

  /** Canonical text. */
  toString(): string {
    return this.text;
  }
}

/** A UDP or TCP endpoint. */
export class SocketAddress {
  /** `192.0.2.1:80` or `[2001:db8::1]:80`; equal endpoints have equal keys. */
  readonly key: string;

  /** Joins an address and a port, 0 to 65535. */
  constructor(
    /** The address. */
    readonly ip: IpAddress,
    /** The port in host order. */
    readonly port: number,
  ) {
    this.key = ip.family === 4 ? `${ip.text}:${port}` : `[${ip.text}]:${port}`;
  }

  /** 4 or 6. */
  get family(): Family {
    return this.ip.family;
  }

  /** Whether both are the same endpoint. */
  equals(other: SocketAddress): boolean {
    return this === other || this.key === other.key;
  }

  /** Same as {@link key}. */
  toString(): string {
    return this.key;
  }
}

/** A CIDR range; bits after `length` are zero. */
export class Prefix {
  /** `10.0.0.0/8`, `2001:db8::/32`; equal prefixes have equal texts. */
  readonly text: string;
  /** First address of the range. */
  readonly ip: IpAddress;

  /** The range that shares the first `length` bits of `ip`.
   * @param length in bits, at most 32 (IPv4) or 128 (IPv6); host bits of `ip` are cleared */
  constructor(
    ip: IpAddress,
    /** In bits. */
    readonly length: number,
  ) {
    if (!Number.isInteger(length) || length < 0 || length > ip.bytes.length * 8) {
      throw new RangeError(`Cannot make a prefix of length ${length} for ${ip}`);
    }
    this.ip = new IpAddress(maskBytes(ip.bytes, length));
    this.text = `${this.ip.text}/${length}`;
  }

  /** 4 or 6. */
  get family(): Family {
    return this.ip.family;
  }

  /** Whether the address lies in the range. */
  contains(ip: IpAddress): boolean {
    return ip.family === this.family && bytesEqual(maskBytes(ip.bytes, this.length), this.ip.bytes);
  }

  /** Same as {@link text}. */
  toString(): string {
    return this.text;
  }
}

function maskBytes(bytes: Uint8Array, length: number): Uint8Array {
  const masked = bytes.slice();
  for (let i = 0; i < masked.length; i++) {
    const keep = Math.min(8, Math.max(0, length - i * 8));
    masked[i] = masked[i]! & (0xff00 >> keep);
  }
  return masked;
}

/** Parses an address in any of its usual spellings; `undefined` for anything else. */
export function parseIpAddress(text: string): IpAddress | undefined {
  const bytes = text.includes(":") ? parseIpv6(text) : parseIpv4(text);
  return bytes && new IpAddress(bytes);
}

/** Parses `ip:port` or `[ipv6]:port` with a port of 0 to 65535; `undefined` for anything else. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  if (!match) return undefined;
  const ip = parseIpAddress(match[1] ?? match[2]!);
  const port = Number(match[3]);
  if (!ip || port > 65535 || (match[1] !== undefined) !== (ip.family === 6)) return undefined;
  return new SocketAddress(ip, port);
}

/** Parses `ip/length`, or a bare address as the prefix of itself alone. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf("/");
  const ip = parseIpAddress(slash < 0 ? text : text.slice(0, slash));
  if (!ip) return undefined;
  if (slash < 0) return new Prefix(ip, ip.bytes.length * 8);
  const length = text.slice(slash + 1);
  if (!/^\d{1,3}$/.test(length) || Number(length) > ip.bytes.length * 8) return undefined;
  return new Prefix(ip, Number(length));
}

/** An address that is known to be valid, for constants. @throws RangeError when it is not */
export function ip(text: string): IpAddress {
  return parseIpAddress(text) ?? fail("IP address", text);
}

/** An endpoint that is known to be valid, for constants. @throws RangeError when it is not */
export function socketAddress(text: string): SocketAddress {
  return parseSocketAddress(text) ?? fail("socket address", text);
}

/** A prefix that is known to be valid, for constants. @throws RangeError when it is not */
export function prefix(text: string): Prefix {
  return parsePrefix(text) ?? fail("prefix", text);
}

function fail(what: string, text: string): never {
  throw new RangeError(`Not a valid ${what}: ${JSON.stringify(text)}`);
}

/**
 * Lends one {@link SocketAddress} per distinct endpoint, found by its raw bytes without allocating.
 *
 * It is only a cache: past `capacity` entries it starts over, so that strangers cannot grow it, and
 * equality stays a matter of `equals`/`key`, never of identity.
 */
export class SocketAddressCache {
  readonly #capacity: number;
  readonly #byHash = new Map<number, SocketAddress[]>();
  #size = 0;

  /** An empty cache.
   * @param capacity distinct endpoints kept at most */
  constructor(capacity = 65_536) {
    this.#capacity = capacity;
  }

  /** The endpoint whose address starts at `buf[offset]` (4 or 16 bytes) with `port` in host order. */
  get(family: Family, buf: Uint8Array, offset: number, port: number): SocketAddress {
    const length = family === 4 ? 4 : 16;
    let hash = port;
    for (let i = 0; i < length; i++) hash = Math.imul(hash, 0x01000193) ^ buf[offset + i]!;
    const bucket = this.#byHash.get(hash);
    if (bucket !== undefined) {
      for (let i = 0; i < bucket.length; i++) {
        if (holds(bucket[i]!, length, buf, offset, port)) return bucket[i]!;
      }
    }
    return this.#add(
      hash,
      new SocketAddress(new IpAddress(buf.slice(offset, offset + length)), port),
    );
  }

  #add(hash: number, address: SocketAddress): SocketAddress {
    if (this.#size >= this.#capacity) {
      this.#byHash.clear();
      this.#size = 0;
    }
    const bucket = this.#byHash.get(hash);
    if (bucket) bucket.push(address);
    else this.#byHash.set(hash, [address]);
    this.#size++;
    return address;
  }
}

/** Whether an address is only good on one link: fe80::/10 (RFC 4291 §2.5.6). */
export function isLinkLocal({ bytes }: IpAddress): boolean {
  return bytes.length === 16 && bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80;
}

/** Whether the bytes at `buf[offset]` are this address; allocates nothing. */
export function isAddressAt(ip: IpAddress, buf: Uint8Array, offset: number): boolean {
  const bytes = ip.bytes;
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== buf[offset + i]) return false;
  return true;
}

function holds(
  address: SocketAddress,
  length: number,
  buf: Uint8Array,
  offset: number,
  port: number,
): boolean {
  return address.port === port && address.ip.bytes.length === length &&
    isAddressAt(address.ip, buf, offset);
}

function parseIpv4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    // A leading zero could mean octal to another parser: refused.
    if (!/^(0|[1-9]\d{0,2})$/.test(parts[i]!) || Number(parts[i]) > 255) return undefined;
    bytes[i] = Number(parts[i]);
  }
  return bytes;
}

function parseIpv6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1]!, true) : [];
  if (!head || !tail) return undefined;
  const missing = 16 - head.length - tail.length;
  if (halves.length === 2 ? missing < 2 : missing !== 0) return undefined;
  return new Uint8Array([...head, ...new Array(missing).fill(0), ...tail]);
}

/** The bytes of colon-separated groups; the last may be a dotted quad if `isEnd`. */
function parseGroups(text: string, isEnd: boolean): number[] | undefined {
  if (text === "") return [];
  const groups = text.split(":");
  const bytes: number[] = [];
  for (const [i, group] of groups.entries()) {
    if (isEnd && i === groups.length - 1 && group.includes(".")) {
      const quad = parseIpv4(group);
      if (!quad) return undefined;
      bytes.push(...quad);
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      const value = parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

/** RFC 5952: lowercase, the longest run of two or more zero groups (the first of equals) as `::`. */
function formatIpv6(bytes: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, i) => bytes[2 * i]! << 8 | bytes[2 * i + 1]!);
  let bestStart = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) [bestStart, bestLength] = [i, end - i];
    if (end > i) i = end;
  }
  const text = (part: number[]) => part.map((g) => g.toString(16)).join(":");
  if (bestStart < 0) return text(groups);
  return `${text(groups.slice(0, bestStart))}::${text(groups.slice(bestStart + bestLength))}`;
}
