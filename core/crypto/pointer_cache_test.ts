import { assertEquals } from "@std/assert";
import { PointerCache } from "./pointer_cache.ts";

const addressOf = (pointer: Deno.PointerValue) => Deno.UnsafePointer.value(pointer);

Deno.test("PointerCache gives the address of every place, found before or not", () => {
  const cache = new PointerCache();
  const buffers = [new Uint8Array(1 << 20), new Uint8Array(new ArrayBuffer(1 << 20), 40, 100_000)];
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 2_000; i++) {
      const buf = buffers[i % 2]!;
      const offset = i * 1312 % 99_999;
      const expected = addressOf(Deno.UnsafePointer.of(buf)) + BigInt(offset);
      assertEquals(addressOf(cache.find(buf, offset)), expected);
    }
  }
});

Deno.test("PointerCache tells views of one memory apart", () => {
  const cache = new PointerCache();
  const memory = new ArrayBuffer(65_536);
  const [a, b] = [new Uint8Array(memory), new Uint8Array(memory, 32)];
  assertEquals(addressOf(cache.find(b, 64)) - addressOf(cache.find(a, 64)), 32n);
});

Deno.test("PointerCache does not take small buffers", () => {
  assertEquals(new PointerCache().find(new Uint8Array(2048), 0), null);
});
