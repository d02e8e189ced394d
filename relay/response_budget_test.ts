import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { ip, IpAddress } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import { after, type Millis } from "@firezone/core/units";
import {
  DEFAULT_BUDGET,
  ResponseBudget,
  type ResponseBudgetOptions,
  shareOfBudget,
} from "./response_budget.ts";

const START = 1_234_567 as Millis;
const OPTIONS: ResponseBudgetOptions = { perSource: 10, burst: 25, total: 1000, totalBurst: 1000 };
const SOURCE = ip("198.51.100.7");

Deno.test("ResponseBudget gives a source its burst, then its rate, second by second", () => {
  const budget = make(OPTIONS);
  assertEquals(takeAll(budget, START, SOURCE), 25);
  assert(!budget.has(START, SOURCE));
  const nextSecond = 1_235_000 as Millis;
  assertEquals(takeAll(budget, after(nextSecond, -1), SOURCE), 0);
  for (const second of [0, 1, 2]) {
    const now = after(nextSecond, second * 1000);
    assert(budget.has(now, SOURCE));
    assertEquals(takeAll(budget, now, SOURCE), 10);
  }
  assertEquals(takeAll(budget, after(nextSecond, 60_000), SOURCE), 25, "no more than the burst");
});

Deno.test("ResponseBudget counts an IPv4 /24 and an IPv6 /64 as one source, others apart", () => {
  const budget = make(OPTIONS);
  for (
    const [source, same, other] of [
      ["198.51.100.1", "198.51.100.255", "198.51.101.1"],
      ["2001:db8:1:2::1", "2001:db8:1:2:ffff::1", "2001:db8:1:3::1"],
    ]
  ) {
    assertEquals(takeAll(budget, START, ip(source!)), 25);
    assertEquals(takeAll(budget, START, ip(same!)), 0);
    assertEquals(takeAll(budget, START, ip(other!)), 25);
  }
});

Deno.test("ResponseBudget bounds what all sources get together", () => {
  const budget = make({ perSource: 10, burst: 10, total: 1000, totalBurst: 100 });
  const everywhere = (now: Millis) => {
    let taken = 0;
    for (let i = 0; i < 256; i++) taken += takeAll(budget, now, ip(`10.0.${i}.1`));
    return taken;
  };
  assertEquals(everywhere(START), 100);
  assertEquals(everywhere(after(START, 1000)), 100);
  // As time goes by, not all at the beginning of a second: no queue builds up meanwhile.
  assertEquals([20, 40, 60, 61].map((ms) => everywhere(after(START, 1000 + ms))), [20, 20, 20, 1]);
});

Deno.test("ResponseBudget gives a tenth while the relay does not keep up", () => {
  const budget = make({ perSource: 1000, burst: 1000, total: 1000, totalBurst: 100 });
  budget.isScarce = true;
  assertEquals(takeAll(budget, START, SOURCE), 10);
  assert(!budget.has(START, SOURCE));
  budget.isScarce = false;
  assertEquals(takeAll(budget, after(START, 50), SOURCE), 50);
  budget.isScarce = true;
  assertEquals(takeAll(budget, after(START, 99), SOURCE), 4);
});

Deno.test("ResponseBudget spreads sources over its slots, by its seed", () => {
  const budget = make({ perSource: 1, burst: 1, total: 1e9, totalBurst: 1e9 });
  let alone = 0;
  const sources = 20_000;
  for (let i = 0; i < sources; i++) {
    const bytes = new Uint8Array([i >> 16, i >> 8, i, 1]);
    if (budget.take(START, new IpAddress(bytes))) alone++;
  }
  // So many thrown at 65536 slots at random fill 17237.
  assert(Math.abs(alone - 17_237) < 300, `${alone} had a slot for themselves`);
  const slots = (seed: number) => {
    const budget = new ResponseBudget(
      { perSource: 1, burst: 1, total: 1e9, totalBurst: 1e9 },
      seededRandom(seed),
    );
    return Array.from(
      { length: 5000 },
      (_, i) => budget.take(START, new IpAddress(new Uint8Array([9, i >> 8, i, 1]))),
    );
  };
  assert(slots(1).some((free, i) => free !== slots(2)[i]), "who collides cannot be foreseen");
});

Deno.test("ResponseBudget never gives more than the buckets of an obvious one hold", () => {
  const step = fc.record({ source: fc.nat(2), waitMs: fc.nat(3000), wanted: fc.nat(40) });
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const budget = make(OPTIONS);
    const tokens = [25, 25, 25];
    let now = START;
    for (const { source, waitMs, wanted } of steps) {
      const seconds = Math.floor((now + waitMs) / 1000) - Math.floor(now / 1000);
      now = after(now, waitMs);
      for (const i of tokens.keys()) tokens[i] = Math.min(25, tokens[i]! + 10 * seconds);
      const given = take(budget, now, ip(`192.0.${source}.1`), wanted);
      assertEquals(given, Math.min(wanted, tokens[source]!));
      tokens[source]! -= given;
    }
  }));
});

Deno.test("A crowd behind one NAT that starts at once and keeps alive stays within the budget", () => {
  for (const workers of [1, 2, 8]) {
    const budget = make(shareOfBudget(DEFAULT_BUDGET, workers));
    // A thousand clients ask twice for their address and are challenged once, within a second;
    // then each sends a BINDING every 25 s without ever having an allocation.
    const clients = 1000 / workers;
    assertEquals(take(budget, START, SOURCE, 3 * clients), 3 * clients);
    for (let second = 1; second < 100; second++) {
      const now = after(START, second * 1000);
      assertEquals(take(budget, now, SOURCE, clients / 25), Math.ceil(clients / 25));
    }
  }
});

Deno.test("shareOfBudget leaves a worker more than its part and never more than the whole", () => {
  for (const workers of [1, 2, 3, 64, 1000]) {
    const share = shareOfBudget(DEFAULT_BUDGET, workers);
    assert(share.perSource <= DEFAULT_BUDGET.perSource && share.perSource >= 1);
    assert(share.burst <= DEFAULT_BUDGET.burst && share.burst * workers >= DEFAULT_BUDGET.burst);
    assert(share.total <= DEFAULT_BUDGET.total && share.total * workers >= DEFAULT_BUDGET.total);
  }
});

function make(options: ResponseBudgetOptions): ResponseBudget {
  return new ResponseBudget(options, seededRandom(5));
}

function take(budget: ResponseBudget, now: Millis, source: IpAddress, wanted: number): number {
  let taken = 0;
  while (taken < wanted && budget.take(now, source)) taken++;
  return taken;
}

function takeAll(budget: ResponseBudget, now: Millis, source: IpAddress): number {
  return take(budget, now, source, Infinity);
}
