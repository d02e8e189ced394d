import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readU16 } from "../bytes/mod.ts";
import { ATTRIBUTE, findAttribute } from "./attributes.ts";
import { METHOD } from "./header.ts";
import { parseStunMessage } from "./message.ts";
import { StunWriter } from "./writer.ts";

Deno.test("findAttribute finds the first of a type, wherever the message lies", () => {
  const message = new StunWriter("request", METHOD.refresh, "00".repeat(12)).software("abc")
    .nonce("first").nonce("second").finish();
  const buf = new Uint8Array(message.length + 14);
  buf.set(message, 7);
  const at = findAttribute(buf, 7, 7 + message.length, ATTRIBUTE.nonce);
  assertEquals(new TextDecoder().decode(buf.subarray(at, at + readU16(buf, at - 2))), "first");
  assertEquals(findAttribute(buf, 7, 7 + message.length, ATTRIBUTE.realm), -1);
});

Deno.test("findAttribute sees in any bytes what a parser sees, and throws for none", () => {
  const attribute = fc.tuple(
    fc.constantFrom<number>(ATTRIBUTE.nonce, ATTRIBUTE.software, 0x7777),
    fc.oneof(fc.nat(40), fc.nat(0xffff)),
    fc.uint8Array({ maxLength: 40 }),
  );
  fc.assert(fc.property(fc.array(attribute), fc.nat(3), (attributes, cut) => {
    const body = attributes.flatMap(([type, length, value]) => [
      ...[type >> 8, type & 255, length >> 8, length & 255],
      ...value.map((byte) => byte & 0x7f),
    ]);
    const head = new StunWriter("request", METHOD.refresh, "00".repeat(12)).finish();
    const bytes = new Uint8Array([...head, ...body.slice(0, body.length - cut)]);
    bytes[2] = bytes.length - 20 >> 8;
    bytes[3] = bytes.length - 20 & 255;
    const at = findAttribute(bytes, 0, bytes.length, ATTRIBUTE.nonce);
    assert(at === -1 || at + readU16(bytes, at - 2) <= bytes.length);
    const nonce = parseStunMessage(bytes, 0, bytes.length)?.nonce;
    if (nonce === undefined) return;
    assertEquals(new TextDecoder().decode(bytes.subarray(at, at + readU16(bytes, at - 2))), nonce);
  }));
});
