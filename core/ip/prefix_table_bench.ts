import { seededRandom } from "../testing/random.ts";
import { type Family, IpAddress, Prefix } from "./address.ts";
import { PrefixTable } from "./prefix_table.ts";

const LOOKUPS = 1000;
const random = seededRandom(1);

for (const family of [4, 6] as const) {
  for (const entries of [10, 1000, 100_000]) {
    const table = randomTable(family, entries);
    const addresses = random(16 * LOOKUPS);
    let sum = 0;
    Deno.bench(`${LOOKUPS} IPv${family} lookups among ${entries} prefixes`, () => {
      for (let i = 0; i < LOOKUPS; i++) sum += table.lookup(family, addresses, 16 * i);
      if (sum === 0.5) throw new Error("never");
    });
  }
}

function randomTable(family: Family, entries: number): PrefixTable {
  const table = new PrefixTable();
  for (let i = 0; i < entries; i++) {
    const length = family === 4 ? 8 + i % 25 : 16 + i % 113;
    table.insert(new Prefix(new IpAddress(random(family === 4 ? 4 : 16)), length), i);
  }
  return table;
}
