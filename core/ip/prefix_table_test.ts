import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { ip, IpAddress, Prefix, prefix } from "./address.ts";
import { PrefixTable } from "./prefix_table.ts";

Deno.test("PrefixTable prefers the longest prefix that contains the address", () => {
  const table = new PrefixTable();
  const prefixes = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "::/0", "fd00::/8"];
  for (const [i, text] of prefixes.entries()) table.insert(prefix(text), i);
  const cases = {
    "1.1.1.1": 0,
    "10.9.9.9": 1,
    "10.1.9.9": 2,
    "10.1.2.3": 3,
    "::1": 4,
    "fdff::": 5,
  };
  for (const [address, value] of Object.entries(cases)) {
    assertEquals(lookup(table, ip(address)), value, address);
  }
  assertEquals(table.size, 6);
});

Deno.test("an empty PrefixTable finds nothing, in either family", () => {
  assertEquals(lookup(new PrefixTable(), ip("0.0.0.0")), -1);
  assertEquals(lookup(new PrefixTable(), ip("::")), -1);
});

Deno.test("PrefixTable refuses what its arrays cannot hold", () => {
  for (const value of [-1, 0.5, 2 ** 31]) {
    assertThrows(() => new PrefixTable().insert(prefix("::/0"), value), RangeError);
  }
});

// Few distinct bits, so that prefixes nest and collide.
const anyAddress = fc.tuple(
  fc.constantFrom(4, 16),
  fc.array(fc.constantFrom(0, 1, 0x80, 0xff), { minLength: 16, maxLength: 16 }),
).map(([length, bytes]) => new IpAddress(new Uint8Array(bytes.slice(0, length))));
const anyPrefix = fc.tuple(anyAddress, fc.nat(128)).map(([address, length]) =>
  new Prefix(address, length % (8 * address.bytes.length + 1))
);
const anyOperation = fc.record({
  kind: fc.constantFrom("insert", "insert", "insert", "delete"),
  prefix: anyPrefix,
  value: fc.nat(1000),
});

Deno.test("PrefixTable agrees with a list searched from end to end", () => {
  const run = fc.tuple(fc.array(anyOperation, { maxLength: 60 }), fc.array(anyAddress));
  fc.assert(
    fc.property(run, ([operations, addresses]) => {
      const table = new PrefixTable();
      const model = new Map<string, { prefix: Prefix; value: number }>();
      for (const { kind, prefix, value } of operations) {
        if (kind === "insert") {
          table.insert(prefix, value);
          model.set(prefix.text, { prefix, value });
        } else {
          assertEquals(table.delete(prefix), model.delete(prefix.text));
        }
        assertEquals(table.size, model.size);
      }
      for (const { prefix } of operations) {
        assertEquals(table.get(prefix), model.get(prefix.text)?.value ?? -1);
        addresses.push(prefix.ip);
      }
      for (const address of addresses) {
        const best = [...model.values()].filter(({ prefix }) => prefix.contains(address))
          .sort((a, b) => b.prefix.length - a.prefix.length)[0];
        assertEquals(lookup(table, address), best?.value ?? -1, address.text);
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("PrefixTable is empty again after everything was deleted, and reuses its room", () => {
  const table = new PrefixTable();
  const prefixes = Array.from(
    { length: 300 },
    (_, i) => new Prefix(new IpAddress(new Uint8Array([10, i % 7, i, i * 5])), 20 + i % 13),
  );
  for (let round = 0; round < 3; round++) {
    for (const [i, each] of prefixes.entries()) table.insert(each, i);
    for (const each of prefixes) table.delete(each);
    assertEquals(table.size, 0);
    for (const each of prefixes) assertEquals(lookup(table, each.ip), -1);
  }
});

function lookup(table: PrefixTable, address: IpAddress): number {
  const buf = new Uint8Array(address.bytes.length + 3);
  buf.set(address.bytes, 3);
  return table.lookup(address.family, buf, 3);
}
