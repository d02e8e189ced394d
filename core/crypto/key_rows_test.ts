import { assertEquals } from "@std/assert";
import { KeyRows } from "./key_rows.ts";

Deno.test("KeyRows keeps keys apart while it grows, and uses rows again", () => {
  const rows = new KeyRows();
  const key = (n: number) => new Uint8Array(32).map((_, i) => n + 7 * i);
  const keyAt = (row: number) => {
    const words = new Int32Array(10).fill(-1);
    rows.read(row, words);
    assertEquals([words[8], words[9]], [-1, -1]);
    return new Uint8Array(words.buffer, 0, 32);
  };
  const numbers = Array.from({ length: 200 }, (_, n) => rows.add(key(n)));
  for (const [n, row] of numbers.entries()) assertEquals(keyAt(row), key(n));
  rows.delete(numbers[5]!);
  assertEquals(keyAt(numbers[5]!), new Uint8Array(32), "nothing is left of it");
  assertEquals(rows.add(key(300)), numbers[5]);
  assertEquals(keyAt(numbers[5]!), key(300));
  assertEquals(keyAt(numbers[4]!), key(4));
  assertEquals(keyAt(numbers[6]!), key(6));
});
