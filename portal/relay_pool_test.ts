import { assert, assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { isSameRelay, type Relay, RelayPool } from "./relay_pool.ts";

function relay(n: number): Relay {
  return { id: `r${n}`, stampSecret: `s${n}`, ipv4: ip(`192.0.2.${n}`), ipv6: undefined, port: 9 };
}

Deno.test("devices spread over relays, each staying with its own", () => {
  const pool = new RelayPool();
  for (let n = 0; n < 5; n++) pool.add(relay(n));
  const uses = new Map<string, number>();
  for (let device = 0; device < 500; device++) {
    const chosen = pool.select(`device ${device}`, new Set());
    assertEquals(chosen, pool.select(`device ${device}`, new Set()));
    assertEquals(chosen.length, 2);
    for (const { id } of chosen) uses.set(id, (uses.get(id) ?? 0) + 1);
  }
  for (const count of uses.values()) assert(count > 140 && count < 260, `${count} of 200`);
});

Deno.test("what a device has comes first, as long as it is online", () => {
  const pool = new RelayPool();
  for (let n = 0; n < 5; n++) pool.add(relay(n));
  const known = new Set(["r3", "r4", "gone"]);
  assertEquals(new Set(pool.select("d", known).map(({ id }) => id)), new Set(["r3", "r4"]));
  pool.delete("r3");
  const ids = pool.select("d", known).map(({ id }) => id);
  assertEquals([ids[0], ids.length], ["r4", 2]);
});

Deno.test("a relay is another when anything about it is", () => {
  const one = relay(1);
  assert(isSameRelay(one, relay(1)));
  assert(!isSameRelay(undefined, one));
  for (const change of [{ port: 1 }, { stampSecret: "x" }, { ipv6: ip("::1") }, { id: "x" }]) {
    assert(!isSameRelay(one, { ...one, ...change }));
  }
});
