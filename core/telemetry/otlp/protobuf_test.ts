import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { hex, utf8 } from "../../bytes/mod.ts";
import { parseProtobuf, ProtobufWriter } from "./protobuf.ts";

Deno.test("ProtobufWriter writes the examples of the encoding guide", () => {
  // protobuf.dev/programming-guides/encoding: Test1 { a: 150 }, Test2 { b: "testing" },
  // Test3 { c: { a: 150 } }
  assertEquals(hex(new ProtobufWriter().varint(1, 150).bytes), "089601");
  assertEquals(hex(new ProtobufWriter().string(2, "testing").bytes), "120774657374696e67");
  assertEquals(
    hex(new ProtobufWriter().message(3, (inner) => inner.varint(1, 150)).bytes),
    "1a03089601",
  );
  // A negative int64 takes all ten bytes of a varint.
  assertEquals(hex(new ProtobufWriter().int64(1, -2).bytes), "08feffffffffffffffff01");
});

Deno.test("parseProtobuf reads what ProtobufWriter wrote", () => {
  const bytes = new ProtobufWriter()
    .varint(1, true)
    .int64(2, -1)
    .fixed64(3, -1n)
    .double(4, 0.5)
    .fixed32(5, 7)
    .string(500, "x".repeat(1000))
    .packedFixed64(6, [1, 2])
    .packedDouble(7, [1])
    .bytes;
  const fields = parseProtobuf(bytes)!;
  assertEquals(fields.map((f) => f.field), [1, 2, 3, 4, 5, 500, 6, 7]);
  assertEquals(fields.slice(0, 5).map((f) => f.value), [
    1n,
    0xffffffffffffffffn,
    0xffffffffffffffffn,
    0x3fe0000000000000n,
    7n,
  ]);
  assertEquals(fields[5]!.value, utf8("x".repeat(1000)));
  assertEquals(hex(fields[6]!.value as Uint8Array), "01000000000000000200000000000000");
  assertEquals(hex(fields[7]!.value as Uint8Array), "000000000000f03f");
});

Deno.test("parseProtobuf understands or refuses any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
    for (const { value } of parseProtobuf(bytes) ?? []) {
      if (value instanceof Uint8Array) parseProtobuf(value);
    }
  }));
});

Deno.test("parseProtobuf refuses messages that end too early, and unknown wire types", () => {
  for (
    const bytes of [[0x08], [0x08, 0x80], [0x12, 5, 1], [0x09, 1, 2], [0x0d, 1], [0x0b], [0x80]]
  ) {
    assertEquals(parseProtobuf(new Uint8Array(bytes)), undefined);
  }
});
