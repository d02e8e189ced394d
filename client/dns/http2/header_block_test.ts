import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex } from "@firezone/core/bytes";
import { decodeAnswer, encodeRequest } from "./header_block.ts";
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

Deno.test("decodeAnswer reads the responses of RFC 7541, C.5 and C.6, as far as they matter", () => {
  // The first two of each; the others refer to dynamic tables. Indexed fields go to a table of ours
  // that has no room.
  const cases: [hex: string, status: number][] = [
    [
      "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a " +
      "3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      302,
    ],
    [
      "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e " +
      "919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
      302,
    ],
  ];
  for (const [hex, status] of cases) {
    assertEquals(decodeAnswer(bytes(hex)), { status, contentType: undefined });
  }
});

Deno.test("decodeAnswer reads status and media type in every form", () => {
  const type = [..."application/DNS-message; x=1"].map((c) => c.charCodeAt(0).toString(16)).join(
    "",
  );
  const name = [..."content-type"].map((c) => c.charCodeAt(0).toString(16)).join("");
  const cases: [what: string, hex: string, status: number | undefined, hasType: boolean][] = [
    ["indexed", "88", 200, false],
    ["another", "8d", 404, false],
    ["a status without entry of its own", "08 03 353033", 503, false],
    ["no number", "08 03 616263", NaN, false],
    ["table size, then status", "20 88", 200, false],
    ["type, never indexed", `88 1f10 1c ${type}`, 200, true],
    ["type, indexed from now on", `88 5f 1c ${type}`, 200, true],
    ["type, by its own name", `88 00 0c ${name} 1c ${type}`, 200, true],
    ["trailers", "40 01 61 01 62", undefined, false],
    ["nothing", "", undefined, false],
  ];
  for (const [what, hex, status, hasType] of cases) {
    const contentType = hasType ? "application/dns-message" : undefined;
    assertEquals(decodeAnswer(bytes(hex)), { status, contentType }, what);
  }
});

Deno.test("decodeAnswer refuses what refers to tables that there are not, or ends too early", () => {
  for (
    const hex of [
      "80",
      "be",
      "ff ff ff ff ff 0f",
      "3f e1 1f",
      "48",
      "48 03 33",
      "48 83 ff",
      "7f 01",
    ]
  ) {
    assertEquals(decodeAnswer(bytes(hex)), undefined, hex);
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (block) => {
      decodeAnswer(block);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("encodeRequest writes literals that any decoder reads", () => {
  const block = encodeRequest({ authority: "a.b", path: "/q", mediaType: "m", contentLength: 300 });
  assertEquals(
    block,
    bytes("83 87 01 03 612e62 04 02 2f71 0f10 01 6d 0f04 01 6d 0f0d 03 333030"),
  );
  const long = encodeRequest({
    authority: "a",
    path: "/" + "x".repeat(300),
    mediaType: "m",
    contentLength: 0,
  });
  // 127 + 46 + 128 = 301
  assertEquals(long.subarray(5, 9), bytes("04 7f ae 01"));
});
