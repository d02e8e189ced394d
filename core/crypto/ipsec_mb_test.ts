import { assertEquals } from "@std/assert";
import { Address } from "./ipsec_mb.ts";

Deno.test("Address writes both halves, also beyond a multiple of 2^32", () => {
  const words = new Int32Array(3);
  const put = (address: bigint, offset: number) => {
    new Address(address).put(words, 1, offset);
    return new BigUint64Array(new Uint8Array(words.buffer).slice(4, 12).buffer)[0];
  };
  for (const address of [0x1000n, 0x7fff_8000_0000n, 0x5555_ffff_fff0n, 0x7f00_ffff_0000n]) {
    for (const offset of [0, 15, 16, 65_535, 65_536, 0x7fff_ffff]) {
      assertEquals(put(address, offset), address + BigInt(offset));
    }
  }
});
