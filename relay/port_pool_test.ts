import { assert, assertEquals } from "@std/assert";
import { seededRandom } from "@firezone/core/testing";
import { PortPool } from "./port_pool.ts";

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
