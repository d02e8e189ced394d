import { assert, assertEquals } from "@std/assert";
import { medianHeapGrowth } from "./heap_growth.ts";

Deno.test("medianHeapGrowth tells code that makes objects from code that makes none", () => {
  const numbers = new Float64Array(1000);
  const kept: unknown[] = [];
  const none = () => {
    for (let i = 0; i < 1000; i++) numbers[i] = i * 2;
  };
  const some = () => {
    kept.length = 0;
    for (let i = 0; i < 1000; i++) kept.push({ i });
  };
  assert(medianHeapGrowth(none, 4000) < 4000);
  assert(medianHeapGrowth(some, 4000) >= 4000);
});

Deno.test("medianHeapGrowth goes on until a round stays below the limit", () => {
  let runs = 0;
  const kept: unknown[] = [];
  const growth = medianHeapGrowth(() => {
    if (runs++ < 100) { for (let i = 0; i < 2000; i++) kept.push({ i }); }
  }, 4000);
  assert(growth < 4000);
  assertEquals(runs % 21, 0);
  assert(runs > 100 && runs < 200, `${runs} runs`);
});
