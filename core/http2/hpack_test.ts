import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex, hex as toHex, utf8 } from "../bytes/mod.ts";
import { decodeHeaders, encodeHeaders, type HeaderList } from "./hpack.ts";

const MAX = 32_768;
const bytes = (hex: string) => fromHex(hex.replaceAll(" ", ""))!;
const decode = (hex: string) => {
  const headers = decodeHeaders(bytes(hex), MAX);
  return headers && Object.fromEntries(headers);
};
/** A string as a literal without Huffman's code, shorter than 127 bytes. */
const text = (value: string) => toHex(new Uint8Array([value.length, ...utf8(value)]));

Deno.test("decodeHeaders reads the examples of RFC 7541 that need no dynamic table", () => {
  // Appendix C.2.1, C.2.2, C.2.3, C.2.4, C.4.3's last field.
  assertEquals(decode("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"), {
    "custom-key": "custom-header",
  });
  assertEquals(decode("040c 2f73 616d 706c 652f 7061 7468"), { ":path": "/sample/path" });
  assertEquals(decode("1008 7061 7373 776f 7264 0673 6563 7265 74"), { password: "secret" });
  assertEquals(decode("82"), { ":method": "GET" });
  assertEquals(decode("4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf"), {
    "custom-key": "custom-value",
  });
  // The first of C.3, C.4, C.5 and C.6; the others refer to the dynamic table.
  const request = {
    ":method": "GET",
    ":scheme": "http",
    ":path": "/",
    ":authority": "www.example.com",
  };
  assertEquals(decode("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d"), request);
  assertEquals(decode("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff"), request);
  const response = {
    ":status": "302",
    "cache-control": "private",
    "date": "Mon, 21 Oct 2013 20:13:21 GMT",
    "location": "https://www.example.com",
  };
  assertEquals(
    decode(
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a " +
        "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    ),
    response,
  );
  assertEquals(
    decode(
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e " +
        "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
    ),
    response,
  );
});

Deno.test("decodeHeaders reads status and media type in every form", () => {
  const type = "a/b; x=1";
  const cases: [what: string, hex: string, headers: Record<string, string>][] = [
    ["indexed", "88", { ":status": "200" }],
    ["another", "8d", { ":status": "404" }],
    ["the last", "8e", { ":status": "500" }],
    ["a status without entry of its own", "08 03 353033", { ":status": "503" }],
    ["table size, then status", "20 88", { ":status": "200" }],
    ["type, never indexed", `1f10 ${text(type)}`, { "content-type": type }],
    ["type, not indexed", `0f10 ${text(type)}`, { "content-type": type }],
    ["type, indexed from now on", `5f ${text(type)}`, { "content-type": type }],
    ["type, by its own name", `00 ${text("content-type")} ${text(type)}`, { "content-type": type }],
    ["trailers", "40 01 61 01 62", { a: "b" }],
    ["the ends of the static table", "81 bd", { ":authority": "", "www-authenticate": "" }],
    ["the last of equal names", "00 0161 0162 00 0161 0163", { a: "c" }],
    ["octets that are no UTF-8", "00 0161 01ff", { a: "\xff" }],
    ["nothing", "", {}],
  ];
  for (const [what, hex, headers] of cases) assertEquals(decode(hex), headers, what);
});

Deno.test("decodeHeaders refuses references to a table that is empty, and what is cut off", () => {
  const refused = [
    ...["80", "be", "ff00", "ff", "ffffffff7f", "ff ff ff ff ff 0f", "7f00 0161", "7f 01"],
    ...["3fe11f", "3f e1 1f", "21", "48", "48 03 33", "48 83 ff"],
    ...["00", "0001", "0001 61", "0001 61 02 62", "0081", "0081 ff 00", "0084 ffff ffff 00"],
    // Lengths of five and more octets, also such as overflow 32 bits.
    ...["00 7fffffffff7f", "00 7f80808080ffffffff7f", "00 ffffffffffffffffff7f"],
  ];
  for (const hex of refused) assertEquals(decode(hex), undefined, hex);
});

Deno.test("decodeHeaders refuses a list that unfolds to more than allowed", () => {
  // ":method: GET" counts 7 + 3 + 32 bytes, each time.
  const block = new Uint8Array(100).fill(0x82);
  assertEquals(decodeHeaders(block, 100 * 42)?.size, 1);
  assertEquals(decodeHeaders(block, 100 * 42 - 1), undefined);
});

Deno.test("decodeHeaders reads what encodeHeaders wrote", () => {
  const printable = fc.string({
    unit: fc.integer({ min: 32, max: 126 }).map((c) => String.fromCharCode(c)),
  });
  const name = fc.oneof(
    printable.filter((t) => t !== ""),
    fc.constantFrom(":status", ":path", "content-type", "www-authenticate"),
  );
  const value = fc.oneof(printable, fc.constantFrom("200", "/", "gzip, deflate"));
  fc.assert(
    fc.property(fc.uniqueArray(fc.tuple(name, value), { selector: ([n]) => n }), (headers) => {
      assertEquals([...decodeHeaders(encodeHeaders(headers), MAX)!], headers);
    }),
  );
  const long = [["a", "b".repeat(5000)]] as const;
  assertEquals([...decodeHeaders(encodeHeaders(long), MAX)!], [["a", "b".repeat(5000)]]);
});

Deno.test("decodeHeaders understands or refuses any bytes", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (block) => void decodeHeaders(block, MAX)),
    { numRuns: 2000 },
  );
});

Deno.test("encodeHeaders writes literals and static entries that any decoder reads", () => {
  const request: HeaderList = [
    [":method", "POST"],
    [":scheme", "https"],
    [":authority", "a.b"],
    [":path", "/q"],
    ["content-type", "m"],
    ["accept", "m"],
    ["content-length", "300"],
    ["te", "x"],
  ];
  assertEquals(
    encodeHeaders(request),
    bytes("83 87 01 03 612e62 04 02 2f71 0f10 01 6d 0f04 01 6d 0f0d 03 333030 00 02 7465 01 78"),
  );
  // 127 + 46 + 128 = 301
  const long = encodeHeaders([[":path", "/" + "x".repeat(300)]]);
  assertEquals(long.subarray(0, 4), bytes("04 7f ae 01"));
});
