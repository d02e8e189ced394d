import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { Deadlines } from "./deadlines.ts";
import { type Millis, NEVER } from "./units.ts";

const anyOperation = fc.tuple(
  fc.integer({ min: 0, max: 9 }),
  fc.oneof(fc.integer({ min: 0, max: 50 }), fc.constant(Infinity)),
);

Deno.test("Deadlines agrees with a sorted list, whatever is set, moved and removed", () => {
  fc.assert(fc.property(fc.array(anyOperation), (operations) => {
    const deadlines = new Deadlines<number>();
    const model = new Map<number, number>();
    for (const [key, at] of operations) {
      deadlines.set(key, at as Millis);
      if (at === Infinity) model.delete(key);
      else model.set(key, at);
      assertEquals(deadlines.next, Math.min(Infinity, ...model.values()) as Millis);
      assertEquals(deadlines.size, model.size);
    }
    const order: number[] = [];
    for (let key; (key = deadlines.takeDue(25 as Millis)) !== undefined;) {
      order.push(model.get(key)!);
    }
    assertEquals(order, [...model.values()].filter((at) => at <= 25).sort((a, b) => a - b));
  }));
});

Deno.test("Deadlines takes equal deadlines in the order they were set", () => {
  const deadlines = new Deadlines<string>();
  for (const key of ["c", "a", "b", "d"]) deadlines.set(key, 5 as Millis);
  deadlines.set("a", NEVER);
  const due = () => deadlines.takeDue(5 as Millis);
  assertEquals([due(), due(), due(), due()], ["c", "b", "d", undefined]);
});

Deno.test("hasten brings a deadline forward and never puts it off", () => {
  const deadlines = new Deadlines<string>();
  deadlines.hasten("a", 10 as Millis);
  deadlines.hasten("a", 20 as Millis);
  assertEquals(deadlines.of("a"), 10);
  deadlines.hasten("a", 5 as Millis);
  assertEquals(deadlines.next, 5);
  assertEquals(deadlines.takeDue(5 as Millis), "a");
  deadlines.hasten("a", NEVER);
  assertEquals(deadlines.size, 0);
});
