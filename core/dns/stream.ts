/**
 * DNS messages on a stream: each behind its length in two bytes (RFC 1035 §4.2.2).
 * @module
 */

import { readU16, writeU16 } from "../bytes/fields.ts";

/** A message with its length before it. @throws RangeError past 65535 bytes */
export function frameMessage(message: Uint8Array): Uint8Array {
  if (message.length > 0xffff) {
    throw new RangeError(`Cannot frame ${message.length} bytes: expected at most 65535`);
  }
  const frame = new Uint8Array(2 + message.length);
  writeU16(frame, 0, message.length);
  frame.set(message, 2);
  return frame;
}

/** Cuts a stream into messages. */
export class MessageReader {
  #buffer: Uint8Array = new Uint8Array(512);
  #start = 0;
  #end = 0;

  /** Appends bytes of the stream; copied. */
  push(bytes: Uint8Array): void {
    const held = this.#end - this.#start;
    if (this.#end + bytes.length > this.#buffer.length) {
      const size = Math.max(2 * this.#buffer.length, held + bytes.length);
      const target = held + bytes.length <= this.#buffer.length
        ? this.#buffer
        : new Uint8Array(size);
      target.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = target;
      this.#start = 0;
      this.#end = held;
    }
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** The next complete message, as a copy; undefined when there is none yet. */
  poll(): Uint8Array | undefined {
    if (this.#end - this.#start < 2) return undefined;
    const start = this.#start + 2;
    const end = start + readU16(this.#buffer, this.#start);
    if (end > this.#end) return undefined;
    this.#start = end;
    return new Uint8Array(this.#buffer.subarray(start, end));
  }
}
