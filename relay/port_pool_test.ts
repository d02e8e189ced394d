import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { seededRandom } from "@firezone/core/testing";
import { isInRange, PortPool, slicePorts } from "./port_pool.ts";

Deno.test("PortPool gives every port of the range once, in an order of its own", () => {
  const pool = new PortPool({ lowest: 50_000, highest: 50_099 }, seededRandom(1));
  const taken: number[] = [];
  for (let port; (port = pool.take()) !== undefined;) taken.push(port);
  const inOrder = Array.from({ length: 100 }, (_, i) => 50_000 + i);
  assertEquals(taken.toSorted(), inOrder);
  assert(taken.some((port, i) => port !== inOrder[i]));
});

Deno.test("PortPool gives again what it got back, and nothing else", () => {
  const pool = new PortPool({ lowest: 50_000, highest: 50_009 }, seededRandom(2));
  const held = new Set<number>();
  const random = seededRandom(3);
  for (let i = 0; i < 1000; i++) {
    if (random(1)[0]! < 128) {
      const port = pool.take();
      assertEquals(port === undefined, held.size === 10);
      if (port === undefined) continue;
      assert(!held.has(port));
      held.add(port);
    } else {
      const port = [...held][0];
      if (port === undefined) continue;
      held.delete(port);
      pool.giveBack(port as never);
    }
    assertEquals(pool.free, 10 - held.size);
  }
});

Deno.test("PortPool finds an even port as long as there is one", () => {
  const pool = new PortPool({ lowest: 50_001, highest: 50_010 }, seededRandom(4));
  const even: number[] = [];
  for (let port; (port = pool.takeEven()) !== undefined;) even.push(port);
  assertEquals(even.toSorted(), [50_002, 50_004, 50_006, 50_008, 50_010]);
  assertEquals(pool.free, 5);
});

Deno.test("slicePorts cuts a range into parts that are equal, disjoint and complete", () => {
  const size = { min: 1, max: 20_000 };
  fc.assert(fc.property(fc.integer(size), fc.integer({ min: 1, max: 300 }), (size, count) => {
    const range = { lowest: 40_000, highest: 40_000 + size - 1 };
    const slices = slicePorts(range, count);
    assertEquals(slices.length, Math.min(size, count));
    let next = range.lowest;
    for (const { lowest, highest } of slices) {
      assertEquals(lowest, next);
      const length = highest - lowest + 1;
      assert(Math.abs(length - size / slices.length) < 1);
      next = highest + 1;
    }
    assertEquals(next, range.highest + 1);
    assert(slices.every((s) => isInRange(range, s.lowest) && isInRange(range, s.highest)));
  }));
  assert(!isInRange({ lowest: 5, highest: 6 }, 4) && !isInRange({ lowest: 5, highest: 6 }, 7));
});
