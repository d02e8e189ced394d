import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { hex } from "../bytes/mod.ts";
import { ControlEvent, controlEvent, goodbyePacket, looksLikeControlPacket } from "./mod.ts";

Deno.test("goodbyePacket has the published layout", () => {
  const zeros = (bytes: number) => "00".repeat(bytes);
  assertEquals(hex(goodbyePacket()), `60000000${"0008"}ff00${zeros(32)}02${zeros(7)}`);
});

Deno.test("a control packet is recognised, with padding after it or without", () => {
  const padded = new Uint8Array(64);
  padded.set(goodbyePacket(), 8);
  assertEquals(looksLikeControlPacket(padded, 8, 56), true);
  assertEquals(looksLikeControlPacket(padded, 8, 64), true);
  assertEquals(controlEvent(padded, 8), ControlEvent.Goodbye);
});

Deno.test("other packets are not taken for control packets", () => {
  const base = goodbyePacket();
  for (const offset of [0, 6, 8, 39]) {
    const other = base.slice();
    other[offset]! ^= 0x10;
    assertEquals(looksLikeControlPacket(other, 0, other.length), false, `byte ${offset}`);
  }
  assertEquals(looksLikeControlPacket(base, 0, 47), false);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    looksLikeControlPacket(bytes, 0, bytes.length);
  }));
});
