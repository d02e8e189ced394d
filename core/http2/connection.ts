/**
 * One HTTP/2 connection of a client, without its socket: small requests, small answers.
 *
 *     we    preface SETTINGS   HEADERS DATA…   SETTINGS+ack  PING+ack  WINDOW_UPDATE…
 *     they  SETTINGS  WINDOW_UPDATE…   HEADERS CONTINUATION… DATA… HEADERS (trailers)  … GOAWAY
 *
 *     request() ─► waiting ─ a stream is free ─► open ─ END_STREAM ─► response
 *                     └───────── reset, GOAWAY, broken rules, close() ──► failed
 *
 * DNS over HTTPS asks many times over one connection, OTLP once over each. Why neither `fetch` nor
 * `node:http2` serves them: `docs/decisions/0003-otlp-is-written-here.md` and
 * `docs/decisions/0004-http2-for-dns-is-written-here.md`.
 *
 * Whatever the server sends, memory is bounded: per request an answer of {@link MAX_BODY_LENGTH} and
 * its headers, for the connection a frame, a header block and {@link MAX_REPLIES} frames that wait to
 * be sent. What brings no request forward is counted, and past a limit the connection ends. Time is
 * bounded by whoever owns the connection.
 *
 * Spec: RFC 9113, client side. Left out: pushes (switched off), priorities, dynamic header tables
 * (size zero), answers of more than 64 KiB, a GOAWAY of our own: we just close.
 * @module
 */

import { readU16, readU32, utf8 } from "../bytes/mod.ts";
import {
  contentOf,
  DEFAULT_FRAME_LENGTH,
  DEFAULT_WINDOW,
  ErrorCode,
  Flag,
  type Frame,
  FrameReader,
  FrameType,
  LARGEST_FRAME_LENGTH,
  LARGEST_WINDOW,
  Setting,
  writeFrame,
  writeNumberFrame,
  writeSettings,
} from "./frame.ts";
import {
  decodeHeaders,
  encodeHeaders,
  type HeaderList,
  type HeaderMap,
  NO_DYNAMIC_TABLE,
} from "./hpack.ts";

/** Where all requests of a connection go. */
export interface Http2Options {
  /** Of the URLs. */
  readonly scheme: "http" | "https";
  /** Host, and port if it is not that of the scheme. */
  readonly authority: string;
}

/** A request; its method is POST. */
export interface Http2Request {
  /** Path and query. */
  readonly path: string;
  /** Names in lower case, without pseudo-headers. */
  readonly headers: HeaderList;
  /** Must not change while the request waits. */
  readonly body: Uint8Array;
}

/** An answer. */
export interface Http2Response {
  /** Three digits. */
  readonly status: number;
  /** Its headers. */
  readonly headers: HeaderMap;
  /** What came behind the body; empty if nothing did. */
  readonly trailers: HeaderMap;
  /** Its content. */
  readonly body: Uint8Array;
}

/** What came of a request, or of the connection. */
export type Http2Event =
  | {
    /** An answer is complete. */
    readonly tag: "response";
    /** To which request. */
    readonly requestId: number;
    /** The answer. */
    readonly response: Http2Response;
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
export const MAX_BODY_LENGTH = 65_535;
/** Replies (acknowledgements, room given back) that may wait to be sent. */
export const MAX_REPLIES = 1000;
/** Frames that bring no request forward: so many at most, and so many more with each request. */
export const MAX_IDLE_FRAMES = 10_000;

const IDLE_FRAMES_PER_REQUEST = 1000;
const PREFACE = utf8("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
/** A header block, as it comes. */
const MAX_BLOCK_LENGTH = 16_384;
/** Parts of one: without content they would never reach its limit. */
const MAX_BLOCK_PARTS = 64;
/** A header block, unfolded. */
const MAX_HEADER_LIST = 32_768;
/** Requests at a time, however many the server would take. */
const MAX_STREAMS = 256;
const DEFAULT_STREAMS = 100;
/** So often a request is sent again that the server would not look at. */
const MAX_REFUSALS = 3;
const MAX_STREAM_ID = 0x7fff_fff0;
const NO_HEADERS: HeaderMap = new Map();

/** A request that waits for a stream. */
interface Waiting {
  readonly request: Http2Request;
  /** How often the server has turned it away without looking at it. */
  readonly refusals: number;
}

/** A request that was sent, at least in part. */
interface Stream {
  readonly requestId: number;
  readonly waited: Waiting;
  /** What of the request's body waits until there is room; undefined once all is sent. */
  unsent: Uint8Array | undefined;
  /** What the server has room for; below zero after it has reduced its windows. */
  window: number;
  status: number | undefined;
  headers: HeaderMap;
  trailers: HeaderMap | undefined;
  readonly body: Body;
}

/** A header block that goes on in the next frame. */
interface HeaderBlock {
  readonly stream: number;
  readonly isEnd: boolean;
  readonly parts: Uint8Array[];
  length: number;
}

/** See the head of this file. After every call, drain {@link pollOutput} and {@link pollEvent}. */
export class Http2Connection {
  readonly #options: Http2Options;
  readonly #output: Uint8Array[] = [];
  readonly #events: Http2Event[] = [];
  readonly #frames = new FrameReader();
  readonly #streams = new Map<number, Stream>();
  readonly #waiting = new Map<number, Waiting>();
  #block: HeaderBlock | undefined;
  #replies = 0;
  #idleFramesLeft = MAX_IDLE_FRAMES;
  #nextRequestId = 0;
  #nextStreamId = 1;
  #maxStreams = DEFAULT_STREAMS;
  #window = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;
  #frameLimit = DEFAULT_FRAME_LENGTH;
  /** Why the server takes no more requests. */
  #farewell: string | undefined;
  #isClosed = false;

  /** A connection whose socket was just opened. */
  constructor(options: Http2Options) {
    this.#options = options;
    this.#output.push(
      PREFACE,
      writeSettings([
        [Setting.HEADER_TABLE_SIZE, 0],
        [Setting.ENABLE_PUSH, 0],
        [Setting.INITIAL_WINDOW_SIZE, MAX_BODY_LENGTH + 1],
        [Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST],
      ]),
    );
  }

  /** Whether new requests have a chance. */
  get isUsable(): boolean {
    return !this.#isClosed && this.#farewell === undefined && this.#nextStreamId < MAX_STREAM_ID;
  }

  /** Sends a request, as soon as the server takes it. @returns what its end is told by */
  request(request: Http2Request): number {
    const requestId = this.#nextRequestId++;
    this.#idleFramesLeft = Math.min(
      this.#idleFramesLeft + IDLE_FRAMES_PER_REQUEST,
      MAX_IDLE_FRAMES,
    );
    if (!this.isUsable) {
      this.#fail(requestId, "the connection was closed");
    } else {
      this.#waiting.set(requestId, { request, refusals: 0 });
      this.#startWaiting();
    }
    return requestId;
  }

  /** Nobody wants that answer any more; nothing is told of it. */
  cancel(requestId: number): void {
    if (this.#waiting.delete(requestId)) return;
    for (const [id, stream] of this.#streams) {
      if (stream.requestId === requestId) this.#reset(id, ErrorCode.CANCEL);
    }
  }

  /** Takes bytes of the server, however they are cut. @param bytes borrowed for this call */
  handleBytes(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#frames.add(bytes);
    while (!this.#isClosed) {
      const frame = this.#frames.next();
      if (frame === undefined) return;
      if (frame === "too-long") return this.#break("a frame is too long");
      this.#handleFrame(frame);
    }
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

  /** The next bytes to send. Ask only when they can be sent: what waits here is bounded. */
  pollOutput(): Uint8Array | undefined {
    const bytes = this.#output.shift();
    if (this.#output.length === 0) this.#replies = 0;
    return bytes;
  }

  /** The next thing to know. */
  pollEvent(): Http2Event | undefined {
    return this.#events.shift();
  }

  // ---- out

  #startWaiting(): void {
    for (const [requestId, waiting] of this.#waiting) {
      if (this.#streams.size >= this.#maxStreams || !this.isUsable) return;
      this.#waiting.delete(requestId);
      this.#start(requestId, waiting);
    }
  }

  #start(requestId: number, waited: Waiting): void {
    const { path, headers, body } = waited.request;
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    const { scheme, authority } = this.#options;
    const block = encodeHeaders([
      [":method", "POST"],
      [":scheme", scheme],
      [":authority", authority],
      [":path", path],
      ...headers,
    ]);
    // Once for the connection: servers that shrink the table wait for the word that it did.
    this.#sendBlock(id, id === 1 ? joined([new Uint8Array([NO_DYNAMIC_TABLE]), block]) : block);
    const stream: Stream = {
      requestId,
      waited,
      unsent: body,
      window: this.#initialWindow,
      status: undefined,
      headers: NO_HEADERS,
      trailers: undefined,
      body: new Body(),
    };
    this.#streams.set(id, stream);
    this.#sendBody(id, stream);
  }

  #sendBlock(id: number, block: Uint8Array): void {
    for (let at = 0; at < block.length; at += DEFAULT_FRAME_LENGTH) {
      const part = block.subarray(at, at + DEFAULT_FRAME_LENGTH);
      const flags = at + part.length === block.length ? Flag.END_HEADERS : 0;
      const type = at === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
      this.#output.push(writeFrame(type, flags, id, part));
    }
  }

  #sendBodies(): void {
    for (const [id, stream] of this.#streams) this.#sendBody(id, stream);
  }

  /** Sends as much of a body as the server has room for; the last part ends our half. */
  #sendBody(id: number, stream: Stream): void {
    while (stream.unsent !== undefined) {
      const room = Math.min(this.#window, stream.window, this.#frameLimit);
      const part = stream.unsent.subarray(0, Math.max(0, room));
      if (part.length === 0 && stream.unsent.length > 0) return;
      this.#window -= part.length;
      stream.window -= part.length;
      const isLast = part.length === stream.unsent.length;
      stream.unsent = isLast ? undefined : stream.unsent.subarray(part.length);
      this.#output.push(writeFrame(FrameType.DATA, isLast ? Flag.END_STREAM : 0, id, part));
    }
  }

  /** Queues what the server made us send. */
  #reply(frame: Uint8Array): void {
    this.#output.push(frame);
    if (++this.#replies > MAX_REPLIES) this.close("the server asks but does not listen");
  }

  // ---- in

  #handleFrame(frame: Frame): void {
    const { type, flags, stream, payload } = frame;
    // A header block is not interrupted (§4.3).
    const block = this.#block;
    if (block && (type !== FrameType.CONTINUATION || stream !== block.stream)) {
      return this.#break("a header block is interrupted");
    }
    if (this.#idleFramesLeft-- === 0) return this.close("the server sends what nobody asked for");
    switch (type) {
      case FrameType.DATA:
        return this.#handleData(frame);
      case FrameType.HEADERS:
        return this.#handleHeaders(frame);
      case FrameType.CONTINUATION:
        if (!block) return this.#break("a header block has no beginning");
        return this.#addToBlock(block, flags, payload);
      case FrameType.RST_STREAM:
        if (payload.length !== 4 || stream === 0) return this.#break("a reset is broken");
        return this.#handleReset(stream, readU32(payload, 0));
      case FrameType.SETTINGS:
        return this.#handleSettings(frame);
      case FrameType.PING:
        if (payload.length !== 8 || stream !== 0) return this.#break("a ping is broken");
        if ((flags & Flag.ACK) !== 0) return;
        return this.#reply(writeFrame(FrameType.PING, Flag.ACK, 0, payload));
      case FrameType.GOAWAY:
        return this.#handleGoAway(frame);
      case FrameType.WINDOW_UPDATE:
        return this.#handleWindowUpdate(frame);
      case FrameType.PUSH_PROMISE:
        return this.#break("something was pushed");
      default: // priorities, and what newer servers may send (§5.5)
        return;
    }
  }

  #handleData(frame: Frame): void {
    const { flags, stream: id, payload } = frame;
    const data = contentOf(frame);
    if (!data || id === 0) return this.#break("a body is broken");
    // All of it counts for the connection's window, also what nobody wants.
    if (payload.length > 0) {
      this.#reply(writeNumberFrame(FrameType.WINDOW_UPDATE, 0, payload.length));
    }
    const stream = this.#streams.get(id);
    if (!stream) return;
    if (stream.status === undefined) return this.#refuse(id, "the answer has no status");
    if (data.length > 0) this.#idleFramesLeft++;
    if (!stream.body.add(data)) return this.#refuse(id, "the answer is too long");
    if ((flags & Flag.END_STREAM) !== 0) return this.#finish(id, stream);
    // The stream's window is for the content alone.
    const padding = payload.length - data.length;
    if (padding > 0) this.#reply(writeNumberFrame(FrameType.WINDOW_UPDATE, id, padding));
  }

  #handleHeaders(frame: Frame): void {
    const { flags, stream } = frame;
    const fragment = contentOf(frame);
    if (!fragment || stream === 0) return this.#break("a header block is broken");
    const isEnd = (flags & Flag.END_STREAM) !== 0;
    const block = this.#block = { stream, isEnd, parts: [], length: 0 };
    this.#addToBlock(block, flags, fragment);
  }

  #addToBlock(block: HeaderBlock, flags: number, fragment: Uint8Array): void {
    block.parts.push(fragment.slice());
    block.length += fragment.length;
    if (block.length > MAX_BLOCK_LENGTH || block.parts.length > MAX_BLOCK_PARTS) {
      return this.#break("the headers are too long");
    }
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const headers = decodeHeaders(joined(block.parts), MAX_HEADER_LIST);
    if (!headers) return this.#break("the headers are broken");
    const stream = this.#streams.get(block.stream);
    if (stream) this.#takeHeaders(block.stream, stream, headers, block.isEnd);
  }

  #takeHeaders(id: number, stream: Stream, headers: HeaderMap, isEnd: boolean): void {
    if (stream.status !== undefined) {
      if (!isEnd) return this.#refuse(id, "the answer has trailers without an end");
      stream.trailers = headers;
      return this.#finish(id, stream);
    }
    const status = headers.get(":status") ?? "";
    const isInterim = status.startsWith("1");
    if (!/^[1-9]\d\d$/.test(status) || isInterim && isEnd) {
      return this.#refuse(id, "the answer has no status");
    }
    if (isInterim) return; // announces the true one
    stream.status = Number(status);
    stream.headers = headers;
    if (isEnd) this.#finish(id, stream);
  }

  #handleReset(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    const { request, refusals } = stream.waited;
    if (code === ErrorCode.REFUSED_STREAM && refusals < MAX_REFUSALS && this.isUsable) {
      // It was not looked at (§8.7): more were sent than the server takes, before it could say so.
      this.#waiting.set(stream.requestId, { request, refusals: refusals + 1 });
      return this.#remove(id);
    }
    this.#end(id, `the server reset the request with HTTP/2 error ${code}`);
  }

  #handleSettings({ flags, stream, payload }: Frame): void {
    if (stream !== 0 || payload.length % 6 !== 0) return this.#break("a setting is broken");
    if ((flags & Flag.ACK) !== 0) return;
    for (let at = 0; at < payload.length; at += 6) {
      const value = readU32(payload, at + 2);
      switch (readU16(payload, at)) {
        case Setting.MAX_CONCURRENT_STREAMS:
          this.#maxStreams = Math.min(value, MAX_STREAMS);
          break;
        case Setting.INITIAL_WINDOW_SIZE:
          if (!this.#changeInitialWindow(value)) return this.#break("a window is broken");
          break;
        case Setting.MAX_FRAME_SIZE:
          if (value < DEFAULT_FRAME_LENGTH || value > LARGEST_FRAME_LENGTH) {
            return this.#break("a setting is broken");
          }
          this.#frameLimit = value;
      }
    }
    this.#reply(writeFrame(FrameType.SETTINGS, Flag.ACK, 0, new Uint8Array()));
    this.#sendBodies();
    this.#startWaiting();
  }

  /** Streams that exist change with it (§6.9.2). */
  #changeInitialWindow(value: number): boolean {
    const change = value - this.#initialWindow;
    this.#initialWindow = value;
    for (const stream of this.#streams.values()) {
      stream.window += change;
      if (stream.window > LARGEST_WINDOW) return false;
    }
    return value <= LARGEST_WINDOW;
  }

  #handleWindowUpdate({ stream: id, payload }: Frame): void {
    if (payload.length !== 4) return this.#break("a window is broken");
    const more = readU32(payload, 0) & 0x7fff_ffff;
    if (id === 0) {
      this.#window += more;
      if (more === 0 || this.#window > LARGEST_WINDOW) return this.#break("a window is broken");
      return this.#sendBodies();
    }
    const stream = this.#streams.get(id);
    if (!stream) return;
    stream.window += more;
    if (more > 0 && stream.window <= LARGEST_WINDOW) return this.#sendBody(id, stream);
    const code = more === 0 ? ErrorCode.PROTOCOL_ERROR : ErrorCode.FLOW_CONTROL_ERROR;
    this.#refuse(id, "the server's window is broken", code);
  }

  /** Requests up to the named one are still answered, others never were looked at (§6.8). */
  #handleGoAway({ stream, payload }: Frame): void {
    if (payload.length < 8 || stream !== 0) return this.#break("a farewell is broken");
    const last = readU32(payload, 0) & 0x7fff_ffff;
    const code = readU32(payload, 4);
    const reason = code === ErrorCode.NO_ERROR
      ? "the server closes the connection"
      : `the server closes the connection with HTTP/2 error ${code}`;
    this.#farewell ??= reason;
    for (const id of [...this.#streams.keys()]) if (id > last) this.#end(id, reason);
    for (const requestId of this.#waiting.keys()) this.#fail(requestId, reason);
    this.#waiting.clear();
    if (this.#streams.size === 0) this.close(reason);
  }

  // ---- ends

  #finish(id: number, stream: Stream): void {
    const { requestId, status, headers, trailers = NO_HEADERS, unsent } = stream;
    const response = { status: status!, headers, trailers, body: stream.body.take() };
    this.#events.push({ tag: "response", requestId, response });
    // The server has its reasons not to wait for the rest of the request (§8.1).
    if (unsent !== undefined) this.#reset(id, ErrorCode.NO_ERROR);
    else this.#remove(id);
  }

  #end(id: number, reason: string): void {
    const stream = this.#streams.get(id);
    if (!stream) return;
    this.#fail(stream.requestId, reason);
    this.#remove(id);
  }

  /** Ends a request whose answer is of no use. */
  #refuse(id: number, reason: string, code: number = ErrorCode.CANCEL): void {
    this.#fail(this.#streams.get(id)!.requestId, reason);
    this.#reset(id, code);
  }

  #reset(id: number, code: number): void {
    this.#output.push(writeNumberFrame(FrameType.RST_STREAM, id, code));
    this.#remove(id);
  }

  #remove(id: number): void {
    this.#streams.delete(id);
    if (this.#farewell !== undefined && this.#streams.size === 0) this.close(this.#farewell);
    else this.#startWaiting();
  }

  #fail(requestId: number, reason: string): void {
    this.#events.push({ tag: "failed", requestId, reason });
  }

  /** The server broke the rules in a way that nothing can be understood after. */
  #break(what: string): void {
    this.close(`the server does not speak HTTP/2 as it should: ${what}`);
  }
}

/** The content of an answer; takes as much memory as it has bytes, however small its parts. */
class Body {
  #bytes = new Uint8Array();
  #length = 0;

  /** Copies a part; false when all would be longer than {@link MAX_BODY_LENGTH}. */
  add(part: Uint8Array): boolean {
    const length = this.#length + part.length;
    if (length > MAX_BODY_LENGTH) return false;
    if (length > this.#bytes.length) {
      const larger = new Uint8Array(Math.min(Math.max(length, 2 * this.#length), MAX_BODY_LENGTH));
      larger.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = larger;
    }
    this.#bytes.set(part, this.#length);
    this.#length = length;
    return true;
  }

  take(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
