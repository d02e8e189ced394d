import { assertEquals } from "@std/assert";
import { fromHex } from "../bytes/mod.ts";
import { decodeHuffman } from "./huffman.ts";

const bytes = (hex: string) => fromHex(hex.replaceAll(" ", ""))!;

Deno.test("decodeHuffman reads the strings of RFC 7541, appendix C", () => {
  const vectors: [hex: string, text: string][] = [
    ["f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"],
    ["a8eb 1064 9cbf", "no-cache"],
    ["25a8 49e9 5ba9 7d7f", "custom-key"],
    ["25a8 49e9 5bb8 e8b4 bf", "custom-value"],
    ["6402", "302"],
    ["aec3 771a 4b", "private"],
    ["d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"],
    ["9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3", "https://www.example.com"],
    [
      "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 " +
      "03ed 4ee5 b106 3d50 07",
      "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
    ["", ""],
  ];
  for (const [hex, text] of vectors) {
    const encoded = bytes(hex);
    assertEquals(decodeHuffman(encoded, 0, encoded.length), text);
  }
});

Deno.test("decodeHuffman refuses padding that is not the beginning of the end", () => {
  // "a" is 00011; behind it come ones, fewer than eight.
  assertEquals(decodeHuffman(bytes("1f"), 0, 1), "a");
  for (const wrong of ["18", "1fff", "ff", "3fffffff"]) {
    assertEquals(decodeHuffman(bytes(wrong), 0, wrong.length / 2), undefined, wrong);
  }
});
