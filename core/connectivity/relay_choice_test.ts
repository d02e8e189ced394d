import { assertEquals } from "@std/assert";
import { quickRelays } from "./relay_choice.ts";

Deno.test("of two relays the slower one is used while it takes at most half as long again", () => {
  assertEquals(chosen([20, 30]), [20, 30]);
  assertEquals(chosen([20, 31]), [20]);
  assertEquals(chosen([80]), [80]);
});

Deno.test("of more relays only outliers are left out", () => {
  assertEquals(chosen([20, 22, 25, 26, 300]), [20, 22, 25, 26]);
  assertEquals(chosen([10, 10, 10, 16]), [10, 10, 10, 16]); // a few ms are no difference
  assertEquals(chosen([10, 10, 10, 17]), [10, 10, 10]);
  assertEquals(chosen([300, 20, 160]), [300, 20, 160]); // all over the place: nobody sticks out
});

Deno.test("relays not measured yet are used only when none is", () => {
  assertEquals(chosen([undefined, 40, undefined]), [40]);
  assertEquals(chosen([undefined, undefined]), [undefined, undefined]);
  assertEquals(chosen([]), []);
});

function chosen(rtts: readonly (number | undefined)[]): (number | undefined)[] {
  return quickRelays(rtts.map((rttMs) => ({ rttMs }))).map(({ rttMs }) => rttMs);
}
