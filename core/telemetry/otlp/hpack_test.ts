import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex } from "../../bytes/mod.ts";
import { parseHeaders, writeHeaders } from "./hpack.ts";

const parse = (hex: string) => {
  const headers = parseHeaders(fromHex(hex.replaceAll(" ", ""))!);
  return headers && Object.fromEntries(headers);
};

Deno.test("parseHeaders reads the examples of RFC 7541, without names that nobody needs", () => {
  // Appendix C.2.1, C.2.3, C.4.3's last field, C.6.1.
  assertEquals(parse("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"), {
    "custom-key": "custom-header",
  });
  assertEquals(parse("1008 7061 7373 776f 7264 0673 6563 7265 74"), { password: "secret" });
  assertEquals(parse("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"), {
    "custom-key": "custom-value",
  });
  const headers = parse(
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e " +
      "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
  );
  assertEquals(headers, { ":status": "302", "": "https://www.example.com" });
});

Deno.test("parseHeaders knows the status by its index, and the type by its name's", () => {
  assertEquals(parse("88"), { ":status": "200" });
  assertEquals(parse("8e"), { ":status": "500" });
  assertEquals(parse("82 bd"), {});
  assertEquals(parse("0f10 0161"), { "content-type": "a" });
  assertEquals(parse("20 88"), { ":status": "200" });
});

Deno.test("parseHeaders refuses references to a table that is empty, and what is cut off", () => {
  const refused = [
    ...["80", "be", "ff00", "ff", "ffffffff7f", "7f00 0161", "3fe11f", "21"],
    ...["00", "0001", "0001 61", "0001 61 02 62", "0081", "0081 ff 00", "0084 ffff ffff 00"],
  ];
  for (const hex of refused) assertEquals(parse(hex), undefined, hex);
});

Deno.test("parseHeaders reads what writeHeaders wrote", () => {
  const text = fc.string({
    unit: fc.integer({ min: 32, max: 126 }).map((c) => String.fromCharCode(c)),
  });
  const name = text.filter((t) => t !== "");
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, text), { selector: ([n]) => n }), (headers) => {
      assertEquals([...parseHeaders(writeHeaders(headers))!], headers);
    }),
  );
  const long = [["a", "b".repeat(5000)]] as const;
  assertEquals([...parseHeaders(writeHeaders(long))!], [["a", "b".repeat(5000)]]);
});

Deno.test("parseHeaders understands or refuses any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => void parseHeaders(bytes)));
});
