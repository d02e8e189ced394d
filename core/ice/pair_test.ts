import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { socketAddress } from "../ip/address.ts";
import { after, type Millis, NEVER } from "../units.ts";
import { Candidate } from "./candidate.ts";
import { CandidatePair } from "./pair.ts";
import { CLIENT } from "./testing/world.ts";
import { pairTimeoutMs } from "./timing.ts";

const NOW = 5000 as Millis;
const HOST = Candidate.host(socketAddress("192.0.2.1:1"));
const RELAYED = Candidate.relayed(socketAddress("192.0.2.2:2"));

Deno.test("the pair priority is that of RFC 8445 §6.1.2.3, the same at both ends", () => {
  const [g, d] = [BigInt(HOST.priority), BigInt(RELAYED.priority)];
  const ours = new CandidatePair(NOW, HOST, RELAYED, true);
  const theirs = new CandidatePair(NOW, RELAYED, HOST, false);
  assertEquals(ours.priority, 2n ** 32n * d + 2n * g + 1n);
  assertEquals(theirs.priority, ours.priority);
  const turned = new CandidatePair(NOW, HOST, RELAYED, false);
  assertEquals(turned.priority, ours.priority - 1n);
});

Deno.test("a pair is checked at once, then on the schedule", () => {
  const pair = new CandidatePair(NOW, HOST, RELAYED, true);
  assertEquals([pair.state, pair.dueAt, pair.silentSince], ["waiting", NOW, NEVER]);
  pair.noteSent(NOW, CLIENT, false);
  assertEquals([pair.state, pair.dueAt - NOW], ["in-progress", 250]);
  assertEquals(pair.failsAt(pairTimeoutMs(CLIENT)) - NOW, 16_500);
  pair.noteAnswer(after(NOW, 40), NOW, CLIENT);
  assertEquals([pair.state, pair.dueAt - NOW, pair.rttMs], ["succeeded", 1500, 40]);
  assertEquals(pair.failsAt(pairTimeoutMs(CLIENT)), NEVER);
});

Deno.test("an answered pair is checked again up to a fifth or a second sooner, by chance", () => {
  for (const [chance, wait, idleWait] of [[0, 1500, 25_000], [1, 1200, 24_000]] as const) {
    const pair = new CandidatePair(NOW, HOST, RELAYED, true);
    pair.noteSent(NOW, CLIENT, true, chance);
    assertEquals(pair.dueAt - NOW, 250, "what is not answered is repeated on the schedule");
    pair.noteAnswer(after(NOW, 40), NOW, CLIENT);
    assertEquals(pair.dueAt - NOW, wait);
    pair.applyTiming(NOW, { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 4 }, true);
    assertEquals(pair.dueAt - NOW, idleWait);
  }
});

Deno.test("the round-trip time is smoothed", () => {
  const pair = new CandidatePair(NOW, HOST, RELAYED, true);
  for (const rtt of [80, 160]) {
    pair.noteSent(NOW, CLIENT, false);
    pair.noteAnswer(after(NOW, rtt), NOW, CLIENT);
  }
  assertEquals(pair.rttMs, 90);
});

Deno.test("a pair that fell silent is lost, one that never worked has failed and rests", () => {
  const pair = new CandidatePair(NOW, HOST, RELAYED, true);
  pair.noteSent(NOW, CLIENT, false);
  pair.giveUp(NOW, CLIENT, false);
  assertEquals([pair.state, pair.dueAt, pair.isPossible], ["failed", NEVER, false]);
  pair.trigger(NOW);
  assertEquals([pair.state, pair.isPossible], ["waiting", true]);
  pair.noteSent(NOW, CLIENT, false);
  pair.noteAnswer(NOW, NOW, CLIENT);
  pair.giveUp(NOW, CLIENT, false);
  assertEquals([pair.state, pair.dueAt - NOW], ["lost", 6000]);
  pair.giveUp(NOW, CLIENT, true);
  assertEquals(pair.state, "failed");
});

Deno.test("a check of the peer repeats ours soon, but not many times at once", () => {
  const pair = new CandidatePair(NOW, HOST, RELAYED, true);
  pair.noteSent(NOW, CLIENT, false);
  pair.trigger(after(NOW, 5));
  assertEquals(pair.dueAt - NOW, 20);
  pair.trigger(after(NOW, 100));
  assertEquals(pair.dueAt - NOW, 20);
  pair.noteSent(after(NOW, 100), CLIENT, false);
  pair.noteAnswer(after(NOW, 110), after(NOW, 100), CLIENT);
  pair.trigger(after(NOW, 120));
  assertEquals(pair.dueAt - NOW, 1600, "a pair that works needs no more");
});

Deno.test("a pair is suspect after four checks over two seconds, until it answers", () => {
  const pair = new CandidatePair(NOW, HOST, RELAYED, true);
  pair.noteSent(NOW, CLIENT, false);
  pair.noteAnswer(NOW, NOW, CLIENT);
  const suspects: number[] = [];
  let at = after(NOW, 1500);
  for (let i = 0; i < 6; i++) {
    pair.noteSent(at, CLIENT, false);
    if (pair.isSuspect) suspects.push(at - NOW - 1500);
    at = pair.dueAt;
  }
  assertEquals(suspects, [3250, 4750]);
  pair.noteAnswer(at, at, CLIENT);
  assert(!pair.isSuspect);
});

Deno.test("a pair is silent after three checks, 900 ms and three round trips without an answer", () => {
  for (const [rttMs, silentAfter] of [[10, 900], [400, 1200]] as const) {
    const pair = new CandidatePair(NOW, HOST, RELAYED, true);
    pair.noteSent(NOW, CLIENT, false);
    pair.noteAnswer(after(NOW, rttMs), NOW, CLIENT);
    const asked = after(NOW, 1500);
    for (const ms of [0, 250, 750]) {
      assert(!pair.isSilent(after(asked, 5000)));
      pair.noteSent(after(asked, ms), CLIENT, false);
    }
    assert(!pair.isSilent(after(asked, silentAfter - 1)));
    assert(pair.isSilent(after(asked, silentAfter)));
    pair.noteAnswer(after(asked, silentAfter), after(asked, 750), CLIENT);
    assert(!pair.isSilent(after(asked, silentAfter)));
  }
});

Deno.test("whatever happens, a pair that may work has a deadline", () => {
  const steps = fc.array(
    fc.tuple(fc.constantFrom("due", "answer", "trigger", "timing", "wait"), fc.nat(20_000)),
  );
  const timings = [CLIENT, { initialRtoMs: 25_000, maxRtoMs: 25_000, retransmits: 4 }];
  fc.assert(fc.property(steps, (list) => {
    const pair = new CandidatePair(NOW, HOST, RELAYED, true);
    let now = NOW;
    let timing = timings[0]!;
    for (const [step, ms] of list) {
      if (step === "due") {
        now = after(pair.dueAt === NEVER ? now : Math.max(now, pair.dueAt) as Millis, 0);
        pair.noteSent(now, timing, false);
      } else if (step === "answer" && pair.state !== "waiting") pair.noteAnswer(now, now, timing);
      else if (step === "trigger") pair.trigger(now);
      else if (step === "timing") pair.applyTiming(now, timing = timings[ms % 2]!, false);
      else now = after(now, ms);
      const failsAt = pair.failsAt(pairTimeoutMs(timing));
      if (now >= failsAt) pair.giveUp(now, timing, false);
      if (pair.isPossible) assert(pair.dueAt < NEVER || failsAt < NEVER);
      else assertEquals(pair.failsAt(1), NEVER);
      assertEquals(pair.dueAt === NEVER && pair.state === "lost", false);
    }
  }));
});
