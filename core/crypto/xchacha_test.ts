import { assertEquals } from "@std/assert";
import { fromHex, hex } from "../bytes/mod.ts";
import { xchachaOpen, xchachaSeal } from "./xchacha.ts";
import vector from "./testdata/xchacha.json" with { type: "json" };

const key = fromHex(vector.key)!;
const nonce = fromHex(vector.nonce)!;
const associatedData = fromHex(vector.associatedData)!;
const plaintext = fromHex(vector.plaintext)!;
const sealed = fromHex(vector.ciphertext + vector.tag)!;

Deno.test("xchachaSeal and xchachaOpen give draft-irtf-cfrg-xchacha-03 §A.3.1", () => {
  assertEquals(hex(xchachaSeal(key, nonce, associatedData, plaintext)), hex(sealed));
  assertEquals(xchachaOpen(key, nonce, associatedData, sealed), plaintext);
});

Deno.test("xchachaOpen refuses every flipped bit and truncation", () => {
  for (let i = 0; i < sealed.length; i++) {
    const copy = sealed.slice();
    copy[i] = copy[i]! ^ 0x10;
    assertEquals(xchachaOpen(key, nonce, associatedData, copy), undefined);
    assertEquals(xchachaOpen(key, nonce, associatedData, sealed.subarray(0, i)), undefined);
  }
  assertEquals(xchachaOpen(key, nonce, new Uint8Array(0), sealed), undefined);
});
