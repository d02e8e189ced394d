import { assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  finishChecksum,
  foldSum,
  sumBytes,
  sumPseudoHeader,
  sumView,
  updateChecksum,
} from "./checksum.ts";
import { readU16, writeU16 } from "../bytes/fields.ts";

Deno.test("the sum is that of RFC 1071 §3's example", () => {
  const bytes = new Uint8Array([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
  assertEquals(sumBytes(bytes, 0, 8), 0x2ddf0);
  assertEquals(foldSum(sumBytes(bytes, 0, 8)), 0xddf2);
  assertEquals(sumView(new DataView(bytes.buffer), 0, 8), 0xddf2);
  assertEquals(finishChecksum(sumBytes(bytes, 0, 8)), 0x220d);
});

Deno.test("sumView agrees with sumBytes for any bytes, at any place and of any length", () => {
  const run = fc.tuple(
    fc.uint8Array({ maxLength: 3000 }),
    fc.nat(20),
    fc.constantFrom(undefined, 0x00, 0xff),
  );
  fc.assert(fc.property(run, ([bytes, skipped, filler]) => {
    if (filler !== undefined) bytes.fill(filler);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const start = Math.min(skipped, bytes.length);
    assertEquals(
      sumView(view, start, bytes.length),
      foldSum(sumBytes(bytes, start, bytes.length)),
    );
  }));
});

Deno.test("sumView holds 128 KiB of ones", () => {
  const bytes = new Uint8Array(128 * 1024).fill(0xff);
  assertEquals(sumView(new DataView(bytes.buffer), 0, bytes.length), 0xffff);
  bytes[4] = 0;
  assertEquals(sumView(new DataView(bytes.buffer), 0, bytes.length), 0x00ff);
});

Deno.test("foldSum brings carries back until none is left", () => {
  const cases = [[0, 0], [0xffff, 0xffff], [0x10000, 1], [0x1ffff, 1], [0xffffffff, 0xffff]];
  for (const [sum, folded] of cases) assertEquals(foldSum(sum!), folded);
  assertEquals(foldSum(0xffff_ffff_ffff), 0xffff);
  assertEquals(foldSum(0x1_0000_0000), 1);
});

Deno.test("updateChecksum gives RFC 1624 §4's 0x0000, not 0xffff", () => {
  assertEquals(updateChecksum(0xdd2f, 0x5555, 0x3285), 0x0000);
});

Deno.test("an updated checksum is the one computed anew, up to the two zeros", () => {
  const change = fc.tuple(
    fc.uint8Array({ minLength: 20, maxLength: 60 }),
    fc.uint8Array({ minLength: 4, maxLength: 4 }),
    fc.nat(7),
  );
  fc.assert(fc.property(change, ([bytes, replacement, word]) => {
    const length = bytes.length;
    const before = finishChecksum(sumBytes(bytes, 0, length));
    const changed = bytes.slice();
    changed.set(replacement, 2 * word);
    const anew = finishChecksum(sumBytes(changed, 0, length));
    const first = updateChecksum(before, readU16(bytes, 2 * word), readU16(replacement, 0));
    const both = updateChecksum(first, readU16(bytes, 2 * word + 2), readU16(replacement, 2));
    assertEquals(both % 0xffff, anew % 0xffff);
  }));
});

Deno.test("the pseudo headers of both versions hold addresses, protocol and length", () => {
  const ipv4 = new Uint8Array(20);
  ipv4[0] = 0x45;
  ipv4.set([192, 0, 2, 1, 198, 51, 100, 2], 12);
  const pseudo4 = new Uint8Array([192, 0, 2, 1, 198, 51, 100, 2, 0, 17, 0x12, 0x34]);
  assertEquals(sumPseudoHeader(ipv4, 0, 17, 0x1234), sumBytes(pseudo4, 0, 12));

  const ipv6 = new Uint8Array(40);
  ipv6[0] = 0x60;
  for (let i = 8; i < 40; i++) ipv6[i] = i * 7;
  const pseudo6 = new Uint8Array(40);
  pseudo6.set(ipv6.subarray(8), 0);
  writeU16(pseudo6, 34, 0x1234);
  pseudo6[39] = 58;
  assertEquals(sumPseudoHeader(ipv6, 0, 58, 0x1234), sumBytes(pseudo6, 0, 40));
});
