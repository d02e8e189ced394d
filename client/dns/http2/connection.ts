/**
 * One HTTP/2 connection that posts small messages and collects small answers, without its socket.
 *
 *     0            3      4       5           9
 *     | length: 24 | type | flags | stream: 31 | payload |
 *
 * The runtime's `node:http2` would do more, but in Deno 2.9 connections that end while requests
 * wait crash the process, and its `fetch` cannot be kept out of the tunnel.
 *
 * Spec: RFC 9113, client side. Left out: push (switched off), priorities, dynamic header tables
 * (size zero), uploads larger than the windows that the server gives (they wait).
 * @module
 */

import { readU16, readU32, writeU16, writeU32 } from "@firezone/core/bytes";
import { decodeAnswer, encodeRequest } from "./header_block.ts";

/** What is posted and where. */
export interface Http2Options {
  /** Host, and port if it is not that of HTTPS. */
  readonly authority: string;
  /** Path and query. */
  readonly path: string;
  /** Of messages and answers. */
  readonly mediaType: string;
}

/** What came of a request, or of the connection. */
export type Http2Event =
  | {
    /** An answer is complete. */
    readonly tag: "answer";
    /** Of which request. */
    readonly requestId: number;
    /** Its status. */
    readonly status: number;
    /** In lower case, without parameters. */
    readonly contentType: string | undefined;
    /** Its content. */
    readonly body: Uint8Array;
  }
  | {
    /** There will be no answer. */
    readonly tag: "failed";
    /** To which request. */
    readonly requestId: number;
    /** Why. */
    readonly reason: string;
  }
  | {
    /** The connection is of no use any more: close it. */
    readonly tag: "closed";
    /** Why. */
    readonly reason: string;
  };

/** Longest answer, in bytes. */
export const MAX_ANSWER_LENGTH = 65_535;

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER = 9;
const MAX_FRAME_LENGTH = 16_384;
const MAX_HEADER_BLOCK = 32_768;
const DEFAULT_WINDOW = 65_535;
const MAX_STREAM_ID = 0x7fff_fff0;

const Frame = {
  DATA: 0,
  HEADERS: 1,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

const FrameFlag = {
  ACK: 0x1,
  END_STREAM: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
} as const;

const CANCEL = 8;

interface Stream {
  readonly requestId: number;
  status: number | undefined;
  contentType: string | undefined;
  readonly chunks: Uint8Array[];
  length: number;
}

/** See the head of this file. */
export class Http2Connection {
  readonly #options: Http2Options;
  readonly #output: Uint8Array[] = [];
  readonly #events: Http2Event[] = [];
  readonly #streams = new Map<number, Stream>();
  /** Requests that wait for the server's limits. */
  readonly #waiting = new Map<number, Uint8Array>();
  #input: Uint8Array = new Uint8Array();
  /** A header block that goes on in the next frame. */
  #block: { stream: number; isEnd: boolean; parts: Uint8Array[]; length: number } | undefined;
  #nextRequestId = 0;
  #nextStreamId = 1;
  #maxStreams = 100;
  #initialWindow = DEFAULT_WINDOW;
  #window = DEFAULT_WINDOW;
  #isGoingAway = false;
  #isClosed = false;

  /** A connection whose socket was just opened. */
  constructor(options: Http2Options) {
    this.#options = options;
    this.#output.push(new TextEncoder().encode(PREFACE));
    const settings = new Uint8Array(18);
    const values = [
      [Setting.HEADER_TABLE_SIZE, 0],
      [Setting.ENABLE_PUSH, 0],
      [Setting.INITIAL_WINDOW_SIZE, MAX_ANSWER_LENGTH + 1],
    ] as const;
    for (const [i, [id, value]] of values.entries()) {
      writeU16(settings, 6 * i, id);
      writeU32(settings, 6 * i + 2, value);
    }
    this.#send(Frame.SETTINGS, 0, 0, settings);
  }

  /** Whether new requests have a chance. */
  get isUsable(): boolean {
    return !this.#isClosed && !this.#isGoingAway && this.#nextStreamId < MAX_STREAM_ID;
  }

  /** Posts a message. @returns what its answer or failure is told by */
  post(body: Uint8Array): number {
    const requestId = this.#nextRequestId++;
    if (!this.isUsable) {
      this.#events.push({ tag: "failed", requestId, reason: "the connection was closed" });
    } else {
      this.#waiting.set(requestId, body);
      this.#startWaiting();
    }
    return requestId;
  }

  /** Nobody wants that answer any more; nothing is told of it. */
  cancel(requestId: number): void {
    if (this.#waiting.delete(requestId)) return;
    for (const [id, stream] of this.#streams) {
      if (stream.requestId === requestId) this.#reset(id);
    }
  }

  /** Takes bytes of the server, however they are cut. */
  handleBytes(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    const input = new Uint8Array(this.#input.length + bytes.length);
    input.set(this.#input);
    input.set(bytes, this.#input.length);
    let at = 0;
    while (!this.#isClosed && input.length - at >= FRAME_HEADER) {
      const length = readU32(input, at) >>> 8;
      if (length > MAX_FRAME_LENGTH) return this.close("the server sent too long a frame");
      const end = at + FRAME_HEADER + length;
      if (end > input.length) break;
      const stream = readU32(input, at + 5) & 0x7fff_ffff;
      this.#handleFrame(input[at + 3]!, input[at + 4]!, stream, input.subarray(at + 9, end));
      at = end;
    }
    this.#input = input.slice(at);
  }

  /** The socket has ended, or is about to: everything that waits has failed. */
  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const { requestId } of this.#streams.values()) this.#fail(requestId, reason);
    for (const requestId of this.#waiting.keys()) this.#fail(requestId, reason);
    this.#streams.clear();
    this.#waiting.clear();
    this.#events.push({ tag: "closed", reason });
  }

  /** The next bytes to send. */
  pollOutput(): Uint8Array | undefined {
    return this.#output.shift();
  }

  /** The next thing to know. */
  pollEvent(): Http2Event | undefined {
    return this.#events.shift();
  }

  // ---- out

  #startWaiting(): void {
    for (const [requestId, body] of this.#waiting) {
      const fits = body.length <= this.#window && body.length <= this.#initialWindow;
      if (!fits || this.#streams.size >= this.#maxStreams) return;
      this.#waiting.delete(requestId);
      this.#start(requestId, body);
    }
  }

  #start(requestId: number, body: Uint8Array): void {
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    const stream = { requestId, status: undefined, contentType: undefined, chunks: [], length: 0 };
    this.#streams.set(id, stream);
    const block = encodeRequest({ ...this.#options, contentLength: body.length });
    for (let at = 0; at < block.length; at += MAX_FRAME_LENGTH) {
      const part = block.subarray(at, at + MAX_FRAME_LENGTH);
      const isLast = at + part.length === block.length;
      const type = at === 0 ? Frame.HEADERS : Frame.CONTINUATION;
      this.#send(type, isLast ? FrameFlag.END_HEADERS : 0, id, part);
    }
    this.#window -= body.length;
    let at = 0;
    do {
      const part = body.subarray(at, at + MAX_FRAME_LENGTH);
      at += part.length;
      this.#send(Frame.DATA, at === body.length ? FrameFlag.END_STREAM : 0, id, part);
    } while (at < body.length);
  }

  #send(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const frame = new Uint8Array(FRAME_HEADER + payload.length);
    writeU32(frame, 0, payload.length << 8 | type);
    frame[4] = flags;
    writeU32(frame, 5, stream);
    frame.set(payload, FRAME_HEADER);
    this.#output.push(frame);
  }

  #sendNumber(type: number, stream: number, value: number): void {
    const payload = new Uint8Array(4);
    writeU32(payload, 0, value);
    this.#send(type, 0, stream, payload);
  }

  // ---- in

  #handleFrame(type: number, flags: number, id: number, payload: Uint8Array): void {
    // A header block is not interrupted (§4.3).
    if (this.#block && (type !== Frame.CONTINUATION || id !== this.#block.stream)) {
      return this.close("the server interrupted its headers");
    }
    switch (type) {
      case Frame.DATA:
        return this.#handleData(flags, id, payload);
      case Frame.HEADERS:
        return this.#handleHeaders(flags, id, payload);
      case Frame.CONTINUATION:
        if (!this.#block) return this.close("the server went on with headers it had not begun");
        return this.#addToBlock(flags, payload);
      case Frame.RST_STREAM:
        return this.#end(id, "the server gave up the request");
      case Frame.SETTINGS:
        return this.#handleSettings(flags, payload);
      case Frame.PING:
        if (payload.length !== 8) return this.close("the server sent a ping without sense");
        if ((flags & FrameFlag.ACK) === 0) {
          this.#send(Frame.PING, FrameFlag.ACK, 0, payload.slice());
        }
        return;
      case Frame.GOAWAY:
        return this.#handleGoAway(payload);
      case Frame.WINDOW_UPDATE:
        if (payload.length !== 4) return this.close("the server sent a window without sense");
        if (id === 0) this.#window += readU32(payload, 0) & 0x7fff_ffff;
        return this.#startWaiting();
      case Frame.PUSH_PROMISE:
        return this.close("the server pushed although it may not");
      default: // priorities, and what newer servers may send
        return;
    }
  }

  #handleData(flags: number, id: number, payload: Uint8Array): void {
    // All of it counts for the connection's window, also what nobody wants.
    if (payload.length > 0) this.#sendNumber(Frame.WINDOW_UPDATE, 0, payload.length);
    const data = withoutPadding(flags, payload, 0);
    if (!data) return this.close("the server padded more than there is");
    const stream = this.#streams.get(id);
    if (!stream) return;
    stream.length += data.length;
    if (stream.length > MAX_ANSWER_LENGTH) {
      this.#reset(id);
      return this.#fail(stream.requestId, "the answer is too long");
    }
    stream.chunks.push(data.slice());
    if ((flags & FrameFlag.END_STREAM) !== 0) this.#finish(id, stream);
  }

  #handleHeaders(flags: number, id: number, payload: Uint8Array): void {
    const fragment = withoutPadding(flags, payload, (flags & FrameFlag.PRIORITY) !== 0 ? 5 : 0);
    if (!fragment || id === 0) return this.close("the server sent headers without sense");
    const isEnd = (flags & FrameFlag.END_STREAM) !== 0;
    this.#block = { stream: id, isEnd, parts: [], length: 0 };
    this.#addToBlock(flags, fragment);
  }

  #addToBlock(flags: number, fragment: Uint8Array): void {
    const block = this.#block!;
    block.parts.push(fragment.slice());
    block.length += fragment.length;
    // Frames without content would never reach the limit.
    if (block.length > MAX_HEADER_BLOCK || block.parts.length > 64) {
      return this.close("the server's headers are too long");
    }
    if ((flags & FrameFlag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const headers = decodeAnswer(joined(block.parts, block.length));
    if (!headers) return this.close("the server's headers make no sense");
    const stream = this.#streams.get(block.stream);
    if (!stream) return;
    const { status, contentType } = headers;
    // Status 1xx announces the true one; after that come trailers, which have none.
    if (stream.status === undefined && status !== undefined && (status < 100 || status > 199)) {
      stream.status = status;
      stream.contentType = contentType;
    }
    if (block.isEnd) this.#finish(block.stream, stream);
  }

  #handleSettings(flags: number, payload: Uint8Array): void {
    if ((flags & FrameFlag.ACK) !== 0) return;
    if (payload.length % 6 !== 0) return this.close("the server sent settings without sense");
    for (let at = 0; at < payload.length; at += 6) {
      const value = readU32(payload, at + 2);
      switch (readU16(payload, at)) {
        case Setting.MAX_CONCURRENT_STREAMS:
          this.#maxStreams = value;
          break;
        case Setting.INITIAL_WINDOW_SIZE:
          this.#initialWindow = value;
          break;
      }
    }
    this.#send(Frame.SETTINGS, FrameFlag.ACK, 0, new Uint8Array());
    this.#startWaiting();
  }

  #handleGoAway(payload: Uint8Array): void {
    if (payload.length < 8) return this.close("the server left without sense");
    this.#isGoingAway = true;
    const last = readU32(payload, 0) & 0x7fff_ffff;
    const reason = "the server closes the connection";
    for (const id of [...this.#streams.keys()]) if (id > last) this.#end(id, reason);
    for (const requestId of this.#waiting.keys()) this.#fail(requestId, reason);
    this.#waiting.clear();
    if (this.#streams.size === 0) this.close(reason);
  }

  #finish(id: number, stream: Stream): void {
    const { requestId, status, contentType } = stream;
    if (status === undefined) return this.#end(id, "the server answered without a status");
    const body = joined(stream.chunks, stream.length);
    this.#events.push({ tag: "answer", requestId, status, contentType, body });
    this.#remove(id);
  }

  #end(id: number, reason: string): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    this.#fail(stream.requestId, reason);
    this.#remove(id);
  }

  #reset(id: number): void {
    this.#sendNumber(Frame.RST_STREAM, id, CANCEL);
    this.#remove(id);
  }

  #remove(id: number): void {
    this.#streams.delete(id);
    if (this.#isGoingAway && this.#streams.size === 0) {
      this.close("the server closes the connection");
    } else this.#startWaiting();
  }

  #fail(requestId: number, reason: string): void {
    this.#events.push({ tag: "failed", requestId, reason });
  }
}

/** A payload without its padding and its first `skip` bytes; undefined when it is too short. */
function withoutPadding(flags: number, payload: Uint8Array, skip: number): Uint8Array | undefined {
  const isPadded = (flags & FrameFlag.PADDED) !== 0;
  const start = (isPadded ? 1 : 0) + skip;
  const end = payload.length - (isPadded ? payload[0] ?? 0 : 0);
  return start <= end ? payload.subarray(start, end) : undefined;
}

function joined(parts: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
