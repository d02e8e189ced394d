import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readU32, utf8Text, writeU16, writeU32 } from "../../bytes/mod.ts";
import { parseHeaders, writeHeaders } from "./hpack.ts";
import { Http2Exchange, MAX_BODY_LENGTH } from "./http2_exchange.ts";

const DATA = 0;
const HEADERS = 1;
const RESET = 3;
const SETTINGS = 4;
const PUSH = 5;
const PING = 6;
const GO_AWAY = 7;
const WINDOW = 8;
const CONTINUATION = 9;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const OK = writeHeaders([[":status", "200"], ["content-type", "application/grpc"]]);
const TRAILERS = writeHeaders([["grpc-status", "0"]]);

Deno.test("a request is preface, settings, headers and body", () => {
  const exchange = start("hello");
  const [preface, ...frames] = takeFrames(exchange, true);
  assertEquals(preface, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  assertEquals(frames.map((f) => [f.type, f.flags, f.stream]), [
    [SETTINGS, 0, 0],
    [HEADERS, END_HEADERS, 1],
    [DATA, END_STREAM, 1],
  ]);
  // No dynamic table, no pushes.
  assertEquals([...frames[0]!.payload], [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
  assertEquals(Object.fromEntries(parseHeaders(frames[1]!.payload)!), {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "collector:4317",
    ":path": "/service",
    "te": "trailers",
  });
  assertEquals(utf8Text(frames[2]!.payload), "hello");
  assertEquals(takeFrames(exchange), []);
});

Deno.test("headers, body and trailers make the answer, however they are framed", () => {
  const padded = new Uint8Array([2, 7, 8, 0, 0]);
  const prioritised = new Uint8Array([0, 0, 0, 0, 16, ...OK]);
  const cases: [string, Uint8Array[]][] = [
    ["plain", [
      frame(HEADERS, END_HEADERS, 1, OK),
      frame(DATA, 0, 1, new Uint8Array([7, 8])),
      frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
    ]],
    ["padded, with priority, among frames of no interest", [
      frame(SETTINGS, 0, 0, new Uint8Array()),
      frame(HEADERS, END_HEADERS | 32, 1, prioritised),
      frame(0x77, 0xff, 1, new Uint8Array(9)),
      frame(DATA, 8, 1, padded),
      frame(DATA, 0, 3, new Uint8Array(9)),
      frame(2, 0, 1, new Uint8Array(5)),
      frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
    ]],
    ["in pieces", [
      frame(HEADERS, 0, 1, OK.subarray(0, 3)),
      frame(CONTINUATION, 0, 1, OK.subarray(3, 10)),
      frame(CONTINUATION, END_HEADERS, 1, OK.subarray(10)),
      frame(DATA, 0, 1, new Uint8Array([7])),
      frame(DATA, 0, 1, new Uint8Array([8])),
      frame(HEADERS, END_STREAM, 1, TRAILERS.subarray(0, 5)),
      frame(CONTINUATION, END_HEADERS, 1, TRAILERS.subarray(5)),
    ]],
  ];
  for (const [name, frames] of cases) {
    const bytes = concat(frames);
    for (const step of [bytes.length, 1, 7]) {
      const exchange = start("x");
      for (let at = 0; at < bytes.length; at += step) {
        assertEquals(exchange.result, undefined);
        exchange.handle(bytes.subarray(at, at + step));
      }
      const { result } = exchange;
      assert(result?.tag === "response", name);
      assertEquals([result.status, [...result.body]], [200, [7, 8]]);
      assertEquals(Object.fromEntries(result.headers), {
        ":status": "200",
        "content-type": "application/grpc",
        "grpc-status": "0",
      });
    }
  }
});

Deno.test("an answer may be headers alone, or end with its data", () => {
  const first = start("x");
  first.handle(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(first.result?.tag, "response");
  const second = start("x");
  second.handle(frame(HEADERS, END_HEADERS, 1, OK));
  second.handle(frame(DATA, END_STREAM, 1, new Uint8Array()));
  assertEquals(second.result?.tag, "response");
});

Deno.test("a body is sent as far as there is room, and the rest when there is more", () => {
  const exchange = start("x".repeat(200_000));
  const sent = () => {
    const frames = takeFrames(exchange).filter((f) => f.type === DATA);
    assert(frames.every((f) => f.payload.length <= 16_384));
    return {
      length: frames.reduce((sum, f) => sum + f.payload.length, 0),
      isOver: frames.some((f) => (f.flags & END_STREAM) !== 0),
    };
  };
  assertEquals(sent(), { length: 65_535, isOver: false });
  exchange.handle(frame(WINDOW, 0, 1, u32(50_000)));
  assertEquals(sent(), { length: 0, isOver: false });
  exchange.handle(frame(WINDOW, 0, 0, u32(1_000_000)));
  assertEquals(sent(), { length: 50_000, isOver: false });
  // The room that streams begin with is changed, for those that exist too.
  exchange.handle(frame(SETTINGS, 0, 0, setting(4, 65_535 + 10)));
  assertEquals(sent(), { length: 10, isOver: false });
  exchange.handle(frame(SETTINGS, 0, 0, setting(4, 0)));
  exchange.handle(frame(WINDOW, 0, 1, u32(65_545)));
  assertEquals(sent(), { length: 0, isOver: false });
  exchange.handle(frame(WINDOW, 0, 3, u32(1_000_000)));
  exchange.handle(frame(WINDOW, 0, 1, u32(2 ** 31 - 1)));
  assertEquals(sent(), { length: 200_000 - 65_535 - 50_010, isOver: true });
});

Deno.test("settings and pings are acknowledged, acknowledgements are not", () => {
  const exchange = start("x");
  takeFrames(exchange, true);
  const ping = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
  exchange.handle(frame(SETTINGS, 0, 0, setting(3, 100)));
  exchange.handle(frame(PING, 0, 0, ping));
  exchange.handle(frame(SETTINGS, ACK, 0, new Uint8Array()));
  exchange.handle(frame(PING, ACK, 0, ping));
  assertEquals(takeFrames(exchange).map((f) => [f.type, f.flags, f.payload.length]), [
    [SETTINGS, ACK, 0],
    [PING, ACK, 8],
  ]);
});

Deno.test("what breaks the rules, or gives up, fails with its reason", () => {
  const headers = frame(HEADERS, END_HEADERS, 1, OK);
  const many = Array.from({ length: 100 }, () => frame(CONTINUATION, 0, 1, new Uint8Array()));
  const cases: [string, ...Uint8Array[]][] = [
    ["the request was reset with HTTP/2 error 8", frame(RESET, 0, 1, u32(8))],
    ["a frame is broken", frame(RESET, 0, 1, new Uint8Array(1))],
    ["the connection was refused with HTTP/2 error 11", frame(GO_AWAY, 0, 0, twoU32(0, 11))],
    ["a frame is broken", frame(GO_AWAY, 0, 0, new Uint8Array(3))],
    ["something was pushed", frame(PUSH, 0, 1, new Uint8Array(9))],
    ["a frame is too long", new Uint8Array([0, 0x40, 1, 0, 0, 0, 0, 0, 1])],
    ["a frame is too long", new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["the answer is too long", headers, ...dataFrames(MAX_BODY_LENGTH + 1)],
    ["the headers are too long", frame(HEADERS, 0, 1, OK), ...many],
    ["the headers are broken", frame(HEADERS, END_HEADERS, 1, new Uint8Array([0xbe]))],
    ["a header block is interrupted", frame(HEADERS, 0, 1, OK), frame(PING, 0, 0, u32(0))],
    ["a header block has no beginning", frame(CONTINUATION, 0, 1, OK)],
    ["a frame is broken", headers, frame(DATA, 8, 1, new Uint8Array())],
    ["a frame is broken", headers, frame(DATA, 8, 1, new Uint8Array([1]))],
    ["a frame is broken", frame(HEADERS, END_HEADERS | 32, 1, new Uint8Array(4))],
    ["a frame is broken", frame(WINDOW, 0, 0, new Uint8Array(1))],
    ["a window is too large", frame(SETTINGS, 0, 0, setting(4, 2 ** 31))],
    ["the answer has no status", frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)],
    ["the answer has no status", frame(DATA, END_STREAM, 1, new Uint8Array())],
  ];
  for (const [reason, ...frames] of cases) {
    const exchange = start("x");
    for (const bytes of frames) exchange.handle(bytes);
    assertEquals(exchange.result, { tag: "failed", reason });
  }
  const exchange = start("x");
  exchange.handle(headers);
  exchange.handleEnd();
  assertEquals(exchange.result, { tag: "failed", reason: "the connection was closed" });
});

Deno.test("a connection that will end still answers", () => {
  const exchange = start("x");
  exchange.handle(frame(GO_AWAY, 0, 0, twoU32(1, 0)));
  exchange.handle(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(exchange.result?.tag, "response");
  exchange.handle(frame(RESET, 0, 1, u32(0)));
  exchange.handleEnd();
  assertEquals(exchange.result?.tag, "response");
});

Deno.test("any bytes, however they are cut, lead to the same end without throwing", () => {
  const plausible = fc.tuple(
    fc.integer({ min: 0, max: 10 }),
    fc.nat(255),
    fc.constantFrom(0, 1, 1, 1, 2 ** 31 - 1),
    fc.oneof(fc.constant(OK), fc.constant(TRAILERS), fc.uint8Array({ maxLength: 40 })),
  ).map(([type, flags, stream, payload]) => frame(type, flags, stream, payload));
  const bytes = fc.oneof(fc.uint8Array({ maxLength: 60 }), fc.array(plausible).map(concat));
  fc.assert(
    fc.property(bytes, fc.integer({ min: 1, max: 30 }), (bytes, step) => {
      const [whole, cut] = [start("hello"), start("hello")];
      whole.handle(bytes);
      for (let at = 0; at < bytes.length; at += step) cut.handle(bytes.subarray(at, at + step));
      assertEquals(cut.result, whole.result);
      assertEquals(cut.takeOutput(), whole.takeOutput());
      whole.handleEnd();
      assert(whole.result !== undefined);
    }),
    { numRuns: 500 },
  );
});

function start(body: string): Http2Exchange {
  return new Http2Exchange({
    authority: "collector:4317",
    path: "/service",
    headers: [["te", "trailers"]],
    body: new TextEncoder().encode(body),
  });
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  writeU32(bytes, 0, payload.length << 8 | type);
  bytes[4] = flags;
  writeU32(bytes, 5, stream);
  bytes.set(payload, 9);
  return bytes;
}

function dataFrames(length: number): Uint8Array[] {
  const frames = [];
  for (let at = 0; at < length; at += 16_384) {
    frames.push(frame(DATA, 0, 1, new Uint8Array(Math.min(16_384, length - at))));
  }
  return frames;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}

function twoU32(first: number, second: number): Uint8Array {
  return concat([u32(first), u32(second)]);
}

function setting(id: number, value: number): Uint8Array {
  const bytes = new Uint8Array(6);
  writeU16(bytes, 0, id);
  writeU32(bytes, 2, value);
  return bytes;
}

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** What an exchange sends; at its beginning the preface too. */
function takeFrames(exchange: Http2Exchange, withPreface: true): [string, ...Frame[]];
function takeFrames(exchange: Http2Exchange): Frame[];
function takeFrames(exchange: Http2Exchange, withPreface = false): (string | Frame)[] {
  let rest = exchange.takeOutput();
  const found: (string | Frame)[] = [];
  const hasPreface = rest[0] === 0x50;
  if (withPreface) found.push(utf8Text(rest.subarray(0, 24)));
  if (hasPreface) rest = rest.subarray(24);
  while (rest.length > 0) {
    const end = 9 + (readU32(rest, 0) >>> 8);
    const payload = rest.slice(9, end);
    found.push({ type: rest[3]!, flags: rest[4]!, stream: readU32(rest, 5), payload });
    rest = rest.subarray(end);
  }
  return found;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
