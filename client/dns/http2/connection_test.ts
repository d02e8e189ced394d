import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex, readU32, writeU32 } from "@firezone/core/bytes";
import { Http2Connection, type Http2Event } from "./connection.ts";

const BODY = new Uint8Array([1, 2, 3]);
/** Status 200, and nothing else. */
const OK = new Uint8Array([0x88]);
const END_HEADERS = 4;
const END_STREAM = 1;

Deno.test("Http2Connection opens with its settings and posts at once", () => {
  const run = start();
  run.http.post(BODY);
  const [preface, settings, headers, data, ...others] = run.output();
  assertEquals(new TextDecoder().decode(preface), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  assertEquals(
    settings,
    frame(4, 0, 0, fromHex("000100000000" + "000200000000" + "000400010000")!),
  );
  assertEquals([headers![3], headers![4], readU32(headers!, 5)], [1, END_HEADERS, 1]);
  assertEquals(data, frame(0, END_STREAM, 1, BODY));
  assertEquals(others, []);
});

Deno.test("Http2Connection collects an answer from frames of any cut, padding and priority", () => {
  const server = new Uint8Array([
    ...frame(4, 0, 0, new Uint8Array()),
    ...frame(1, 0x28, 1, new Uint8Array([2, 0, 0, 0, 0, 9, 0x88, 0, 0])), // begins, padded, priority
    ...frame(9, END_HEADERS, 1, new Uint8Array([0x5f, 1, 0x6d])),
    ...frame(0, 0x8, 1, new Uint8Array([1, 7, 8, 0])),
    ...frame(0xbe, 0xff, 1, new Uint8Array(5)), // unknown
    ...frame(0, 0, 1, new Uint8Array()),
    ...frame(0, 0, 1, new Uint8Array([9])),
    ...frame(1, END_HEADERS | END_STREAM, 1, new Uint8Array([0x40, 1, 0x61, 1, 0x62])),
  ]);
  for (const step of [1, 2, 7, 1000]) {
    const run = start();
    const requestId = run.http.post(BODY);
    for (let at = 0; at < server.length; at += step) {
      run.http.handleBytes(server.subarray(at, at + step));
    }
    const body = new Uint8Array([7, 8, 9]);
    assertEquals(run.events(), [
      { tag: "answer", requestId, status: 200, contentType: "m", body },
    ]);
  }
});

Deno.test("Http2Connection waits for the true status after an announcement", () => {
  const run = start();
  run.http.post(BODY);
  run.http.handleBytes(frame(1, END_HEADERS, 1, fromHex("0803313033")!));
  run.http.handleBytes(frame(1, END_HEADERS | END_STREAM, 1, new Uint8Array([0x8d])));
  assertEquals(run.events().map((event) => event.tag === "answer" && event.status), [404]);
});

Deno.test("Http2Connection keeps to the number of requests that the server takes", () => {
  const run = start();
  run.http.handleBytes(settings(3, 2));
  const ids = [1, 2, 3, 4].map(() => run.http.post(BODY));
  const started = () => run.output().filter((bytes) => bytes[3] === 1).map((f) => readU32(f, 5));
  assertEquals(started(), [1, 3]);
  run.http.cancel(ids[2]!);
  run.http.handleBytes(frame(1, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(started(), [5]);
  assertEquals(run.events().map((event) => event.tag === "answer" && event.requestId), [ids[0]!]);
  run.http.cancel(ids[1]!);
  assertEquals(run.output().map((bytes) => bytes[3]), [3]);
});

Deno.test("Http2Connection keeps to the window, and goes on when it is opened", () => {
  const run = start();
  const large = new Uint8Array(40_000).fill(7);
  run.http.post(large);
  run.http.post(large);
  const sent = () =>
    run.output().filter((bytes) => bytes[3] === 0 && readU32(bytes, 5) > 0)
      .map((bytes) => bytes.length - 9);
  assertEquals(sent(), [16_384, 16_384, 7232]);
  run.http.handleBytes(frame(8, 0, 0, fromHex("00003000")!)); // 12288: not enough
  assertEquals(sent(), []);
  run.http.handleBytes(frame(8, 0, 0, fromHex("00001000")!));
  assertEquals(sent(), [16_384, 16_384, 7232]);
  assertEquals(run.events(), []);
});

Deno.test("Http2Connection gives the window back for all that came", () => {
  const run = start();
  run.http.post(BODY);
  run.output();
  run.http.handleBytes(frame(0, 0, 1, new Uint8Array(1000)));
  run.http.handleBytes(frame(0, 0, 99, new Uint8Array(500)));
  assertEquals(run.output(), [
    frame(8, 0, 0, fromHex("000003e8")!),
    frame(8, 0, 0, fromHex("000001f4")!),
  ]);
});

Deno.test("Http2Connection acknowledges settings and pings", () => {
  const run = start();
  run.output();
  run.http.handleBytes(settings(4, 100_000));
  run.http.handleBytes(frame(4, 1, 0, new Uint8Array()));
  run.http.handleBytes(frame(6, 0, 0, new Uint8Array(8).fill(5)));
  run.http.handleBytes(frame(6, 1, 0, new Uint8Array(8)));
  assertEquals(run.output(), [
    frame(4, 1, 0, new Uint8Array()),
    frame(6, 1, 0, new Uint8Array(8).fill(5)),
  ]);
});

Deno.test("Http2Connection lets requests end that the server took before it goes away", () => {
  const run = start();
  const [first, second] = [run.http.post(BODY), run.http.post(BODY)];
  run.http.handleBytes(frame(7, 0, 0, fromHex("00000001" + "00000000")!));
  assertEquals(run.http.isUsable, false);
  const reason = "the server closes the connection";
  assertEquals(run.events(), [{ tag: "failed", requestId: second, reason }]);
  run.http.handleBytes(frame(1, END_HEADERS | END_STREAM, 1, OK));
  assertEquals(run.events().map((event) => event.tag === "answer" ? event.requestId : event.tag), [
    first,
    "closed",
  ]);
  const late = run.http.post(BODY);
  assertEquals(run.events(), [
    { tag: "failed", requestId: late, reason: "the connection was closed" },
  ]);
});

Deno.test("Http2Connection fails a request that the server resets, or that has no end", () => {
  const run = start();
  const ids = [run.http.post(BODY), run.http.post(BODY), run.http.post(BODY)];
  run.http.handleBytes(frame(3, 0, 1, new Uint8Array(4)));
  run.http.handleBytes(frame(0, END_STREAM, 3, BODY));
  run.http.handleBytes(frame(1, END_HEADERS, 5, OK));
  run.output();
  for (let i = 0; i < 5; i++) run.http.handleBytes(frame(0, 0, 5, new Uint8Array(16_000)));
  assertEquals(run.events(), [
    { tag: "failed", requestId: ids[0]!, reason: "the server gave up the request" },
    { tag: "failed", requestId: ids[1]!, reason: "the server answered without a status" },
    { tag: "failed", requestId: ids[2]!, reason: "the answer is too long" },
  ]);
  assertEquals(run.output().filter((bytes) => bytes[3] === 3).length, 1);
  assert(run.http.isUsable);
});

Deno.test("Http2Connection closes when the server breaks the rules", () => {
  const cases: [what: string, bytes: Uint8Array][] = [
    ["too long a frame", frame(0, 0, 1, new Uint8Array(16_385))],
    ["a push", frame(5, 0, 1, new Uint8Array(4))],
    ["headers of stream 0", frame(1, END_HEADERS, 0, OK)],
    ["headers that make no sense", frame(1, END_HEADERS, 1, new Uint8Array([0xff]))],
    [
      "headers that are interrupted",
      new Uint8Array([...frame(1, 0, 1, OK), ...frame(0, 0, 1, OK)]),
    ],
    ["going on with nothing", frame(9, END_HEADERS, 1, OK)],
    ["more padding than there is", frame(0, 8, 1, new Uint8Array([5, 1]))],
    ["no padding length", frame(0, 8, 1, new Uint8Array())],
    ["a cut setting", frame(4, 0, 0, new Uint8Array(5))],
    ["a cut ping", frame(6, 0, 0, new Uint8Array(7))],
    ["a cut window", frame(8, 0, 0, new Uint8Array(3))],
    ["a cut farewell", frame(7, 0, 0, new Uint8Array(7))],
    [
      "headers without end",
      new Uint8Array([frame(1, 0, 1, OK), ...Array.from({ length: 70 }, () => frame(9, 0, 1, OK))]
        .flatMap((bytes) => [...bytes])),
    ],
  ];
  for (const [what, bytes] of cases) {
    const run = start();
    const requestId = run.http.post(BODY);
    run.http.handleBytes(bytes);
    const [failed, closed, ...others] = run.events();
    assert(failed?.tag === "failed" && failed.requestId === requestId, what);
    assertEquals(closed, { tag: "closed", reason: failed.reason }, what);
    assertEquals(others, []);
    run.http.handleBytes(bytes);
    run.http.close("again");
    assertEquals(run.events(), []);
  }
});

Deno.test("Http2Connection takes any bytes, and answers every request once", () => {
  const anyFrame = fc.record({
    type: fc.oneof(fc.integer({ min: 0, max: 9 }), fc.nat(255)),
    flags: fc.nat(255),
    stream: fc.integer({ min: 0, max: 9 }),
    payload: fc.uint8Array({ maxLength: 30 }),
  }).map(({ type, flags, stream, payload }) => frame(type, flags, stream, payload));
  const input = fc.oneof({ weight: 5, arbitrary: anyFrame }, {
    weight: 1,
    arbitrary: fc.uint8Array({ maxLength: 30 }),
  });
  fc.assert(
    fc.property(fc.array(input, { maxLength: 30 }), (inputs) => {
      const run = start();
      const open = new Set([1, 2, 3].map(() => run.http.post(BODY)));
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
    { numRuns: 1000 },
  );
});

function start() {
  const http = new Http2Connection({ authority: "dns.test", path: "/dns-query", mediaType: "m" });
  return {
    http,
    output(): Uint8Array[] {
      const all: Uint8Array[] = [];
      for (let bytes; (bytes = http.pollOutput()) !== undefined;) all.push(bytes);
      return all;
    },
    events(): Http2Event[] {
      const all: Http2Event[] = [];
      for (let event; (event = http.pollEvent()) !== undefined;) all.push(event);
      return all;
    },
  };
}

function settings(id: number, value: number): Uint8Array {
  const payload = new Uint8Array(6);
  payload[1] = id;
  writeU32(payload, 2, value);
  return frame(4, 0, 0, payload);
}

function frame(type: number, flags: number, stream: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(9 + payload.length);
  writeU32(bytes, 0, payload.length << 8 | type);
  bytes[4] = flags;
  writeU32(bytes, 5, stream);
  bytes.set(payload, 9);
  return bytes;
}
