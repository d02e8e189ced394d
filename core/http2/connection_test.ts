import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { fromHex, readU32, utf8, utf8Text, writeU16, writeU32 } from "../bytes/mod.ts";
import {
  Http2Connection,
  type Http2Event,
  MAX_BODY_LENGTH,
  MAX_IDLE_FRAMES,
  MAX_REPLIES,
} from "./connection.ts";
import { writeFrame as frame } from "./frame.ts";
import { decodeHeaders, encodeHeaders } from "./hpack.ts";

const [DATA, HEADERS, PRIORITY, RESET, SETTINGS, PUSH, PING, GO_AWAY, WINDOW, CONTINUATION] = [
  ...Array(10).keys(),
] as [number, number, number, number, number, number, number, number, number, number];
const ACK = 1;
const END_STREAM = 1;
const END_HEADERS = 4;
const PADDED = 8;
const HAS_PRIORITY = 32;

const BODY = new Uint8Array([1, 2, 3]);
const EMPTY = new Uint8Array();
const OK = encodeHeaders([[":status", "200"], ["content-type", "application/grpc"]]);
const TRAILERS = encodeHeaders([["grpc-status", "0"]]);

Deno.test("a connection opens with its settings and sends requests at once", () => {
  const run = start();
  run.ask("hello");
  const [preface, ...bytes] = run.outputBytes();
  assertEquals(utf8Text(preface!), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const [settings, headers, data, ...others] = bytes.map(toFrame);
  // No dynamic table, no pushes, no more than 64 KiB of an answer and half of that of headers.
  const values = "000100000000" + "000200000000" + "000400010000" + "000600008000";
  assertEquals(settings, { type: SETTINGS, flags: 0, stream: 0, payload: fromHex(values)! });
  assertEquals([headers!.type, headers!.flags, headers!.stream], [HEADERS, END_HEADERS, 1]);
  assertEquals(Object.fromEntries(decodeHeaders(headers!.payload, 1000)!), {
    ":method": "POST",
    ":scheme": "http",
    ":authority": "collector:4317",
    ":path": "/service",
    "te": "trailers",
  });
  assertEquals(data, { type: DATA, flags: END_STREAM, stream: 1, payload: utf8("hello") });
  assertEquals(others, []);
});

Deno.test("the first header block says that the dynamic table has no room", () => {
  const run = start();
  run.ask();
  run.ask();
  const blocks = run.output().filter((f) => f.type === HEADERS).map((f) => f.payload[0]);
  assertEquals(blocks, [0x20, 0x83]);
});

Deno.test("headers, body and trailers make the answer, however they are framed", () => {
  const cases: [string, Uint8Array[]][] = [
    ["plain", [
      frame(HEADERS, END_HEADERS, 1, OK),
      frame(DATA, 0, 1, new Uint8Array([7, 8])),
      frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
    ]],
    ["padded, with priority, among frames of no interest", [
      frame(SETTINGS, 0, 0, EMPTY),
      frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, new Uint8Array([0, 0, 0, 0, 16, ...OK])),
      frame(0x77, 0xff, 1, new Uint8Array(9)),
      frame(DATA, PADDED, 1, new Uint8Array([2, 7, 8, 0, 0])),
      frame(DATA, 0, 1, EMPTY),
      frame(DATA, 0, 3, new Uint8Array(9)),
      frame(PRIORITY, 0, 1, new Uint8Array(5)),
      frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS),
    ]],
    ["in pieces", [
      frame(HEADERS, PADDED | HAS_PRIORITY, 1, new Uint8Array([1, 0, 0, 0, 0, 9, OK[0]!, 0])),
      frame(CONTINUATION, 0, 1, OK.subarray(1, 10)),
      frame(CONTINUATION, END_HEADERS, 1, OK.subarray(10)),
      frame(DATA, 0, 1, new Uint8Array([7])),
      frame(DATA, 0, 1, new Uint8Array([8])),
      frame(HEADERS, END_STREAM, 1, TRAILERS.subarray(0, 5)),
      frame(CONTINUATION, END_HEADERS, 1, TRAILERS.subarray(5)),
    ]],
  ];
  for (const [name, frames] of cases) {
    const bytes = concat(frames);
    for (const step of [bytes.length, 1, 2, 7]) {
      const run = start();
      const requestId = run.ask();
      for (let at = 0; at < bytes.length; at += step) {
        assertEquals(run.events(), []);
        run.http.handleBytes(bytes.subarray(at, at + step));
      }
      const [event, ...others] = run.events();
      assert(event?.tag === "response" && event.requestId === requestId, name);
      assertEquals(others, []);
      const { status, headers, trailers, body } = event.response;
      assertEquals([status, [...body]], [200, [7, 8]]);
      assertEquals([...headers], [[":status", "200"], ["content-type", "application/grpc"]]);
      assertEquals([...trailers], [["grpc-status", "0"]]);
    }
  }
});

Deno.test("an answer may be headers alone, or end with its data", () => {
  const first = start();
  first.ask();
  first.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(first.tags(), ["response"]);
  const second = start();
  second.ask();
  second.http.handleBytes(frame(HEADERS, END_HEADERS, 1, OK));
  second.http.handleBytes(frame(DATA, END_STREAM, 1, EMPTY));
  assertEquals(second.tags(), ["response"]);
});

Deno.test("a connection waits for the true status after an announcement", () => {
  const run = start();
  run.ask();
  for (const status of ["100", "103"]) {
    run.http.handleBytes(frame(HEADERS, END_HEADERS, 1, encodeHeaders([[":status", status]])));
  }
  const missing = encodeHeaders([[":status", "404"]]);
  run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, missing));
  assertEquals(run.events().map((e) => e.tag === "response" && e.response.status), [404]);
});

Deno.test("a connection keeps to the number of requests that the server takes", () => {
  const run = start();
  run.http.handleBytes(setting(3, 2));
  const ids = [1, 2, 3, 4].map(() => run.ask());
  const started = () => run.output().filter((f) => f.type === HEADERS).map((f) => f.stream);
  assertEquals(started(), [1, 3]);
  run.http.cancel(ids[2]!);
  run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(started(), [5]);
  assertEquals(run.events().map((e) => e.tag === "response" && e.requestId), [ids[0]!]);
  run.http.cancel(ids[1]!);
  assertEquals(run.output().map((f) => [f.type, f.stream]), [[RESET, 3]]);
});

Deno.test("a request that the server would not look at is sent again, but not for ever", () => {
  const run = start();
  const [first, second] = [run.ask("1"), run.ask("2")];
  run.output();
  run.http.handleBytes(setting(3, 1));
  run.http.handleBytes(frame(RESET, 0, 3, u32(7)));
  assertEquals(run.events(), []);
  assertEquals(run.output().filter((f) => f.type !== SETTINGS), []);
  run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(run.events().map((e) => e.tag === "response" && e.requestId), [first]);
  const [headers, data] = run.output();
  assertEquals([headers!.type, data], [HEADERS, {
    type: DATA,
    flags: END_STREAM,
    stream: 5,
    payload: utf8("2"),
  }]);
  for (const stream of [5, 7]) run.http.handleBytes(frame(RESET, 0, stream, u32(7)));
  assertEquals(run.events(), []);
  run.http.handleBytes(frame(RESET, 0, 9, u32(7)));
  const reason = "the server reset the request with HTTP/2 error 7";
  assertEquals(run.events(), [{ tag: "failed", requestId: second, reason }]);
});

Deno.test("a server that takes any number of requests gets them by the hundreds at most", () => {
  const run = start();
  run.http.handleBytes(setting(3, 0xffff_ffff));
  for (let i = 0; i < 1000; i++) run.ask();
  assertEquals(run.output().filter((f) => f.type === HEADERS).length, 256);
});

Deno.test("a body is sent as far as there is room, and the rest when there is more", () => {
  const run = start();
  run.ask("x".repeat(200_000));
  const sent = () => {
    const frames = run.output().filter((f) => f.type === DATA);
    assert(frames.every((f) => f.payload.length <= 16_384));
    return {
      length: frames.reduce((sum, f) => sum + f.payload.length, 0),
      isOver: frames.some((f) => (f.flags & END_STREAM) !== 0),
    };
  };
  assertEquals(sent(), { length: 65_535, isOver: false });
  run.http.handleBytes(frame(WINDOW, 0, 1, u32(50_000)));
  assertEquals(sent(), { length: 0, isOver: false });
  run.http.handleBytes(frame(WINDOW, 0, 0, u32(1_000_000)));
  assertEquals(sent(), { length: 50_000, isOver: false });
  // The room that streams begin with is changed, for those that exist too.
  run.http.handleBytes(setting(4, 65_535 + 10));
  assertEquals(sent(), { length: 10, isOver: false });
  run.http.handleBytes(setting(4, 0));
  run.http.handleBytes(frame(WINDOW, 0, 1, u32(65_545)));
  assertEquals(sent(), { length: 0, isOver: false });
  run.http.handleBytes(frame(WINDOW, 0, 3, u32(1_000_000)));
  run.http.handleBytes(frame(WINDOW, 0, 1, u32(2 ** 31 - 1)));
  assertEquals(sent(), { length: 200_000 - 65_535 - 50_010, isOver: true });
});

Deno.test("requests share the connection's window, and go on when it is opened", () => {
  const run = start();
  run.ask("x".repeat(40_000));
  run.ask("y".repeat(40_000));
  const sent = () => {
    const lengths = new Map<number, number>();
    for (const { type, stream, payload } of run.output()) {
      if (type === DATA) lengths.set(stream, (lengths.get(stream) ?? 0) + payload.length);
    }
    return [...lengths];
  };
  assertEquals(sent(), [[1, 40_000], [3, 25_535]]);
  run.http.handleBytes(frame(WINDOW, 0, 0, u32(12_288)));
  assertEquals(sent(), [[3, 12_288]]);
  run.http.handleBytes(frame(WINDOW, 0, 0, u32(4096)));
  assertEquals(sent(), [[3, 40_000 - 25_535 - 12_288]]);
  assertEquals(run.events(), []);
});

Deno.test("frames are as long as the server allows, the headers split", () => {
  const run = start();
  run.http.handleBytes(setting(5, 20_000));
  run.output();
  run.http.request({
    path: "/",
    headers: [["a", "b".repeat(20_000)]],
    body: new Uint8Array(30_000),
  });
  const sent = run.output().map((f) => [f.type, f.flags, f.payload.length]);
  assertEquals(sent, [
    [HEADERS, 0, 16_384],
    [CONTINUATION, END_HEADERS, sent[1]![2]!],
    [DATA, 0, 20_000],
    [DATA, END_STREAM, 10_000],
  ]);
});

Deno.test("an answer that comes before the request is sent ends it", () => {
  const run = start();
  run.ask("x".repeat(100_000));
  run.output();
  run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(run.tags(), ["response"]);
  assertEquals(run.output(), [{ type: RESET, flags: 0, stream: 1, payload: u32(0) }]);
  run.http.handleBytes(frame(WINDOW, 0, 0, u32(100_000)));
  assertEquals(run.output(), []);
});

Deno.test("room is given back for all that came, and to a stream for padding", () => {
  const run = start();
  run.ask();
  run.http.handleBytes(frame(HEADERS, END_HEADERS, 1, OK));
  run.output();
  run.http.handleBytes(frame(DATA, 0, 1, new Uint8Array(1000)));
  run.http.handleBytes(frame(DATA, 0, 99, new Uint8Array(500)));
  run.http.handleBytes(frame(DATA, PADDED, 1, new Uint8Array([3, 9, 0, 0, 0])));
  const room = (stream: number, bytes: number) => ({
    type: WINDOW,
    flags: 0,
    stream,
    payload: u32(bytes),
  });
  assertEquals(run.output(), [room(0, 1000), room(0, 500), room(0, 5), room(1, 4)]);
});

Deno.test("settings and pings are acknowledged, acknowledgements are not", () => {
  const run = start();
  run.output();
  const ping = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
  run.http.handleBytes(setting(4, 100_000));
  run.http.handleBytes(frame(SETTINGS, ACK, 0, EMPTY));
  run.http.handleBytes(frame(PING, 0, 0, ping));
  run.http.handleBytes(frame(PING, ACK, 0, new Uint8Array(8)));
  assertEquals(run.output(), [
    { type: SETTINGS, flags: ACK, stream: 0, payload: EMPTY },
    { type: PING, flags: ACK, stream: 0, payload: ping },
  ]);
});

Deno.test("requests end that the server took before it goes away", () => {
  const run = start();
  const [first, second] = [run.ask(), run.ask()];
  run.http.handleBytes(frame(GO_AWAY, 0, 0, twoU32(1, 0)));
  assertEquals(run.http.isUsable, false);
  const reason = "the server closes the connection";
  assertEquals(run.events(), [{ tag: "failed", requestId: second, reason }]);
  run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
  const [answer, closed] = run.events();
  assertEquals([answer!.tag, closed], ["response", { tag: "closed", reason }]);
  assert(answer?.tag === "response" && answer.requestId === first);
  const late = run.ask();
  assertEquals(run.events(), [
    { tag: "failed", requestId: late, reason: "the connection was closed" },
  ]);
  run.http.handleBytes(frame(RESET, 0, 1, u32(0)));
  run.http.close("the connection was closed");
  assertEquals(run.events(), []);
});

Deno.test("one request fails for its own reason, and the connection goes on", () => {
  const headers = frame(HEADERS, END_HEADERS, 1, OK);
  const cases: [reason: string, resets: boolean, ...bytes: Uint8Array[]][] = [
    ["the server reset the request with HTTP/2 error 8", false, frame(RESET, 0, 1, u32(8))],
    ["the answer has no status", true, frame(DATA, END_STREAM, 1, BODY)],
    ["the answer has no status", true, frame(DATA, END_STREAM, 1, EMPTY)],
    ["the answer has no status", true, frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS)],
    ...["abc", "", "20", "2000", "099"].map((status) =>
      [
        "the answer has no status",
        true,
        frame(HEADERS, END_HEADERS, 1, encodeHeaders([[":status", status]])),
      ] as [string, boolean, Uint8Array]
    ),
    [
      "the answer has no status",
      true,
      frame(HEADERS, END_HEADERS | END_STREAM, 1, encodeHeaders([[":status", "103"]])),
    ],
    ["the answer is too long", true, headers, ...dataFrames(MAX_BODY_LENGTH + 1)],
    [
      "the answer has trailers without an end",
      true,
      headers,
      frame(HEADERS, END_HEADERS, 1, TRAILERS),
    ],
    ["the server's window is broken", true, frame(WINDOW, 0, 1, u32(2 ** 31 - 1))],
    ["the server's window is broken", true, frame(WINDOW, 0, 1, u32(0))],
  ];
  for (const [reason, resets, ...frames] of cases) {
    const run = start();
    const requestId = run.ask();
    run.output();
    for (const bytes of frames) run.http.handleBytes(bytes);
    assertEquals(run.events(), [{ tag: "failed", requestId, reason }]);
    assertEquals(run.output().some((f) => f.type === RESET && f.stream === 1), resets, reason);
    // What is still under way for it is ignored.
    run.http.handleBytes(frame(DATA, END_STREAM, 1, BODY));
    run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 1, OK));
    assertEquals(run.events(), []);
    run.ask();
    run.http.handleBytes(frame(HEADERS, END_HEADERS | END_STREAM, 3, OK));
    assertEquals(run.tags(), ["response"]);
  }
});

Deno.test("the longest answer there may be is taken", () => {
  const run = start();
  run.ask();
  run.http.handleBytes(frame(HEADERS, END_HEADERS, 1, OK));
  for (const bytes of dataFrames(MAX_BODY_LENGTH)) run.http.handleBytes(bytes);
  run.http.handleBytes(frame(DATA, END_STREAM, 1, EMPTY));
  const [event] = run.events();
  assertEquals(event?.tag === "response" && event.response.body.length, MAX_BODY_LENGTH);
});

Deno.test("a connection closes when the server breaks the rules", () => {
  const headers = frame(HEADERS, END_HEADERS, 1, OK);
  const emptyParts = Array.from({ length: 100 }, () => frame(CONTINUATION, 0, 1, EMPTY));
  const parts = Array.from({ length: 5 }, () => frame(CONTINUATION, 0, 1, new Uint8Array(5000)));
  const cases: [reason: string, ...bytes: Uint8Array[]][] = [
    ["with HTTP/2 error 11", frame(GO_AWAY, 0, 0, twoU32(0, 11))],
    ["a farewell is broken", frame(GO_AWAY, 0, 0, new Uint8Array(7))],
    ["a farewell is broken", frame(GO_AWAY, 0, 1, twoU32(0, 11))],
    ["a reset is broken", frame(RESET, 0, 1, new Uint8Array(1))],
    ["a reset is broken", frame(RESET, 0, 0, u32(0))],
    ["something was pushed", frame(PUSH, 0, 1, new Uint8Array(4))],
    ["a frame is too long", frame(DATA, 0, 1, new Uint8Array(16_385))],
    ["a frame is too long", new Uint8Array([0, 0x40, 1, 0, 0, 0, 0, 0, 1])],
    ["a frame is too long", utf8("HTTP/1.1 400 Bad Request\r\n\r\n")],
    ["a header block is broken", frame(HEADERS, END_HEADERS, 0, OK)],
    ["a header block is broken", frame(HEADERS, END_HEADERS | HAS_PRIORITY, 1, new Uint8Array(4))],
    ["the headers are broken", frame(HEADERS, END_HEADERS, 1, new Uint8Array([0xff]))],
    ["the headers are broken", frame(HEADERS, END_HEADERS, 1, new Uint8Array([0xbe]))],
    ["the headers are broken", frame(HEADERS, END_HEADERS, 1, new Uint8Array(2000).fill(0x90))],
    ["the headers are broken", frame(HEADERS, END_HEADERS, 99, new Uint8Array([0xff]))],
    ["the headers are too long", frame(HEADERS, 0, 1, OK), ...emptyParts],
    ["the headers are too long", frame(HEADERS, 0, 1, OK), ...parts],
    ["a header block is interrupted", frame(HEADERS, 0, 1, OK), frame(PING, 0, 0, u32(0))],
    ["a header block is interrupted", frame(HEADERS, 0, 1, OK), frame(DATA, 0, 1, OK)],
    ["a header block is interrupted", frame(HEADERS, 0, 1, OK), frame(CONTINUATION, 4, 3, OK)],
    ["a header block has no beginning", frame(CONTINUATION, END_HEADERS, 1, OK)],
    ["a body is broken", headers, frame(DATA, PADDED, 1, EMPTY)],
    ["a body is broken", headers, frame(DATA, PADDED, 1, new Uint8Array([1]))],
    ["a body is broken", headers, frame(DATA, PADDED, 1, new Uint8Array([5, 1]))],
    ["a body is broken", frame(DATA, 0, 0, BODY)],
    ["a setting is broken", frame(SETTINGS, 0, 0, new Uint8Array(5))],
    ["a setting is broken", frame(SETTINGS, 0, 1, EMPTY)],
    ["a setting is broken", setting(5, 16_383)],
    ["a setting is broken", setting(5, 2 ** 24)],
    ["a ping is broken", frame(PING, 0, 0, new Uint8Array(7))],
    ["a ping is broken", frame(PING, 0, 1, new Uint8Array(8))],
    ["a window is broken", frame(WINDOW, 0, 0, new Uint8Array(3))],
    ["a window is broken", frame(WINDOW, 0, 0, u32(0))],
    ["a window is broken", frame(WINDOW, 0, 0, u32(2 ** 31 - 1))],
    ["a window is broken", setting(4, 2 ** 31)],
    ["a window is broken", frame(WINDOW, 0, 1, u32(2 ** 31 - 65_535)), setting(4, 65_536)],
  ];
  for (const [what, ...frames] of cases) {
    const run = start();
    const requestId = run.ask();
    for (const bytes of frames) run.http.handleBytes(bytes);
    const [failed, closed, ...others] = run.events();
    assert(failed?.tag === "failed" && failed.requestId === requestId, what);
    assertStringIncludes(failed.reason, what);
    assertEquals(closed, { tag: "closed", reason: failed.reason }, what);
    assertEquals(others, []);
    for (const bytes of frames) run.http.handleBytes(bytes);
    run.http.close("again");
    assertEquals(run.events(), []);
  }
});

Deno.test("a server that asks without listening is left, before its questions fill the memory", () => {
  const questions: [string, Uint8Array][] = [
    ["settings", frame(SETTINGS, 0, 0, EMPTY)],
    ["pings", frame(PING, 0, 0, new Uint8Array(8))],
    ["data that nobody wants", frame(DATA, 0, 7, BODY)],
  ];
  for (const [what, bytes] of questions) {
    const run = start();
    run.output();
    for (let i = 0; i < MAX_REPLIES; i++) run.http.handleBytes(bytes);
    assertEquals(run.events(), [], what);
    run.http.handleBytes(bytes);
    assertEquals(run.events(), [
      { tag: "closed", reason: "the server asks but does not listen" },
    ], what);
  }
});

Deno.test("a server that sends without end what brings nothing forward is left", () => {
  const announcement = frame(HEADERS, END_HEADERS, 1, encodeHeaders([[":status", "103"]]));
  const floods: [string, Uint8Array][] = [
    ["settings", setting(3, 7)],
    ["pings", frame(PING, 0, 0, new Uint8Array(8))],
    ["acknowledgements", frame(SETTINGS, ACK, 0, EMPTY)],
    ["announcements", announcement],
    ["data without content", frame(DATA, 0, 1, EMPTY)],
    ["padding", frame(DATA, PADDED, 1, new Uint8Array([2, 0, 0]))],
    ["unknown frames", frame(0xbe, 0, 0, EMPTY)],
    ["windows of nobody", frame(WINDOW, 0, 99, u32(1))],
  ];
  for (const [what, bytes] of floods) {
    const run = start();
    run.ask();
    if (bytes !== announcement) run.http.handleBytes(frame(HEADERS, END_HEADERS, 1, OK));
    let frames = 0;
    for (; run.http.isUsable && frames < 20_000; frames++) {
      run.http.handleBytes(bytes);
      run.output();
    }
    assert(frames > 9000 && frames <= MAX_IDLE_FRAMES + 1, `${what}: ${frames}`);
  }
});

Deno.test("a server that is asked now and then may ping for ever, and answer in small parts", () => {
  const run = start();
  for (let i = 0; i < 300; i++) {
    run.ask();
    const id = 2 * i + 1;
    run.http.handleBytes(frame(HEADERS, END_HEADERS, id, OK));
    for (let k = 0; k < 200; k++) {
      run.http.handleBytes(frame(PING, 0, 0, new Uint8Array(8)));
      run.http.handleBytes(frame(DATA, 0, id, new Uint8Array(1)));
      run.output();
    }
    run.http.handleBytes(frame(DATA, END_STREAM, id, EMPTY));
  }
  assertEquals(run.tags(), new Array(300).fill("response"));
  assert(run.http.isUsable);
});

Deno.test("any bytes, however they are cut, lead to the same end without throwing", () => {
  fc.assert(
    fc.property(serverBytes(), fc.integer({ min: 1, max: 30 }), (bytes, step) => {
      const [whole, cut] = [start(), start()];
      for (const run of [whole, cut]) run.ask("hello");
      whole.http.handleBytes(bytes);
      for (let at = 0; at < bytes.length; at += step) {
        cut.http.handleBytes(bytes.subarray(at, at + step));
      }
      assertEquals(cut.events(), whole.events());
      assertEquals(cut.outputBytes(), whole.outputBytes());
    }),
    { numRuns: 500 },
  );
});

Deno.test("any bytes are taken, and every request has one end", () => {
  fc.assert(
    fc.property(fc.array(serverBytes(), { maxLength: 10 }), (inputs) => {
      const run = start();
      const open = new Set([1, 2, 3].map(() => run.ask()));
      const check = () => {
        run.output();
        for (const event of run.events()) {
          if (event.tag !== "closed") assert(open.delete(event.requestId));
        }
      };
      for (const bytes of inputs) {
        run.http.handleBytes(bytes);
        check();
      }
      run.http.close("the end");
      check();
      assertEquals(open.size, 0);
      assertEquals(run.http.isUsable, false);
    }),
    { numRuns: 500 },
  );
});

/** Frames that make some sense, and bytes that make none. */
function serverBytes(): fc.Arbitrary<Uint8Array> {
  const plausible = fc.tuple(
    fc.oneof(fc.integer({ min: 0, max: 10 }), fc.nat(255)),
    fc.oneof(fc.constantFrom(0, END_HEADERS, END_HEADERS | END_STREAM), fc.nat(255)),
    fc.constantFrom(0, 1, 1, 1, 3, 5, 9, 2 ** 31 - 1),
    fc.oneof(
      fc.constantFrom(OK, TRAILERS, EMPTY, u32(1), twoU32(1, 0)),
      fc.uint8Array({ maxLength: 40 }),
    ),
  ).map(([type, flags, stream, payload]) => frame(type, flags, stream, payload));
  return fc.oneof(
    { weight: 5, arbitrary: fc.array(plausible).map(concat) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }) },
  );
}

function start() {
  const http = new Http2Connection({ scheme: "http", authority: "collector:4317" });
  const outputBytes = () => {
    const all: Uint8Array[] = [];
    for (let bytes; (bytes = http.pollOutput()) !== undefined;) all.push(bytes);
    return all;
  };
  const events = () => {
    const all: Http2Event[] = [];
    for (let event; (event = http.pollEvent()) !== undefined;) all.push(event);
    return all;
  };
  return {
    http,
    ask: (body = "x") =>
      http.request({ path: "/service", headers: [["te", "trailers"]], body: utf8(body) }),
    outputBytes,
    /** Frames that were sent, without the preface. */
    output: () => outputBytes().filter((bytes) => bytes[0] !== 0x50).map(toFrame),
    events,
    tags: () => events().map((event) => event.tag),
  };
}

function toFrame(bytes: Uint8Array) {
  assertEquals(readU32(bytes, 0) >>> 8, bytes.length - 9);
  return { type: bytes[3]!, flags: bytes[4]!, stream: readU32(bytes, 5), payload: bytes.slice(9) };
}

function dataFrames(length: number): Uint8Array[] {
  const frames = [];
  for (let at = 0; at < length; at += 16_384) {
    frames.push(frame(DATA, 0, 1, new Uint8Array(Math.min(16_384, length - at))));
  }
  return frames;
}

function setting(id: number, value: number): Uint8Array {
  const payload = new Uint8Array(6);
  writeU16(payload, 0, id);
  writeU32(payload, 2, value);
  return frame(SETTINGS, 0, 0, payload);
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  writeU32(bytes, 0, value);
  return bytes;
}

function twoU32(first: number, second: number): Uint8Array {
  return concat([u32(first), u32(second)]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}
