/**
 * D-Bus messages, as much of them as it takes to subscribe to signals.
 *
 *     0 endianness  1 type  2 flags  3 version  4 body length  8 serial  12 header fields
 *     header fields: array of (byte code, variant value), padded to 8; then the body
 *
 * Spec: D-Bus Specification, "Message Protocol" and "Marshaling".
 * Does not own: the connection, see `core/runtime/bus_signals.ts`.
 * @module
 */

const LITTLE_ENDIAN = 0x6c; // "l"
const BIG_ENDIAN = 0x42; // "B"
const FIELD = {
  path: 1,
  interface: 2,
  member: 3,
  destination: 6,
  sender: 7,
  signature: 8,
} as const;
const FIXED_HEADER = 16;
/** The specification's limit is 128 MiB; what we subscribe to is far below this. */
const MAX_MESSAGE = 1 << 20;
const MAX_NESTING = 64;

/** Types of messages. */
export const DBUS = { methodCall: 1, methodReturn: 2, error: 3, signal: 4 } as const;

/** What a message says, without its body. */
export interface DbusMessage {
  /** One of {@link DBUS}. */
  readonly type: number;
  /** Path of the object that it comes from. */
  readonly path: string;
  /** Interface of {@link member}. */
  readonly interface: string;
  /** Name of the method or signal. */
  readonly member: string;
  /** For `PropertiesChanged`: names of the properties; otherwise empty. */
  readonly changed: readonly string[];
}

/** What {@link takeMessage} found at the start of some bytes. */
export type Taken =
  /** More bytes are needed. */
  | { readonly tag: "incomplete" }
  /** This is no D-Bus, or none that we would be sent. */
  | { readonly tag: "malformed" }
  | { readonly tag: "message"; readonly length: number; readonly message: DbusMessage };

/** A method call or signal whose arguments are texts. */
export interface OutgoingDbusMessage {
  /** One of {@link DBUS}. */
  readonly type: number;
  /** Object. */
  readonly path: string;
  /** Interface of {@link member}. */
  readonly interface: string;
  /** Method or signal. */
  readonly member: string;
  /** Who it is for; undefined for signals. */
  readonly destination?: string;
  /** Signature of the body. */
  readonly signature: string;
  /** Writes the body, which begins at a multiple of eight. */
  readonly body: (writer: DbusWriter) => void;
}

/** Appends values with their alignment, little-endian. */
export class DbusWriter {
  readonly #bytes: number[] = [];

  /** Everything so far. */
  get bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }

  /** Zeros up to a multiple. */
  align(to: number): this {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0);
    return this;
  }

  /** Type `y`. */
  byte(value: number): this {
    this.#bytes.push(value);
    return this;
  }

  /** Type `u`. */
  uint32(value: number): this {
    this.align(4).#bytes.push(value & 0xff, value >> 8 & 0xff, value >> 16 & 0xff, value >>> 24);
    return this;
  }

  /** Types `s` and `o`. */
  text(value: string): this {
    const utf8 = new TextEncoder().encode(value);
    this.uint32(utf8.length).#bytes.push(...utf8, 0);
    return this;
  }

  /** Type `g`. */
  signature(value: string): this {
    this.byte(value.length).#bytes.push(...new TextEncoder().encode(value), 0);
    return this;
  }

  /** An array whose elements are aligned to `to`. */
  array(to: number, elements: (writer: DbusWriter) => void): this {
    this.uint32(0);
    const at = this.#bytes.length - 4;
    const start = this.align(to).#bytes.length;
    elements(this);
    const length = this.#bytes.length - start;
    for (let i = 0; i < 4; i++) this.#bytes[at + i] = length >> 8 * i & 0xff;
    return this;
  }
}

/** A whole message. @param serial not zero */
export function writeMessage(serial: number, message: OutgoingDbusMessage): Uint8Array {
  const body = new DbusWriter();
  message.body(body);
  const writer = new DbusWriter().byte(LITTLE_ENDIAN).byte(message.type).byte(0).byte(1)
    .uint32(body.bytes.length).uint32(serial);
  writer.array(8, (fields) => {
    const add = (code: number, type: "o" | "s", value: string | undefined) => {
      if (value !== undefined) fields.align(8).byte(code).signature(type).text(value);
    };
    add(FIELD.path, "o", message.path);
    add(FIELD.interface, "s", message.interface);
    add(FIELD.member, "s", message.member);
    add(FIELD.destination, "s", message.destination);
    if (message.signature !== "") {
      fields.align(8).byte(FIELD.signature).signature("g").signature(message.signature);
    }
  });
  const header = writer.align(8).bytes;
  const whole = new Uint8Array(header.length + body.bytes.length);
  whole.set(header);
  whole.set(body.bytes, header.length);
  return whole;
}

/** Reads the message at the start of `bytes`, whatever they are; never throws. */
export function takeMessage(bytes: Uint8Array): Taken {
  if (bytes.length < FIXED_HEADER) return { tag: "incomplete" };
  if (bytes[0] !== LITTLE_ENDIAN && bytes[0] !== BIG_ENDIAN) return { tag: "malformed" };
  const reader = new Reader(bytes, bytes[0] === LITTLE_ENDIAN);
  const bodyLength = reader.uint32At(4);
  const bodyStart = align(FIXED_HEADER + reader.uint32At(12), 8);
  const length = bodyStart + bodyLength;
  if (length > MAX_MESSAGE) return { tag: "malformed" };
  if (bytes.length < length) return { tag: "incomplete" };
  try {
    return { tag: "message", length, message: readMessage(reader, bodyStart, length) };
  } catch (error) {
    if (error instanceof Malformed) return { tag: "malformed" };
    throw error;
  }
}

function readMessage(reader: Reader, bodyStart: number, end: number): DbusMessage {
  const texts = new Map<number, string>();
  const fieldsEnd = FIXED_HEADER + reader.uint32At(12);
  reader.at = FIXED_HEADER;
  while (reader.at < fieldsEnd) {
    reader.align(8);
    const code = reader.byte();
    const type = reader.signature();
    if (type === "s" || type === "o") texts.set(code, reader.text());
    else if (type === "g") texts.set(code, reader.signature());
    else reader.skip(type, end);
  }
  const message = {
    type: reader.byteAt(1),
    path: texts.get(FIELD.path) ?? "",
    interface: texts.get(FIELD.interface) ?? "",
    member: texts.get(FIELD.member) ?? "",
  };
  reader.at = bodyStart;
  const isChange = message.member === "PropertiesChanged" &&
    texts.get(FIELD.signature) === "sa{sv}as";
  return { ...message, changed: isChange ? readChanged(reader, end) : [] };
}

/** Interface, new values by name, names of those whose values are not told. */
function readChanged(reader: Reader, end: number): string[] {
  reader.text();
  const names: string[] = [];
  for (const stop = reader.arrayEnd(8, end); reader.at < stop;) {
    reader.align(8);
    names.push(reader.text());
    reader.skip("v", end);
  }
  for (const stop = reader.arrayEnd(4, end); reader.at < stop;) names.push(reader.text());
  return names;
}

class Malformed extends Error {}

/** Sizes of types that have one; they are aligned to it. */
const SIZES: Readonly<Record<string, number>> = {
  y: 1,
  n: 2,
  q: 2,
  b: 4,
  i: 4,
  u: 4,
  h: 4,
  x: 8,
  t: 8,
  d: 8,
};

class Reader {
  at = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #isLittle: boolean;

  constructor(bytes: Uint8Array, isLittle: boolean) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#isLittle = isLittle;
  }

  byteAt(at: number): number {
    return this.#bytes[at]!;
  }

  uint32At(at: number): number {
    if (at + 4 > this.#bytes.length) throw new Malformed();
    return this.#view.getUint32(at, this.#isLittle);
  }

  align(to: number): void {
    this.at = align(this.at, to);
  }

  byte(): number {
    if (this.at >= this.#bytes.length) throw new Malformed();
    return this.#bytes[this.at++]!;
  }

  uint32(): number {
    this.align(4);
    const value = this.uint32At(this.at);
    this.at += 4;
    return value;
  }

  text(): string {
    return this.#textOf(this.uint32());
  }

  signature(): string {
    return this.#textOf(this.byte());
  }

  /** Reads an array's length and answers where it ends. @param to alignment of its elements */
  arrayEnd(to: number, limit: number): number {
    const length = this.uint32();
    this.align(to);
    if (this.at + length > limit) throw new Malformed();
    return this.at + length;
  }

  /** Passes over values of these types. */
  skip(types: string, limit: number, depth = 0): void {
    if (depth > MAX_NESTING) throw new Malformed();
    for (let i = 0; i < types.length;) {
      const type = wholeType(types, i);
      i += type.length;
      this.#skipOne(type, limit, depth);
      if (this.at > limit) throw new Malformed();
    }
  }

  #skipOne(type: string, limit: number, depth: number): void {
    const size = SIZES[type];
    if (size !== undefined) {
      this.align(size);
      this.at += size;
    } else if (type === "s" || type === "o") this.text();
    else if (type === "g") this.signature();
    else if (type === "v") this.skip(this.signature(), limit, depth + 1);
    else if (type.startsWith("a")) {
      this.at = this.arrayEnd(alignmentOf(type[1]!), limit);
    } else {
      this.align(8);
      this.skip(type.slice(1, -1), limit, depth + 1);
    }
  }

  #textOf(length: number): string {
    const end = this.at + length;
    if (end >= this.#bytes.length) throw new Malformed();
    const text = new TextDecoder().decode(this.#bytes.subarray(this.at, end));
    this.at = end + 1; // a zero follows
    return text;
  }
}

/** The complete type that begins at `at`. */
function wholeType(types: string, at: number): string {
  let end = at;
  while (types[end] === "a") end++;
  if (types[end] === "(" || types[end] === "{") {
    for (let open = 0; end < types.length; end++) {
      if (types[end] === "(" || types[end] === "{") open++;
      if ((types[end] === ")" || types[end] === "}") && --open === 0) break;
    }
  }
  const last = types[end];
  if (last === undefined || !/[ynqbiuhxtdsogv)}]/.test(last)) throw new Malformed();
  return types.slice(at, end + 1);
}

function alignmentOf(type: string): number {
  if (type === "(" || type === "{") return 8;
  if (type === "g" || type === "v") return 1;
  return SIZES[type] ?? 4;
}

function align(at: number, to: number): number {
  return Math.ceil(at / to) * to;
}
