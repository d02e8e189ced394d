import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { PairTable } from "./pair_table.ts";

Deno.test("PairTable does what a Map does", () => {
  const small = fc.nat({ max: 6 });
  const operation = fc.record({
    name: fc.constantFrom("set" as const, "set" as const, "delete" as const, "get" as const),
    a: fc.oneof(small, fc.nat({ max: 2 ** 31 - 1 })),
    b: small,
    value: fc.nat({ max: 2 ** 31 - 1 }),
  });
  fc.assert(
    fc.property(fc.integer(), fc.array(operation, { maxLength: 200 }), (seed, operations) => {
      const table = new PairTable(seed);
      const model = new Map<string, number>();
      for (const { name, a, b, value } of operations) {
        const key = `${a} ${b}`;
        if (name === "set") {
          table.set(a, b, value);
          model.set(key, value);
        } else if (name === "delete") {
          assertEquals(table.delete(a, b), model.delete(key));
        }
        assertEquals(table.get(a, b), model.get(key) ?? -1);
        assertEquals(table.size, model.size);
      }
      for (const [key, value] of model) {
        const [a, b] = key.split(" ").map(Number);
        assertEquals(table.get(a!, b!), value);
      }
    }),
  );
});

Deno.test("PairTable keeps many pairs and forgets them all when cleared", () => {
  const table = new PairTable(7);
  for (let i = 0; i < 10_000; i++) table.set(i % 100, i, i);
  for (let i = 0; i < 10_000; i += 2) table.delete(i % 100, i);
  for (let i = 0; i < 10_000; i++) assertEquals(table.get(i % 100, i), i % 2 === 0 ? -1 : i);
  table.clear();
  assertEquals([table.size, table.get(1, 1)], [0, -1]);
});
