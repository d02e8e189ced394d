/**
 * WebSocket frames, from the client's side.
 *
 *     | FIN RSV1-3 opcode | MASK length | extended length | masking key | payload |
 *
 * Spec: RFC 6455 §5. No extensions are negotiated, so the reserved bits are always zero.
 * What we send is masked, what we receive must not be.
 * @module
 */

import { toUtf8Text, utf8 } from "../bytes/text.ts";
import { readU16, readU32, writeU16, writeU32 } from "../bytes/fields.ts";

/** Frame types (RFC 6455 §11.8). */
export const OPCODE = {
  continuation: 0x0,
  text: 0x1,
  binary: 0x2,
  close: 0x8,
  ping: 0x9,
  pong: 0xa,
} as const;

/** The longest message that is taken; an `init` with thousands of resources has a few megabytes. */
export const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;

/** What a {@link FrameReader} finds. */
export type FrameEvent =
  | {
    /** A whole text message. */
    readonly tag: "text";
    /** Its text. */
    readonly text: string;
  }
  | {
    /** A whole binary message. */
    readonly tag: "binary";
  }
  | {
    /** To be answered with a pong. */
    readonly tag: "ping";
    /** To be sent back. */
    readonly payload: Uint8Array;
  }
  | {
    /** The other side is about to close. */
    readonly tag: "close";
    /** Status code; 1005 if none was given. */
    readonly code: number;
    /** Reason, often empty. */
    readonly reason: string;
  }
  | {
    /** The other side broke the protocol; the connection is to be closed with this code. */
    readonly tag: "violation";
    /** Status code. */
    readonly code: number;
    /** What was wrong. */
    readonly reason: string;
  };

/**
 * A whole frame that a client sends.
 *
 * @param mask 4 random bytes
 */
export function writeFrame(opcode: number, payload: Uint8Array, mask: Uint8Array): Uint8Array {
  const extended = payload.length < 126 ? 0 : payload.length < 65_536 ? 2 : 8;
  const frame = new Uint8Array(2 + extended + 4 + payload.length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | (extended === 0 ? payload.length : extended === 2 ? 126 : 127);
  if (extended === 2) writeU16(frame, 2, payload.length);
  if (extended === 8) writeU32(frame, 6, payload.length);
  const start = 2 + extended + 4;
  frame.set(mask.subarray(0, 4), start - 4);
  for (let i = 0; i < payload.length; i++) frame[start + i] = payload[i]! ^ mask[i & 3]!;
  return frame;
}

/** Payload of a close frame. */
export function closePayload(code: number, reason: string): Uint8Array {
  const text = utf8(reason).subarray(0, 123);
  const payload = new Uint8Array(2 + text.length);
  writeU16(payload, 0, code);
  payload.set(text, 2);
  return payload;
}

/** Finds frames in a stream of bytes. After a close or a violation it takes nothing more. */
export class FrameReader {
  #buffer = new Uint8Array(4096);
  #start = 0;
  #end = 0;
  /** Fragments of a message whose end has not come. */
  #fragments: Uint8Array[] = [];
  #fragmentsBytes = 0;
  #messageOpcode: number | undefined;
  #isDone = false;

  /** Takes bytes as they arrive; they are copied. */
  push(bytes: Uint8Array): void {
    if (this.#isDone) return;
    if (this.#end + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Next thing that is complete; never throws. */
  poll(): FrameEvent | undefined {
    while (!this.#isDone) {
      const frame = this.#nextFrame();
      if (frame === undefined) return undefined;
      const event = "tag" in frame ? frame : this.#handleFrame(frame);
      if (event === undefined) continue;
      if (event.tag === "close" || event.tag === "violation") this.#finish();
      return event;
    }
    return undefined;
  }

  #nextFrame(): RawFrame | FrameEvent | undefined {
    const available = this.#end - this.#start;
    if (available < 2) return undefined;
    const b = this.#buffer;
    const at = this.#start;
    const opcode = b[at]! & 0x0f;
    const short = b[at + 1]! & 0x7f;
    if ((b[at]! & 0x70) !== 0) return violation(1002, "reserved bits are set");
    if ((b[at + 1]! & 0x80) !== 0) return violation(1002, "a server's frame is masked");
    if (opcode >= 8 && (short > 125 || (b[at]! & 0x80) === 0)) {
      return violation(1002, "a control frame is long or fragmented");
    }
    const header = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (available < header) return undefined;
    const length = short < 126
      ? short
      : short === 126
      ? readU16(b, at + 2)
      : readU32(b, at + 2) * 2 ** 32 + readU32(b, at + 6);
    if (length + this.#fragmentsBytes > MAX_MESSAGE_BYTES) {
      return violation(1009, "a message is too long");
    }
    if (available < header + length) return undefined;
    const payload = b.slice(at + header, at + header + length);
    this.#start += header + length;
    return { isFinal: (b[at]! & 0x80) !== 0, opcode, payload };
  }

  #handleFrame(frame: RawFrame): FrameEvent | undefined {
    switch (frame.opcode) {
      case OPCODE.ping:
        return { tag: "ping", payload: frame.payload };
      case OPCODE.pong:
        return undefined;
      case OPCODE.close:
        return readClose(frame.payload);
      case OPCODE.text:
      case OPCODE.binary:
        if (this.#messageOpcode !== undefined) {
          return violation(1002, "a message begins inside another");
        }
        this.#messageOpcode = frame.opcode;
        return this.#addFragment(frame);
      case OPCODE.continuation:
        if (this.#messageOpcode === undefined) {
          return violation(1002, "a continuation without a beginning");
        }
        return this.#addFragment(frame);
      default:
        return violation(1002, "an unknown opcode");
    }
  }

  #addFragment(frame: RawFrame): FrameEvent | undefined {
    this.#fragments.push(frame.payload);
    this.#fragmentsBytes += frame.payload.length;
    if (!frame.isFinal) {
      // Empty fragments cost memory without counting as bytes.
      return this.#fragments.length > 65_536 ? violation(1009, "too many fragments") : undefined;
    }
    const whole = concat(this.#fragments, this.#fragmentsBytes);
    const opcode = this.#messageOpcode;
    this.#fragments = [];
    this.#fragmentsBytes = 0;
    this.#messageOpcode = undefined;
    if (opcode === OPCODE.binary) return { tag: "binary" };
    const text = toUtf8Text(whole);
    return text === undefined ? violation(1007, "a text is not UTF-8") : { tag: "text", text };
  }

  #makeRoom(length: number): void {
    const held = this.#buffer.subarray(this.#start, this.#end);
    let size = this.#buffer.length;
    while (size < held.length + length) size *= 2;
    // An ordinary buffer is kept; after a giant message we go back to one.
    const target = size === this.#buffer.length ? this.#buffer : new Uint8Array(size);
    target.set(held);
    this.#buffer = target;
    this.#end = held.length;
    this.#start = 0;
  }

  #finish(): void {
    this.#isDone = true;
    this.#buffer = new Uint8Array(0);
    this.#fragments = [];
  }
}

interface RawFrame {
  readonly isFinal: boolean;
  readonly opcode: number;
  readonly payload: Uint8Array;
}

function violation(code: number, reason: string): FrameEvent {
  return { tag: "violation", code, reason };
}

function readClose(payload: Uint8Array): FrameEvent {
  if (payload.length === 0) return { tag: "close", code: 1005, reason: "" };
  const reason = toUtf8Text(payload.subarray(2));
  if (payload.length === 1 || reason === undefined) {
    return violation(1002, "a close frame makes no sense");
  }
  return { tag: "close", code: readU16(payload, 0), reason };
}

function concat(parts: readonly Uint8Array[], length: number): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
