import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { contentOf, type Frame, FrameReader, writeFrame, writeSettings } from "./frame.ts";

const DATA = 0;
const HEADERS = 1;
const PADDED = 8;
const PRIORITY = 32;

Deno.test("FrameReader cuts out what writeFrame wrote, in whatever pieces it comes", () => {
  const frame = fc.record({
    type: fc.nat(255),
    flags: fc.nat(255),
    stream: fc.nat(2 ** 31 - 1),
    payload: fc.uint8Array({ maxLength: 40 }),
  }, { noNullPrototype: true });
  fc.assert(
    fc.property(fc.array(frame), fc.integer({ min: 1, max: 30 }), (frames, step) => {
      const bytes = frames.flatMap(({ type, flags, stream, payload }) => [
        ...writeFrame(type, flags, stream, payload),
      ]);
      const reader = new FrameReader();
      const read: Frame[] = [];
      for (let at = 0; at < bytes.length; at += step) {
        reader.add(new Uint8Array(bytes.slice(at, at + step)));
        for (let next; (next = reader.next()) !== undefined && next !== "too-long";) {
          read.push({ ...next, payload: next.payload.slice() });
        }
      }
      assertEquals(read, frames);
    }),
  );
});

Deno.test("FrameReader refuses a long frame by its header, and does not go on after it", () => {
  const longest = writeFrame(DATA, 0, 1, new Uint8Array(16_384));
  const reader = new FrameReader();
  reader.add(longest);
  const frame = reader.next();
  assertEquals(frame !== "too-long" && frame?.payload.length, 16_384);
  assertEquals(reader.next(), undefined);
  reader.add(new Uint8Array([0, 0x40, 1, 0, 0, 0, 0, 0, 1]));
  assertEquals(reader.next(), "too-long");
  reader.add(longest);
  assertEquals(reader.next(), "too-long");
});

Deno.test("the reserved bit of a stream is ignored", () => {
  const reader = new FrameReader();
  reader.add(new Uint8Array([0, 0, 0, 0, 0, 0x80, 0, 0, 3]));
  assertEquals(reader.next(), { type: 0, flags: 0, stream: 3, payload: new Uint8Array() });
});

Deno.test("contentOf leaves out padding and priority, and refuses what is too short for them", () => {
  const cases: [type: number, flags: number, payload: number[], content: number[] | undefined][] = [
    [DATA, 0, [7, 8], [7, 8]],
    [DATA, PADDED, [1, 7, 8, 0], [7, 8]],
    [DATA, PADDED, [2, 0, 0], []],
    [DATA, PADDED, [3, 0, 0], undefined],
    [DATA, PADDED, [255], undefined],
    [DATA, PADDED, [], undefined],
    [DATA, PRIORITY, [7], [7]],
    [HEADERS, PRIORITY, [0, 0, 0, 0, 16, 7], [7]],
    [HEADERS, PRIORITY, [0, 0, 0, 0], undefined],
    [HEADERS, PADDED | PRIORITY, [2, 0, 0, 0, 0, 9, 7, 0, 0], [7]],
    [HEADERS, PADDED | PRIORITY, [2, 0, 0, 0, 0, 9, 0], undefined],
  ];
  for (const [type, flags, payload, content] of cases) {
    const found = contentOf({ type, flags, stream: 1, payload: new Uint8Array(payload) });
    assertEquals(found && [...found], content);
  }
});

Deno.test("writeSettings writes pairs of id and value", () => {
  assertEquals(
    writeSettings([[1, 0], [4, 65_536]]),
    new Uint8Array([0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0]),
  );
});
