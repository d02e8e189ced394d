import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { base32, base64, fromBase64, fromHex, hex, utf8 } from "./text.ts";

Deno.test("base32 and base64 give the vectors of RFC 4648 §10", () => {
  assertEquals(base32(utf8("foobar")), "mzxw6ytboi");
  assertEquals(base32(utf8("foob")), "mzxw6yq");
  assertEquals(base64(utf8("fooba")), "Zm9vYmE=");
});

Deno.test("hex and base64 decode what they encode, for any bytes", () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => {
    assertEquals(fromHex(hex(bytes)), bytes);
    assertEquals(fromBase64(base64(bytes)), bytes);
  }));
});

Deno.test("text that is not hex or base64 is refused", () => {
  for (const text of ["0", "zz", "0x11"]) assertEquals(fromHex(text), undefined);
  for (const text of ["Zg", "Zg=", "Z===", "Zm9v\n", "Zm9v!"]) {
    assertEquals(fromBase64(text), undefined);
  }
});
