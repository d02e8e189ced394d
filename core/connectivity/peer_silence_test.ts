import { assert, assertEquals } from "@std/assert";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import { type Millis, NEVER } from "../units.ts";
import { PeerSilence } from "./peer_silence.ts";

const at = (ms: number) => ms as Millis;

Deno.test("PeerSilence asks the relays after 15 s without a word, and judges at 16.5 s, once", () => {
  const silence = new PeerSilence(at(0));
  silence.noteHeard(at(1_000));
  assertEquals(silence.pollTimeout(), at(16_000));
  assertEquals(silence.takeDue(at(15_999)), undefined);
  assertEquals(silence.takeDue(at(16_000)), "ask");
  assertEquals([silence.askedAt, silence.pollTimeout()], [at(16_000), at(17_500)]);
  assertEquals(silence.takeDue(at(17_499)), undefined);
  assertEquals(silence.takeDue(at(17_500)), "judge");
  assertEquals([silence.takeDue(at(99_000)), silence.pollTimeout()], [undefined, NEVER]);
  silence.noteHeard(at(100_000));
  assertEquals(silence.pollTimeout(), at(115_000));
});

Deno.test("PeerSilence listens anew after a word, whenever it comes", () => {
  const silence = new PeerSilence(at(0));
  assertEquals(silence.takeDue(at(15_000)), "ask");
  silence.noteHeard(at(16_000));
  assertEquals(silence.takeDue(at(16_500)), undefined);
  assertEquals(silence.pollTimeout(), at(31_000));
});

Deno.test("PeerSilence of a process that stood still gives the relays their time first", () => {
  const silence = new PeerSilence(at(0));
  assertEquals(silence.takeDue(at(60_000)), "ask");
  assertEquals(silence.takeDue(at(60_000)), undefined);
  assertEquals(silence.pollTimeout(), at(61_500));
});

Deno.test("PeerSilence.noteHeard allocates nothing once it is compiled", () => {
  const silence = new PeerSilence(at(0));
  const clock = new Float64Array([0.5]);
  const batch = () => {
    for (let i = 0; i < 1000; i++) silence.noteHeard(at(clock[0]! += 0.7));
  };
  const growth = medianHeapGrowth(batch, 4000);
  assert(growth < 4000, `grew by ${growth} bytes per 1000 packets`);
});
