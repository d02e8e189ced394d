import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { seededRandom } from "../testing/random.ts";
import type { Millis } from "../units.ts";
import { Backoff, parseRetryAfter } from "./backoff.ts";

const at = (ms: number) => ms as Millis;

Deno.test("the interval grows by 1.5 and its jitter spans half of it either way", () => {
  const lowest = new Backoff((n) => new Uint8Array(n));
  assertEquals([0, 1, 2].map(() => lowest.fail(at(0))), [250, 375, 563]);
  const highest = new Backoff((n) => new Uint8Array(n).fill(0xff));
  assertEquals([0, 1, 2].map(() => highest.fail(at(0))), [750, 1125, 1687]);
  for (let i = 0; i < 50; i++) highest.fail(at(0));
  assertEquals(highest.fail(at(0)), 89_999);
  highest.reset();
  assertEquals(highest.fail(at(0)), 750);
});

Deno.test("a budget counts from the first failure after the last success", () => {
  const backoff = new Backoff(seededRandom(1), 1_000);
  assert(backoff.fail(at(5_000)) !== undefined);
  assertEquals(backoff.fail(at(5_900), 60_000), 100);
  assertEquals(backoff.fail(at(6_000)), undefined);
  backoff.succeed();
  assert(backoff.fail(at(6_000)) !== undefined);
});

Deno.test("Retry-After is seconds or a date, and never more than an hour", () => {
  const now = Date.parse("2026-01-02T03:04:05Z");
  const cases: [string | undefined, number | undefined][] = [
    [undefined, undefined],
    ["", undefined],
    ["1", 1_000],
    [" 120 ", 120_000],
    ["99999", 3_600_000],
    ["-1", undefined],
    ["1.5", undefined],
    ["soon", undefined],
    ["Fri, 02 Jan 2026 03:05:05 GMT", 60_000],
    ["Fri, 02 Jan 2026 03:00:00 GMT", 0],
  ];
  for (const [text, ms] of cases) assertEquals(parseRetryAfter(text, now), ms, String(text));
  fc.assert(fc.property(fc.string(), (text) => void parseRetryAfter(text, now)));
});
