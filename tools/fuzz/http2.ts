/**
 * A hostile HTTP/2 server: frames of any kind, in any order, cut anywhere, between requests of ours.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readU16, readU32, writeU16, writeU32 } from "@firezone/core/bytes";
import { Http2Connection, MAX_BODY_LENGTH } from "@firezone/core/http2";
import type { Coverage, FuzzTarget } from "./target.ts";

const TYPE = { data: 0, headers: 1, settings: 4, ping: 6, goAway: 7, windowUpdate: 8 } as const;
const INITIAL_WINDOW_SIZE = 4;
const DEFAULT_WINDOW = 65_535;
const LARGEST_WINDOW = 2 ** 31 - 1;

type Step =
  | { readonly tag: "request"; readonly length: number }
  | { readonly tag: "cancel"; readonly index: number }
  | { readonly tag: "bytes"; readonly bytes: Uint8Array; readonly cut: number };

/** Status 200; trailers; a literal; an index that does not exist; a length past the end. */
const BLOCKS = ["88", "000161016200", "0801ff", "be", "007f", "20"].map((hex) =>
  Uint8Array.fromHex(hex)
);

const payloads = fc.oneof(
  fc.constantFrom(...BLOCKS),
  fc.tuple(fc.integer({ min: 1, max: 6 }), fc.oneof(fc.nat(70_000), fc.nat(0xffff_ffff)))
    .map(([id, value]) => setting(id, value)),
  fc.oneof(fc.nat(70_000), fc.nat(LARGEST_WINDOW)).map(u32),
  fc.nat(16_384).map((length) => new Uint8Array(length)),
  fc.uint8Array({ maxLength: 20 }),
);
const streams = fc.constantFrom(1, 1, 3, 5);
const OK = BLOCKS[0]!;
/** What a server might well send. */
const soundFrames = fc.oneof(
  fc.tuple(fc.constantFrom(4, 4, 5), streams, fc.constantFrom(...BLOCKS.slice(0, 2), OK, OK))
    .map(([flags, stream, block]) => frame(TYPE.headers, flags, stream, block)),
  fc.tuple(fc.constantFrom(0, 1), streams, fc.nat(16_384))
    .map(([flags, stream, length]) => frame(TYPE.data, flags, stream, new Uint8Array(length))),
  fc.tuple(fc.integer({ min: 1, max: 4 }), fc.nat(70_000))
    .map(([id, value]) => frame(TYPE.settings, 0, 0, setting(id, value))),
  fc.tuple(fc.oneof(fc.constant(0), streams), fc.integer({ min: 1, max: 70_000 }))
    .map(([stream, more]) => frame(TYPE.windowUpdate, 0, stream, u32(more))),
  fc.constant(frame(TYPE.ping, 0, 0, new Uint8Array(8))),
  streams.map((last) => frame(TYPE.goAway, 0, 0, new Uint8Array([0, 0, 0, last, 0, 0, 0, 0]))),
);
const wildFrames = fc.record({
  type: fc.oneof({ weight: 9, arbitrary: fc.nat(9) }, { weight: 1, arbitrary: fc.nat(255) }),
  flags: fc.oneof(fc.constantFrom(0, 1, 4, 5), fc.nat(255)),
  stream: fc.oneof(fc.constantFrom(0, 1, 1, 3, 5), fc.nat(LARGEST_WINDOW)),
  payload: payloads,
}).map(({ type, flags, stream, payload }) => frame(type, flags, stream, payload));
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ tag: fc.constant("request" as const), length: fc.nat(100_000) }),
  fc.record({ tag: fc.constant("cancel" as const), index: fc.nat(9) }),
  {
    weight: 8,
    arbitrary: fc.record({
      tag: fc.constant("bytes" as const),
      bytes: fc.oneof(
        { weight: 20, arbitrary: soundFrames },
        { weight: 2, arbitrary: wildFrames },
        { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }) },
      ),
      cut: fc.nat(30),
    }),
  },
);

/** Nothing throws, every request has one end, and no more is sent than the server has room for. */
export const http2Target: FuzzTarget = {
  name: "http2",
  description: "a client of HTTP/2 with frames of a hostile server",
  property: (coverage) =>
    fc.property(fc.array(steps, { maxLength: 60 }), (list) => {
      const run = new Run(coverage);
      for (const step of list) run.do(step);
      run.end();
    }),
};

/** A connection, and what has to hold of it. */
class Run {
  readonly #http = new Http2Connection({ scheme: "https", authority: "server.example" });
  readonly #coverage: Coverage;
  readonly #open = new Set<number>();
  readonly #windows = new Map<number, number>();
  /** Of bytes that the server has begun a frame with, so that the model cuts as we do. */
  #partial: Uint8Array = new Uint8Array();
  #window = DEFAULT_WINDOW;
  #initialWindow = DEFAULT_WINDOW;

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
  }

  do(step: Step): void {
    switch (step.tag) {
      case "request": {
        const body = new Uint8Array(step.length);
        this.#open.add(this.#http.request({ path: "/", headers: [["a", "b"]], body }));
        break;
      }
      case "cancel": {
        const id = [...this.#open][step.index];
        if (id === undefined) return;
        this.#http.cancel(id);
        this.#open.delete(id);
        break;
      }
      case "bytes":
        this.#feed(step.bytes.subarray(0, step.cut));
        this.#feed(step.bytes.subarray(step.cut));
    }
    this.#drain();
  }

  end(): void {
    this.#http.close("the end");
    this.#drain();
    assertEquals(this.#open.size, 0, "a request without an end");
    assert(!this.#http.isUsable);
    assertEquals(this.#http.pollEvent(), undefined);
  }

  /** One frame at a time, since windows are compared with what was sent before the next. */
  #feed(bytes: Uint8Array): void {
    let rest = new Uint8Array([...this.#partial, ...bytes]);
    let fed = this.#partial.length;
    while (rest.length >= 9) {
      const end = 9 + (readU32(rest, 0) >>> 8);
      if (end > rest.length) break;
      this.#take(rest.subarray(0, end));
      this.#http.handleBytes(rest.subarray(fed, end));
      this.#drain();
      rest = rest.slice(end);
      fed = 0;
    }
    this.#http.handleBytes(rest.subarray(fed));
    this.#partial = rest;
  }

  /** What a frame changes in the windows, if it is a sound one. */
  #take(bytes: Uint8Array): void {
    const [type, flags, stream] = [bytes[3]!, bytes[4]!, readU32(bytes, 5) & LARGEST_WINDOW];
    const payload = bytes.subarray(9);
    if (type === TYPE.windowUpdate && payload.length === 4) {
      const more = readU32(payload, 0) & LARGEST_WINDOW;
      if (stream === 0) this.#window += more;
      else this.#windows.set(stream, (this.#windows.get(stream) ?? 0) + more);
    }
    if (type !== TYPE.settings || (flags & 1) !== 0) return;
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (readU16(payload, at) !== INITIAL_WINDOW_SIZE) continue;
      const value = readU32(payload, at + 2);
      for (const [id, window] of this.#windows) {
        this.#windows.set(id, window + value - this.#initialWindow);
      }
      this.#initialWindow = value;
    }
  }

  #drain(): void {
    for (let bytes; (bytes = this.#http.pollOutput()) !== undefined;) {
      const [type, stream] = [bytes[3]!, readU32(bytes, 5)];
      if (bytes[0] === 0x50) continue; // the preface
      assertEquals(readU32(bytes, 0) >>> 8, bytes.length - 9, "length of a frame");
      if (type === TYPE.headers) this.#windows.set(stream, this.#initialWindow);
      if (type !== TYPE.data) continue;
      const length = bytes.length - 9;
      const window = this.#windows.get(stream)!;
      assert(
        length === 0 || length <= Math.min(window, this.#window),
        "more than there is room for",
      );
      this.#windows.set(stream, window - length);
      this.#window -= length;
      this.#coverage.hit("data sent");
    }
    for (let event; (event = this.#http.pollEvent()) !== undefined;) {
      const reason = event.tag === "response" ? "" : `: ${event.reason.replace(/ \d+$/, "")}`;
      this.#coverage.hit(event.tag + reason);
      if (event.tag === "closed") continue;
      assert(this.#open.delete(event.requestId), "a second end, or none that was asked for");
      if (event.tag === "response") assert(event.response.body.length <= MAX_BODY_LENGTH);
    }
  }
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  writeU32(bytes, 0, payload.length << 8 | type);
  bytes[4] = flags;
  writeU32(bytes, 5, stream);
  bytes.set(payload, 9);
  return bytes;
}

function setting(id: number, value: number): Uint8Array {
  const bytes = new Uint8Array(6);
  writeU16(bytes, 0, id);
  writeU32(bytes, 2, value);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}
