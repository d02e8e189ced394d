import { assert, assertEquals } from "@std/assert";
import { measureCase } from "./micro.ts";
import { CASES } from "./micro_cases.ts";

Deno.test("every case of the micro bench has a name of its own and runs", () => {
  assertEquals(new Set(CASES.map(({ name }) => name)).size, CASES.length);
  // Tables of that size take seconds to fill.
  const quick = CASES.filter(({ name }) => !name.includes("100000"));
  for (const { prepare } of quick) prepare()();
});

Deno.test("the micro bench sees what is allocated for a packet", () => {
  const kept: Uint8Array[] = [];
  const packets = 4;
  const garbage = measureCase({
    name: "a kilobyte for four packets",
    packets,
    prepare: () => () => {
      kept[0] = new Uint8Array(1024);
    },
  });
  assert(garbage.bytes > 200 && garbage.bytes < 400, `${garbage.bytes} bytes`);
  let sum = 0;
  const nothing = measureCase({ name: "nothing", packets, prepare: () => () => sum++ });
  assert(nothing.bytes < 16, `${nothing.bytes} bytes`);
  assert(sum > 0);
});
