/**
 * Netlink messages: the framing that rtnetlink and nf_tables share.
 *
 *     struct nlmsghdr (linux/netlink.h), 16 bytes      struct nlattr, 4 bytes, then the value
 *        0  4  nlmsg_len    header and body               0  2  nla_len   header and value
 *        4  2  nlmsg_type                                 2  2  nla_type  0x8000: holds attributes
 *        6  2  nlmsg_flags
 *        8  4  nlmsg_seq    answers repeat it          messages and attributes begin at multiples
 *       12  4  nlmsg_pid                               of four; numbers are in host order
 *
 * Owns: the framing. Does not own: the socket, see `netlink_socket.ts`, nor what types mean.
 * @module
 */

import { readU16le, readU32le, writeU16le, writeU32le } from "../../bytes/fields.ts";

/** Flags of `nlmsg_flags`. */
export const NLM_F = {
  REQUEST: 0x001,
  ACK: 0x004,
  /** Set by the kernel: the dump raced with a change. */
  DUMP_INTR: 0x010,
  DUMP: 0x300,
  /** With NEW: replace what exists. */
  REPLACE: 0x100,
  /** With NEW: refuse when it exists. */
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
} as const;

/** Message types below those of the protocols. */
export const NLMSG = { ERROR: 2, DONE: 3 } as const;

const HEADER_SIZE = 16;
const ATTRIBUTE_HEADER_SIZE = 4;
const NLA_F_NESTED = 0x8000;
const NLA_TYPE_MASK = 0x3fff;

/** Writes messages one after the other into a buffer that grows. */
export class NetlinkWriter {
  #bytes = new Uint8Array(1024);
  #length = 0;
  #messageStart = 0;
  readonly #nests: number[] = [];

  /** Starts a message; the previous one ends here. */
  begin(type: number, flags: number, sequence: number): this {
    this.#close();
    this.#messageStart = this.#length;
    const at = this.#grow(HEADER_SIZE);
    writeU16le(this.#bytes, at + 4, type);
    writeU16le(this.#bytes, at + 6, flags);
    writeU32le(this.#bytes, at + 8, sequence);
    return this;
  }

  /** Appends the protocol's fixed header. */
  header(bytes: Uint8Array): this {
    this.#put(bytes);
    return this;
  }

  /** Appends an attribute with a value as it stands. */
  attribute(type: number, value: Uint8Array): this {
    const at = this.#grow(ATTRIBUTE_HEADER_SIZE);
    writeU16le(this.#bytes, at, ATTRIBUTE_HEADER_SIZE + value.length);
    writeU16le(this.#bytes, at + 2, type);
    this.#put(value);
    return this;
  }

  /** Appends a one-byte number. */
  u8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }

  /** Appends a number in host order. */
  u32(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    writeU32le(bytes, 0, value);
    return this.attribute(type, bytes);
  }

  /** Appends a number in network order, as netfilter wants them. */
  u32be(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value);
    return this.attribute(type, bytes);
  }

  /** Appends text with its final NUL. */
  text(type: number, value: string): this {
    return this.attribute(type, new TextEncoder().encode(`${value}\0`));
  }

  /** Appends an attribute that holds what `fill` writes. */
  nest(type: number, fill: (writer: this) => void): this {
    const at = this.#grow(ATTRIBUTE_HEADER_SIZE);
    writeU16le(this.#bytes, at + 2, type | NLA_F_NESTED);
    this.#nests.push(at);
    fill(this);
    this.#nests.pop();
    writeU16le(this.#bytes, at, this.#length - at);
    return this;
  }

  /** Everything written; valid until the next write. */
  finish(): Uint8Array<ArrayBuffer> {
    this.#close();
    return this.#bytes.subarray(0, this.#length);
  }

  #close(): void {
    if (this.#nests.length > 0) throw new Error("A netlink message ended inside a nest");
    if (this.#length > this.#messageStart) {
      writeU32le(this.#bytes, this.#messageStart, this.#length - this.#messageStart);
    }
    this.#messageStart = this.#length;
  }

  #put(bytes: Uint8Array): void {
    const at = this.#grow((bytes.length + 3) & ~3);
    this.#bytes.set(bytes, at);
  }

  /** Appends zeroes and returns where they start. */
  #grow(size: number): number {
    const at = this.#length;
    this.#length += size;
    if (this.#length > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(this.#length, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    return at;
  }
}

/** A received message; `body` follows the header and is a copy. */
export interface NetlinkMessage {
  /** Protocol's message type, or one of {@link NLMSG}. */
  readonly type: number;
  /** Bits of {@link NLM_F}. */
  readonly flags: number;
  /** Sequence number of the request that it answers. */
  readonly sequence: number;
  /** Fixed header and attributes. */
  readonly body: Uint8Array;
}

/** The messages in a received buffer; what is cut off at the end is left out. Never throws. */
export function parseNetlinkMessages(buf: Uint8Array): NetlinkMessage[] {
  const messages: NetlinkMessage[] = [];
  for (let at = 0; at + HEADER_SIZE <= buf.length;) {
    const length = readU32le(buf, at);
    if (length < HEADER_SIZE || at + length > buf.length) break;
    messages.push({
      type: readU16le(buf, at + 4),
      flags: readU16le(buf, at + 6),
      sequence: readU32le(buf, at + 8),
      body: buf.slice(at + HEADER_SIZE, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** Attributes by type, from `offset` on; of repeated ones the last. Never throws. */
export function parseAttributes(buf: Uint8Array, offset: number): Map<number, Uint8Array> {
  const attributes = new Map<number, Uint8Array>();
  for (let at = offset; at + ATTRIBUTE_HEADER_SIZE <= buf.length;) {
    const length = readU16le(buf, at);
    if (length < ATTRIBUTE_HEADER_SIZE || at + length > buf.length) break;
    const type = readU16le(buf, at + 2) & NLA_TYPE_MASK;
    attributes.set(type, buf.subarray(at + ATTRIBUTE_HEADER_SIZE, at + length));
    at += (length + 3) & ~3;
  }
  return attributes;
}

/** A number of one to four bytes in host order; undefined when it is absent. */
export function attributeNumber(value: Uint8Array | undefined): number | undefined {
  if (value === undefined || value.length === 0) return undefined;
  if (value.length >= 4) return readU32le(value, 0);
  return value.length >= 2 ? readU16le(value, 0) : value[0];
}

/** Text up to its NUL; undefined when it is absent. */
export function attributeText(value: Uint8Array | undefined): string | undefined {
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
}
