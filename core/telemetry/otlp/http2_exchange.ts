/**
 * One request and its answer over a connection of their own: the client's side of HTTP/2.
 *
 *     we    preface SETTINGS HEADERS DATA…        SETTINGS+ack  PING+ack
 *     they  SETTINGS  WINDOW_UPDATE…  HEADERS CONTINUATION… DATA… HEADERS (trailers)
 *
 *     | length: 3 bytes | type | flags | stream: 4 bytes | payload |
 *
 * Spec: RFC 9113. Left out: more than one stream, priorities, padding of our own, pushes, making
 * room for a longer answer. Memory is bounded by {@link MAX_BODY_LENGTH} and a frame, and time by
 * whoever owns the connection.
 *
 * Why not `fetch` or `node:http2`: `docs/decisions/0003-otlp-is-written-here.md`.
 * @module
 */

import { readU16, readU32, utf8, writeU16, writeU32 } from "../../bytes/mod.ts";
import { type HeaderMap, parseHeaders, writeHeaders } from "./hpack.ts";

/** What is asked. */
export interface Http2Request {
  /** `host:port`. */
  readonly authority: string;
  /** Begins with a slash. */
  readonly path: string;
  /** Names in lower case. */
  readonly headers: readonly (readonly [string, string])[];
  /** Sent by POST. */
  readonly body: Uint8Array;
}

/** How it ended. */
export type Http2Result =
  | {
    readonly tag: "response";
    /** HTTP's. */
    readonly status: number;
    /** Headers and trailers together. */
    readonly headers: HeaderMap;
    /** All of it. */
    readonly body: Uint8Array;
  }
  | { readonly tag: "failed"; readonly reason: string };

/** As much as may come without making room for more. */
export const MAX_BODY_LENGTH = 65_535;

const PREFACE = utf8("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const FRAME_HEADER_LENGTH = 9;
/** Of frames in either direction, unless they say otherwise (RFC 9113 §6.5.2). */
const MAX_FRAME_LENGTH = 16_384;
const MAX_HEADERS_LENGTH = 16_384;
const MAX_WINDOW = 2 ** 31 - 1;
const OUR_STREAM = 1;

const FRAME = {
  data: 0,
  headers: 1,
  priority: 2,
  resetStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
const FLAG = { ack: 1, endStream: 1, endHeaders: 4, padded: 8, priority: 32 } as const;
const SETTING = {
  headerTableSize: 1,
  enablePush: 2,
  initialWindowSize: 4,
  maxFrameSize: 5,
} as const;

/** See the head of this file. Feed it {@link handle}; after each call send {@link takeOutput}. */
export class Http2Exchange {
  #result: Http2Result | undefined;
  #output: Uint8Array[] = [];
  /** The beginning of a frame that has not come whole. */
  #partial = new Uint8Array();
  /** What of the body waits until they have room. */
  #unsent: Uint8Array;
  #connectionWindow = 65_535;
  #streamWindow = 65_535;
  #initialWindow = 65_535;
  #frameLimit = MAX_FRAME_LENGTH;
  /** A header block that goes on in CONTINUATION frames. */
  #block: { readonly parts: Uint8Array[]; readonly isLast: boolean } | undefined;
  readonly #headers = new Map<string, string>();
  readonly #body: Uint8Array[] = [];
  #bodyLength = 0;

  /** Nothing is sent before {@link takeOutput}. */
  constructor(request: Http2Request) {
    this.#unsent = request.body;
    const settings = new Uint8Array(12);
    writeU16(settings, 0, SETTING.headerTableSize);
    writeU16(settings, 6, SETTING.enablePush);
    this.#output.push(PREFACE);
    this.#send(FRAME.settings, 0, 0, settings);
    const { authority, path, headers } = request;
    const block = writeHeaders([
      [":method", "POST"],
      [":scheme", "http"],
      [":authority", authority],
      [":path", path],
      ...headers,
    ]);
    this.#send(FRAME.headers, FLAG.endHeaders, OUR_STREAM, block);
    this.#sendBody(true);
  }

  /** How it ended; undefined until it has. */
  get result(): Http2Result | undefined {
    return this.#result;
  }

  /** Bytes to send now; empty if there are none. */
  takeOutput(): Uint8Array {
    const whole = concat(this.#output);
    this.#output = [];
    return whole;
  }

  /** Takes bytes that came, whatever they are. @param bytes borrowed for this call */
  handle(bytes: Uint8Array): void {
    let rest = concat([this.#partial, bytes]);
    while (this.#result === undefined && rest.length >= FRAME_HEADER_LENGTH) {
      const length = readU32(rest, 0) >>> 8;
      if (length > MAX_FRAME_LENGTH) return this.#fail("a frame is too long");
      const end = FRAME_HEADER_LENGTH + length;
      if (rest.length < end) break;
      const stream = readU32(rest, 5) & 0x7fffffff;
      this.#handleFrame(rest[3]!, rest[4]!, stream, rest.slice(FRAME_HEADER_LENGTH, end));
      rest = rest.subarray(end);
    }
    this.#partial = rest.slice();
  }

  /** They have closed the connection. */
  handleEnd(): void {
    this.#fail("the connection was closed");
  }

  #handleFrame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    if (this.#block !== undefined && type !== FRAME.continuation) {
      return this.#fail("a header block is interrupted");
    }
    switch (type) {
      case FRAME.settings:
        return this.#handleSettings(flags, payload);
      case FRAME.ping:
        if ((flags & FLAG.ack) === 0) this.#send(FRAME.ping, FLAG.ack, 0, payload);
        return;
      case FRAME.windowUpdate:
        return this.#handleWindowUpdate(stream, payload);
      case FRAME.goAway:
        // Streams up to the named one are still served.
        if (payload.length < 8) return this.#fail("a frame is broken");
        if ((readU32(payload, 0) & 0x7fffffff) < OUR_STREAM) {
          this.#fail(`the connection was refused with HTTP/2 error ${readU32(payload, 4)}`);
        }
        return;
      case FRAME.pushPromise:
        return this.#fail("something was pushed");
    }
    if (stream !== OUR_STREAM) return;
    switch (type) {
      case FRAME.data:
        return this.#handleData(flags, payload);
      case FRAME.headers:
        return this.#handleHeaders(flags, payload);
      case FRAME.continuation:
        return this.#handleContinuation(flags, payload);
      case FRAME.resetStream:
        if (payload.length !== 4) return this.#fail("a frame is broken");
        return this.#fail(`the request was reset with HTTP/2 error ${readU32(payload, 0)}`);
    }
  }

  #handleSettings(flags: number, payload: Uint8Array): void {
    if ((flags & FLAG.ack) !== 0) return;
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = readU32(payload, at + 2);
      switch (readU16(payload, at)) {
        case SETTING.initialWindowSize:
          if (value > MAX_WINDOW) return this.#fail("a window is too large");
          this.#streamWindow += value - this.#initialWindow;
          this.#initialWindow = value;
          break;
        case SETTING.maxFrameSize:
          this.#frameLimit = Math.max(MAX_FRAME_LENGTH, Math.min(value, 2 ** 24 - 1));
          break;
      }
    }
    this.#send(FRAME.settings, FLAG.ack, 0, new Uint8Array());
    this.#sendBody(false);
  }

  #handleWindowUpdate(stream: number, payload: Uint8Array): void {
    if (payload.length !== 4) return this.#fail("a frame is broken");
    const more = readU32(payload, 0) & 0x7fffffff;
    if (stream === 0) this.#connectionWindow = Math.min(this.#connectionWindow + more, MAX_WINDOW);
    else if (stream === OUR_STREAM) {
      this.#streamWindow = Math.min(this.#streamWindow + more, MAX_WINDOW);
    }
    this.#sendBody(false);
  }

  #handleData(flags: number, payload: Uint8Array): void {
    const data = unpadded(flags, payload);
    if (data === undefined) return this.#fail("a frame is broken");
    this.#bodyLength += data.length;
    this.#body.push(data);
    const isEnd = (flags & FLAG.endStream) !== 0;
    // They have no room for more, or did not care.
    if (this.#bodyLength > MAX_BODY_LENGTH || this.#bodyLength === MAX_BODY_LENGTH && !isEnd) {
      return this.#fail("the answer is too long");
    }
    if (isEnd) this.#finish();
  }

  #handleHeaders(flags: number, payload: Uint8Array): void {
    const rest = unpadded(flags, payload);
    const skip = (flags & FLAG.priority) === 0 ? 0 : 5;
    if (rest === undefined || rest.length < skip) return this.#fail("a frame is broken");
    this.#block = { parts: [], isLast: (flags & FLAG.endStream) !== 0 };
    this.#handleContinuation(flags, rest.subarray(skip));
  }

  #handleContinuation(flags: number, payload: Uint8Array): void {
    const block = this.#block;
    if (block === undefined) return this.#fail("a header block has no beginning");
    block.parts.push(payload);
    const length = block.parts.reduce((sum, part) => sum + part.length, 0);
    // Empty parts without end would grow the list alone.
    if (length > MAX_HEADERS_LENGTH || block.parts.length > 64) {
      return this.#fail("the headers are too long");
    }
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = undefined;
    const headers = parseHeaders(concat(block.parts));
    if (headers === undefined) return this.#fail("the headers are broken");
    for (const [name, value] of headers) this.#headers.set(name, value);
    if (block.isLast) this.#finish();
  }

  #finish(): void {
    const status = this.#headers.get(":status") ?? "";
    if (!/^\d{3}$/.test(status)) return this.#fail("the answer has no status");
    this.#result ??= {
      tag: "response",
      status: Number(status),
      headers: this.#headers,
      body: concat(this.#body),
    };
  }

  #fail(reason: string): void {
    this.#result ??= { tag: "failed", reason };
  }

  /** Sends as much of the body as they have room for; the last part ends the stream. */
  #sendBody(isFirst: boolean): void {
    if (!isFirst && this.#unsent.length === 0) return;
    do {
      const room = Math.min(this.#connectionWindow, this.#streamWindow, this.#frameLimit);
      const part = this.#unsent.subarray(0, Math.max(0, room));
      if (part.length === 0 && this.#unsent.length > 0) return;
      this.#unsent = this.#unsent.subarray(part.length);
      this.#connectionWindow -= part.length;
      this.#streamWindow -= part.length;
      const flags = this.#unsent.length === 0 ? FLAG.endStream : 0;
      this.#send(FRAME.data, flags, OUR_STREAM, part);
    } while (this.#unsent.length > 0);
  }

  #send(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const frame = new Uint8Array(FRAME_HEADER_LENGTH + payload.length);
    writeU32(frame, 0, payload.length << 8 | type);
    frame[4] = flags;
    writeU32(frame, 5, stream);
    frame.set(payload, FRAME_HEADER_LENGTH);
    this.#output.push(frame);
  }
}

/** The payload without its padding. */
function unpadded(flags: number, payload: Uint8Array): Uint8Array | undefined {
  if ((flags & FLAG.padded) === 0) return payload;
  const padding = payload[0];
  if (padding === undefined || padding >= payload.length) return undefined;
  return payload.subarray(1, payload.length - padding);
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
