import { assertEquals } from "@std/assert";
import { fromHex, hex, utf8 } from "../bytes/mod.ts";
import { blake2s, blake2sMac, hmacBlake2s, kdf1, kdf2, kdf3 } from "./blake2s.ts";
import vectors from "./testdata/blake2s.json" with { type: "json" };

Deno.test("blake2s gives RFC 7693 §B, and joins its parts", () => {
  assertEquals(hex(blake2s(utf8("abc"))), vectors.abc);
  assertEquals(hex(blake2s(utf8("a"), utf8(""), utf8("bc"))), vectors.abc);
});

Deno.test("blake2sMac gives keyed hashes of 16 bytes", () => {
  for (const { key, inputLength, mac } of vectors.mac) {
    const input = counting(inputLength);
    assertEquals(hex(blake2sMac(fromHex(key)!, input)), mac);
    const half = inputLength >> 1;
    assertEquals(
      hex(blake2sMac(fromHex(key)!, input.subarray(0, half), input.subarray(half))),
      mac,
    );
  }
});

Deno.test("hmacBlake2s gives HMAC, of inputs of up to and past a block", () => {
  for (const { key, inputLength, hmac } of vectors.hmac) {
    assertEquals(hex(hmacBlake2s(fromHex(key)!, counting(inputLength))), hmac);
  }
});

Deno.test("kdf1, kdf2 and kdf3 give the first outputs of one expansion", () => {
  for (const { key, inputLength, outputs } of vectors.kdf) {
    const [raw, input] = [fromHex(key)!, counting(inputLength)];
    assertEquals(hex(kdf1(raw, input)), outputs[0]!);
    assertEquals(kdf2(raw, input).map(hex), outputs.slice(0, 2));
    assertEquals(kdf3(raw, input).map(hex), outputs);
  }
});

function counting(length: number): Uint8Array {
  return new Uint8Array(length).map((_, i) => i);
}
