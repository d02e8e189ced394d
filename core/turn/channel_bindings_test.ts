import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { socketAddress } from "../ip/address.ts";
import { after, type Millis, NEVER } from "../units.ts";
import {
  CHANNEL_COOLDOWN_MS,
  CHANNEL_LIFETIME_MS,
  CHANNEL_REFRESH_MS,
  ChannelBindings,
} from "./channel_bindings.ts";
import { FIRST_CHANNEL, LAST_CHANNEL, toChannelNumber } from "./channel_data.ts";

const start = 5000 as Millis;
const peer = (n: number) => socketAddress(`192.0.2.1:${1000 + n}`);

function bound(n = 0): ChannelBindings {
  const channels = new ChannelBindings();
  channels.handleConfirmed(start, channels.request(peer(n))!);
  return channels;
}

Deno.test("ChannelBindings may be used from the request on, until they expire", () => {
  const channels = new ChannelBindings();
  const number = channels.request(peer(0))!;
  assertEquals(number, FIRST_CHANNEL);
  assertEquals(channels.request(peer(0)), undefined, "asked for already");
  assertEquals(channels.numberFor(peer(0)), number);
  assertEquals(channels.peerFor(number), peer(0));
  channels.handleConfirmed(start, number);
  assertEquals(channels.due, after(start, CHANNEL_LIFETIME_MS));
  assertEquals(channels.takeDue(after(start, CHANNEL_LIFETIME_MS - 1)), undefined);
  assertEquals(channels.numberFor(peer(0)), number);
  assertEquals(channels.takeDue(after(start, CHANNEL_LIFETIME_MS)), undefined);
  assertEquals(channels.numberFor(peer(0)), undefined);
  assertEquals(channels.peerFor(number), undefined);
});

Deno.test("ChannelBindings are refreshed after 5 min, if data came through them", () => {
  const unused = bound();
  assertEquals(unused.takeDue(after(start, CHANNEL_REFRESH_MS)), undefined);

  const used = bound();
  used.noteReceived(after(start, 1), FIRST_CHANNEL);
  assertEquals(used.due, after(start, CHANNEL_REFRESH_MS));
  assertEquals(used.takeDue(used.due)?.number, FIRST_CHANNEL);
  assertEquals(used.takeDue(used.due), undefined, "one request at a time");
  used.handleConfirmed(after(start, CHANNEL_REFRESH_MS), FIRST_CHANNEL);
  assertEquals(used.due, after(start, CHANNEL_REFRESH_MS + CHANNEL_LIFETIME_MS), "no news since");

  const late = bound();
  const receivedAt = after(start, CHANNEL_REFRESH_MS + 60_000);
  late.noteReceived(receivedAt, FIRST_CHANNEL);
  assertEquals(late.due, receivedAt);
  assertEquals(late.takeDue(receivedAt)?.number, FIRST_CHANNEL);
});

Deno.test("An expired channel goes back to its own peer only, until its cool-down is over", () => {
  const channels = bound();
  channels.takeDue(after(start, CHANNEL_LIFETIME_MS));
  assertEquals(channels.request(peer(1)), FIRST_CHANNEL + 1);
  assertEquals(channels.request(peer(0)), FIRST_CHANNEL, "same pair");

  const over = bound();
  over.takeDue(after(start, CHANNEL_LIFETIME_MS));
  assertEquals(over.due, after(start, CHANNEL_LIFETIME_MS + CHANNEL_COOLDOWN_MS));
  over.takeDue(over.due);
  assertEquals(over.due, NEVER);
  assertEquals(over.request(peer(0)), FIRST_CHANNEL + 1, "unused numbers first");
});

Deno.test("When all numbers were used, those that cooled down come back, oldest first", () => {
  const channels = new ChannelBindings();
  const count = LAST_CHANNEL - FIRST_CHANNEL + 1;
  for (let i = 0; i < count; i++) {
    channels.handleConfirmed(after(start, i), channels.request(peer(i))!);
  }
  assertEquals(channels.request(peer(count)), undefined, "none left");
  channels.takeDue(after(start, CHANNEL_LIFETIME_MS));
  assertEquals(channels.request(peer(count)), undefined, "cooling down");
  channels.takeDue(after(start, CHANNEL_LIFETIME_MS + CHANNEL_COOLDOWN_MS));
  assertEquals(channels.request(peer(count)), FIRST_CHANNEL);
});

Deno.test("A refused channel is forgotten", () => {
  const channels = new ChannelBindings();
  channels.handleRefused(channels.request(peer(0))!);
  assertEquals(channels.numberFor(peer(0)), undefined);
  assertEquals(channels.request(peer(0)), FIRST_CHANNEL + 1);
});

Deno.test("Whatever happens, numbers and peers stay paired and nothing is due that is not announced", () => {
  const step = fc.record({
    what: fc.constantFrom("request", "confirm", "refuse", "receive", "wait"),
    n: fc.nat(4),
    seconds: fc.nat(700),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
    const channels = new ChannelBindings();
    let now = start;
    for (const { what, n, seconds } of steps) {
      const number = toChannelNumber(FIRST_CHANNEL + n)!;
      if (what === "request") channels.request(peer(n));
      else if (what === "confirm") channels.handleConfirmed(now, number);
      else if (what === "refuse") channels.handleRefused(number);
      else if (what === "receive") channels.noteReceived(now, number);
      else now = after(now, seconds * 1000);
      while (channels.takeDue(now) !== undefined);
      assert(channels.due > now, "draining ends");
      for (let i = 0; i < 5; i++) {
        const has = channels.numberFor(peer(i));
        if (has !== undefined) assertEquals(channels.peerFor(has), peer(i));
      }
    }
  }));
});
