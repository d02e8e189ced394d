import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { sumView } from "./checksum.ts";
import { copySumAt, packetMemory, placeInPacketMemory, sumAt } from "./packet_memory.ts";

const a = packetMemory(70_000);
const b = packetMemory(70_000);
const placeA = placeInPacketMemory(a);
const placeB = placeInPacketMemory(b);

Deno.test("packetMemory hands out buffers that do not overlap", () => {
  assert(placeA >= 0 && placeB >= placeA + a.length);
  assertEquals([a.length, b.length], [70_000, 70_000]);
  assert(placeInPacketMemory(new Uint8Array(10)) < 0);
});

Deno.test("packetMemory gives ordinary memory when its own is used up", () => {
  const large = packetMemory(1 << 30);
  assertEquals(large.length, 1 << 30);
  assert(placeInPacketMemory(large) < 0);
});

Deno.test("sumAt and copySumAt agree with sumView, and copySumAt copies", () => {
  const view = new DataView(a.buffer, a.byteOffset, a.length);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      fc.nat(100),
      fc.nat(100),
      (bytes, at, to) => {
        a.set(bytes, at);
        b.fill(0xaa, 0, 4000);
        const expected = sumView(view, at, at + bytes.length);
        const [from, end] = [placeA + at, placeA + at + bytes.length];
        assertEquals(sumAt(from, end), expected);
        assertEquals(copySumAt(from, end, placeB + to), expected);
        assertEquals(b.slice(to, to + bytes.length), bytes);
        assert(b.subarray(0, to).every((byte) => byte === 0xaa));
        assert(b.subarray(to + bytes.length, 4000).every((byte) => byte === 0xaa));
      },
    ),
  );
});

Deno.test("sumAt does not overflow on the longest packet of the greatest and least words", () => {
  const view = new DataView(a.buffer, a.byteOffset, a.length);
  for (const byte of [0x00, 0x7f, 0x80, 0xff]) {
    a.fill(byte);
    for (const length of [65_535, 65_520, 65_521]) {
      assertEquals(sumAt(placeA, placeA + length), sumView(view, 0, length));
    }
  }
  a.fill(0);
});
