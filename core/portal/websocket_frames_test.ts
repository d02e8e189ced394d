import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex, utf8 } from "../bytes/text.ts";
import {
  closePayload,
  type FrameEvent,
  FrameReader,
  MAX_MESSAGE_BYTES,
  OPCODE,
  writeFrame,
} from "./websocket_frames.ts";

Deno.test("the examples of RFC 6455 §5.7 read as it says", () => {
  const cases: [string, FrameEvent[]][] = [
    ["810548656c6c6f", [{ tag: "text", text: "Hello" }]],
    ["010348656c80026c6f", [{ tag: "text", text: "Hello" }]],
    ["890548656c6c6f", [{ tag: "ping", payload: utf8("Hello") }]],
    ["8a0548656c6c6f", []],
    ["827e0100" + "00".repeat(256), [{ tag: "binary" }]],
    ["827f0000000000010000" + "00".repeat(65_536), [{ tag: "binary" }]],
  ];
  for (const [text, events] of cases) assertEquals(readAll(fromHex(text)!), events);
});

Deno.test("a masked frame is written as RFC 6455 §5.7 says", () => {
  const mask = fromHex("37fa213d")!;
  assertEquals(
    writeFrame(OPCODE.text, utf8("Hello"), mask),
    fromHex("818537fa213d7f9f4d5158"),
  );
});

Deno.test("a control frame may come between fragments", () => {
  assertEquals(readAll(fromHex("010148" + "8900" + "800169")!), [
    { tag: "ping", payload: new Uint8Array(0) },
    { tag: "text", text: "Hi" },
  ]);
});

Deno.test("a close frame gives its code and reason, and ends the reading", () => {
  const frame = serverFrame(0x88, closePayload(1001, "bye"));
  assertEquals(readAll(new Uint8Array([...frame, ...fromHex("810548656c6c6f")!])), [
    { tag: "close", code: 1001, reason: "bye" },
  ]);
  assertEquals(readAll(fromHex("8800")!), [{ tag: "close", code: 1005, reason: "" }]);
});

Deno.test("what a server must not send is a violation with the RFC's code", () => {
  const cases: [string, number][] = [
    ["c10548656c6c6f", 1002], // RSV1
    ["818537fa213d7f9f4d5158", 1002], // masked
    ["8300", 1002], // unknown opcode
    ["8000", 1002], // continuation of nothing
    ["0101488100", 1002], // a message inside another
    ["0900", 1002], // fragmented ping
    ["897e0080" + "00".repeat(128), 1002], // long ping
    ["8102c328", 1007], // not UTF-8
    ["880100", 1002], // half a status code
    ["817f7fffffffffffffff", 1009],
    ["817f0000000001000001", 1009], // one byte more than we take
  ];
  for (const [text, code] of cases) {
    const event = readAll(fromHex(text)!).at(-1);
    assert(event?.tag === "violation", text);
    assertEquals(event.code, code, text);
  }
  assertEquals(MAX_MESSAGE_BYTES, 0x1000000);
});

Deno.test("messages come out whole however the stream is cut", () => {
  const message = fc.oneof(
    fc.string({ unit: "grapheme", maxLength: 400 }),
    fc.string({ minLength: 60_000, maxLength: 70_000 }),
  );
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 5 }),
      fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }),
      (texts, cuts) => {
        const bytes = texts.flatMap((text) => [...serverFrame(0x81, utf8(text))]);
        const reader = new FrameReader();
        const seen: string[] = [];
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const end = at + cuts[i % cuts.length]!;
          reader.push(new Uint8Array(bytes.slice(at, end)));
          at = end;
          for (let e = reader.poll(); e; e = reader.poll()) if (e.tag === "text") seen.push(e.text);
        }
        assertEquals(seen, texts);
      },
    ),
    { numRuns: 30 },
  );
});

Deno.test("what is written reads back once the mask is taken off", () => {
  fc.assert(fc.property(
    fc.uint8Array({ maxLength: 300 }),
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    (payload, mask) => {
      const frame = writeFrame(OPCODE.ping, payload.subarray(0, 125), mask);
      const start = 6;
      for (let i = start; i < frame.length; i++) frame[i] = frame[i]! ^ mask[(i - start) & 3]!;
      const bare = new Uint8Array([frame[0]!, frame[1]! & 0x7f, ...frame.subarray(start)]);
      assertEquals(readAll(bare), [{ tag: "ping", payload: payload.slice(0, 125) }]);
    },
  ));
});

Deno.test("no bytes make the reader throw", () => {
  fc.assert(fc.property(fc.array(fc.uint8Array({ maxLength: 64 })), (chunks) => {
    const reader = new FrameReader();
    for (const chunk of chunks) {
      reader.push(chunk);
      while (reader.poll() !== undefined);
    }
  }));
});

function readAll(bytes: Uint8Array): FrameEvent[] {
  const reader = new FrameReader();
  reader.push(bytes);
  const events: FrameEvent[] = [];
  for (let e = reader.poll(); e !== undefined; e = reader.poll()) events.push(e);
  return events;
}

function serverFrame(first: number, payload: Uint8Array): Uint8Array {
  const n = payload.length;
  const head = n < 126
    ? [first, n]
    : n < 65_536
    ? [first, 126, n >> 8, n & 255]
    : [first, 127, 0, 0, 0, 0, n >>> 24, n >> 16 & 255, n >> 8 & 255, n & 255];
  return new Uint8Array([...head, ...payload]);
}
