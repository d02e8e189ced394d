/**
 * Protocol Buffers, as far as OTLP needs them.
 *
 *     | field number << 3 | wire type | value |    wire types: 0 varint, 1 eight bytes,
 *                                                  2 length and bytes, 5 four bytes
 *
 * Spec: protobuf.dev/programming-guides/encoding. Messages are written whole into memory; they are
 * small, and made once a minute.
 * @module
 */

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const encoder = new TextEncoder();

/** Writes a message, field after field. */
export class ProtobufWriter {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** An empty message. */
  constructor() {}

  /** The message so far; a view that the next write may invalidate. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Writes a bool, an enum or an integer that is not negative. */
  varint(field: number, value: number | boolean): this {
    this.#tag(field, VARINT);
    this.#varint(BigInt(value));
    return this;
  }

  /** Writes an int64, which may be negative. */
  int64(field: number, value: number): this {
    this.#tag(field, VARINT);
    this.#varint(BigInt.asUintN(64, BigInt(value)));
    return this;
  }

  /** Writes a fixed64 or, for what is negative, an sfixed64. */
  fixed64(field: number, value: bigint): this {
    this.#tag(field, FIXED64);
    this.#fixed64(value);
    return this;
  }

  /** Writes a fixed32. */
  fixed32(field: number, value: number): this {
    this.#tag(field, FIXED32);
    this.#reserve(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
    return this;
  }

  /** Writes a double. */
  double(field: number, value: number): this {
    this.#tag(field, FIXED64);
    this.#double(value);
    return this;
  }

  /** Writes a text. */
  string(field: number, value: string): this {
    return this.blob(field, encoder.encode(value));
  }

  /** Writes bytes. */
  blob(field: number, value: Uint8Array): this {
    this.#tag(field, BYTES);
    this.#varint(BigInt(value.length));
    this.#reserve(value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
    return this;
  }

  /** Writes a message inside this one. */
  message(field: number, write: (inner: ProtobufWriter) => void): this {
    const inner = new ProtobufWriter();
    write(inner);
    return this.blob(field, inner.bytes);
  }

  /** Writes a packed list of fixed64. */
  packedFixed64(field: number, values: readonly number[]): this {
    this.#tag(field, BYTES);
    this.#varint(BigInt(values.length * 8));
    for (const value of values) this.#fixed64(BigInt(value));
    return this;
  }

  /** Writes a packed list of doubles. */
  packedDouble(field: number, values: readonly number[]): this {
    this.#tag(field, BYTES);
    this.#varint(BigInt(values.length * 8));
    for (const value of values) this.#double(value);
    return this;
  }

  #tag(field: number, wireType: number): void {
    this.#varint(BigInt(field << 3 | wireType));
  }

  #varint(value: bigint): void {
    this.#reserve(10);
    let rest = value;
    for (; rest >= 0x80n; rest >>= 7n) this.#bytes[this.#length++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#length++] = Number(rest);
  }

  #fixed64(value: bigint): void {
    this.#reserve(8);
    this.#view.setBigUint64(this.#length, BigInt.asUintN(64, value), true);
    this.#length += 8;
  }

  #double(value: number): void {
    this.#reserve(8);
    this.#view.setFloat64(this.#length, value, true);
    this.#length += 8;
  }

  #reserve(length: number): void {
    if (this.#length + length <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#bytes.length * 2, this.#length + length));
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

/** A field as it was read. */
export interface ProtobufField {
  /** Its number. */
  readonly field: number;
  /** A varint or eight or four bytes as an unsigned number, anything else as bytes. */
  readonly value: bigint | Uint8Array;
}

/** Reads the fields of a message, views into `bytes`; `undefined` if it is broken. */
export function parseProtobuf(bytes: Uint8Array): ProtobufField[] | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields: ProtobufField[] = [];
  let at = 0;
  const varint = (): bigint | undefined => {
    let value = 0n;
    for (let shift = 0n; shift < 70n && at < bytes.length; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    return undefined;
  };
  while (at < bytes.length) {
    const tag = varint();
    if (tag === undefined) return undefined;
    let value: bigint | Uint8Array | undefined;
    switch (Number(tag & 7n)) {
      case VARINT:
        value = varint();
        break;
      case FIXED64:
        if (at + 8 <= bytes.length) value = view.getBigUint64(at, true);
        at += 8;
        break;
      case FIXED32:
        if (at + 4 <= bytes.length) value = BigInt(view.getUint32(at, true));
        at += 4;
        break;
      case BYTES: {
        const length = varint();
        if (length === undefined || length > BigInt(bytes.length - at)) return undefined;
        value = bytes.subarray(at, at + Number(length));
        at += Number(length);
        break;
      }
    }
    if (value === undefined) return undefined;
    fields.push({ field: Number(tag >> 3n), value });
  }
  return fields;
}
