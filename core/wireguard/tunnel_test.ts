import { assert, assertEquals, assertThrows } from "@std/assert";
import { base64 } from "../bytes/mod.ts";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import { type Millis, NEVER } from "../units.ts";
import { connect, packet, VirtualLink } from "./testing/virtual_link.ts";
import type { WireGuardResult } from "./tunnel.ts";

const INITIATION = 1;
const RESPONSE = 2;
const DATA = 4;

Deno.test("a handshake takes one round trip and a keepalive, after which both ends send", () => {
  const link = new VirtualLink();
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(100);
  assertEquals(link.a.sentAt(INITIATION), [1000]);
  assertEquals(link.b.sentAt(RESPONSE), [1010]);
  assertEquals(link.a.sentAt(DATA), [1020]);
  assertEquals(link.a.events, [
    { at: 1020, event: { tag: "handshake-completed", isInitiator: true } },
  ]);
  assertEquals(link.b.events, [
    { at: 1030, event: { tag: "handshake-completed", isInitiator: false } },
  ]);
  assertEquals(link.a.tunnel.lastHandshakeAt, 1020 as Millis);
  assert(link.send(link.b, packet(1)));
  assert(link.send(link.a, packet(2)));
  link.run(20);
  assertEquals(link.a.packets.map((it) => it[0]), [1]);
  assertEquals(link.b.packets.map((it) => it[0]), [2]);
});

Deno.test("messages that did not arrive are counted, those that are only late are not", () => {
  const link = new VirtualLink();
  connect(link);
  const { rxPackets } = link.b.tunnel;
  link.passes = (from, message) => from !== link.a || message[0] !== DATA;
  for (let i = 0; i < 3; i++) assert(link.send(link.a, packet(i)));
  assertEquals(link.b.tunnel.rxLost, 0);
  link.passes = () => true;
  assert(link.send(link.a, packet(3)));
  link.run(20);
  assertEquals([link.b.tunnel.rxPackets, link.b.tunnel.rxLost], [rxPackets + 1, 3]);
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(200_000);
  assertEquals(link.b.tunnel.rxLost, 3, "as before, under other keys");
  assertEquals(link.a.tunnel.rxLost, 0);
});

Deno.test("the first packet starts the handshake on the end that may, and waits on the other", () => {
  const link = new VirtualLink();
  assert(!link.send(link.b, packet(1)));
  link.run(200_000);
  assertEquals(link.b.sent, []);
  assertEquals(link.b.tunnel.pollTimeout(), NEVER);
  assert(!link.send(link.a, packet(1)));
  assertEquals(link.a.sentAt(INITIATION), [201_000]);
});

Deno.test("the responder does not send before the initiator has used the keys", () => {
  const link = new VirtualLink();
  link.passes = (from, message) => from === link.b || message[0] !== DATA;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(1000);
  assertEquals(link.a.eventTags, ["handshake-completed"]);
  assertEquals(link.b.eventTags, []);
  assert(!link.b.tunnel.canSeal(link.now));
  assert(!link.send(link.b, packet(1)));
  link.passes = () => true;
  assert(link.send(link.a, packet(2)));
  link.run(20);
  assertEquals(link.b.eventTags, ["handshake-completed"]);
  assert(link.send(link.b, packet(1)));
});

Deno.test("an unanswered initiation is sent anew every 5 s and a bit, for 90 s", () => {
  const link = new VirtualLink();
  link.passes = () => false;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(200_000);
  const times = link.a.sentAt(INITIATION);
  assertEquals(times[0], 1000);
  for (let i = 1; i < times.length; i++) {
    const gap = times[i]! - times[i - 1]!;
    assert(gap >= 5000 && gap <= 5333, `gap of ${gap} ms`);
  }
  assert(new Set(times.map((time, i) => time - (times[i - 1] ?? 0))).size > 5, "no jitter");
  assert(times.at(-1)! < 91_000);
  assertEquals(link.a.events, [{ at: 91_000, event: { tag: "expired", reason: "unanswered" } }]);
  const messages = link.a.sent.map((it) => base64(it.message));
  assertEquals(new Set(messages).size, messages.length, "each has its own ephemeral key");
  assertEquals(link.a.tunnel.pollTimeout(), NEVER);
});

Deno.test("a tunnel may give up sooner, and may be asked to try again", () => {
  const link = new VirtualLink({ a: { rekeyAttemptTimeMs: 20_000 } });
  link.passes = () => false;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(60_000);
  assertEquals(link.a.events, [{ at: 21_000, event: { tag: "expired", reason: "unanswered" } }]);
  assertEquals(link.a.sentAt(INITIATION).length, 4);
  link.passes = () => true;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(100);
  assertEquals(link.a.eventTags, ["expired", "handshake-completed"]);
});

Deno.test("packets that find no session do not make initiations more frequent", () => {
  const link = new VirtualLink();
  link.passes = () => false;
  for (let i = 0; i < 100; i++) {
    assert(!link.send(link.a, packet(1)));
    link.run(100);
  }
  assertEquals(link.a.sentAt(INITIATION).length, 2);
});

Deno.test("asking again is no new handshake while one runs or is young, unless it is forced", () => {
  const link = new VirtualLink();
  const initiate = (force?: boolean) =>
    link.command(link.a, (tunnel) => tunnel.initiate(link.now, force));
  initiate();
  initiate();
  link.run(1000);
  assertEquals(link.a.sentAt(INITIATION), [1000]);
  initiate();
  link.run(10_000);
  assertEquals(link.a.sentAt(INITIATION), [1000, 6000]);
  initiate(true);
  link.run(100);
  initiate(true);
  link.run(100);
  assertEquals(link.a.sentAt(INITIATION), [1000, 6000, 12_000, 12_100]);
  assertEquals(link.a.eventTags.length, 4);
  assertEquals(link.b.eventTags.length, 4);
});

Deno.test("an end that does not initiate never does, whatever is asked, sent or received", () => {
  const link = new VirtualLink({ b: { persistentKeepaliveMs: 1000 } });
  link.command(link.b, (tunnel) => tunnel.initiate(link.now, true));
  connect(link);
  link.passes = (from) => from === link.b;
  for (let i = 0; i < 60; i++) {
    link.send(link.b, packet(i));
    link.run(10_000);
  }
  assertEquals(link.b.sentAt(INITIATION), []);
});

Deno.test("different preshared keys give no session; the initiator is told once per initiation", () => {
  const link = new VirtualLink({ b: { presharedKey: new Uint8Array(32).fill(0x44) } });
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(1000);
  assertEquals(link.a.eventTags, ["handshake-failed"]);
  assertEquals(link.a.outcomes, ["undecryptable"]);
  assertEquals(link.b.eventTags, []);
  link.inject(link.a, link.b.sent[0]!.message);
  link.run(1000);
  assertEquals(link.a.outcomes, ["undecryptable", "undecryptable"]);
  assertEquals(link.a.tunnel.drops.undecryptable, 2);
  link.run(4000);
  assertEquals(link.a.eventTags, ["handshake-failed", "handshake-failed"]);
});

Deno.test("a peer whose key is of small order gives no session, and nothing throws", () => {
  const link = new VirtualLink({ a: { remotePublicKey: new Uint8Array(32) } });
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(100_000);
  assertEquals(link.a.sent, []);
  assertEquals(link.a.eventTags, ["expired"]);
});

Deno.test("a recorded initiation is not answered again, by a restarted initiator either", () => {
  const link = new VirtualLink();
  connect(link);
  const recorded = link.a.sent[0]!.message;
  link.inject(link.b, recorded);
  link.run(100);
  assertEquals(link.b.outcomes.at(-1), "replayed");
  assertEquals(link.b.sentAt(RESPONSE).length, 1);
  link.a.tunnel.dispose();
  link.a.tunnel = link.makeTunnel(link.a, link.b, { initiates: true });
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(100);
  assertEquals(link.a.eventTags, ["handshake-completed", "handshake-completed"]);
});

Deno.test("initiations of the same millisecond are told apart by their timestamps", () => {
  const link = new VirtualLink();
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(100);
  // Those of the first two belong to initiations that were given up meanwhile.
  assertEquals(link.b.sentAt(RESPONSE).length, 3);
  assertEquals(link.a.eventTags, ["handshake-completed"]);
  assert(link.send(link.a, packet(1)));
  assert(link.send(link.b, packet(1)));
  link.run(20);
  assertEquals([link.a.packets.length, link.b.packets.length], [1, 1]);
});

Deno.test("two ends that initiate at once end up with sessions that work both ways", () => {
  for (const delayMs of [0, 10, 400]) {
    const link = new VirtualLink({ b: { initiates: true }, delayMs });
    link.command(link.a, (tunnel) => tunnel.initiate(link.now));
    link.command(link.b, (tunnel) => tunnel.initiate(link.now));
    link.run(2000);
    for (let i = 0; i < 10; i++) {
      assert(link.send(link.a, packet(i)) && link.send(link.b, packet(i)));
      link.run(1000);
    }
    assertEquals([link.a.packets.length, link.b.packets.length], [10, 10], `delay ${delayMs}`);
    assertEquals([link.a.sentAt(INITIATION).length, link.b.sentAt(INITIATION).length], [1, 1]);
  }
});

Deno.test("packets are padded to multiples of 16 but never past the MTU", () => {
  const link = new VirtualLink();
  connect(link);
  const lengths = [1, 15, 16, 17, 1264, 1265, 1279, 1280, 1281, 1500];
  for (const length of lengths) {
    assert(link.send(link.a, new Uint8Array(length).fill(7)));
  }
  link.run(100);
  assertEquals(
    link.b.packets.map((it) => it.length),
    [16, 16, 16, 32, 1264, 1280, 1280, 1280, 1281, 1500],
  );
  for (const [i, received] of link.b.packets.entries()) {
    assert(received.every((byte, at) => byte === (at < lengths[i]! ? 7 : 0)));
  }
});

Deno.test("a packet that already lies where its ciphertext goes is sealed in place", () => {
  const link = new VirtualLink();
  connect(link);
  for (const length of [61, 64]) {
    const buf = new Uint8Array(200).fill(0xee);
    buf.fill(9, 24, 24 + length);
    const written = link.a.tunnel.seal(link.now, buf, 24, 24 + length, buf, 8);
    assertEquals(written, 96);
    assert(buf.subarray(0, 8).every((byte) => byte === 0xee));
    assert(buf.subarray(8 + written).every((byte) => byte === 0xee));
    link.inject(link.b, buf.slice(8, 8 + written));
  }
  link.run(100);
  assertEquals(link.b.packets.map((it) => it.filter((byte) => byte === 9).length), [61, 64]);
});

Deno.test("a message is taken once, in any order within the window", () => {
  const link = new VirtualLink();
  connect(link);
  const messages: Uint8Array[] = [];
  link.passes = (_, message) => {
    messages.push(message);
    return false;
  };
  for (let i = 0; i < 10_000; i++) link.send(link.a, packet(i));
  link.passes = () => true;
  const deliver = (i: number) => {
    link.inject(link.b, messages[i]!);
    link.run(10);
    return link.b.outcomes.at(-1);
  };
  assertEquals(deliver(9_000), "data");
  assertEquals(deliver(9_000), "replayed");
  assertEquals(deliver(8_000), "data");
  assertEquals(deliver(1_500), "data");
  assertEquals(deliver(500), "replayed");
  assertEquals(deliver(9_999), "data");
  assertEquals(deliver(8_001), "data");
  assertEquals(deliver(8_000), "replayed");
  assertEquals(link.b.tunnel.drops.replayed, 3);
});

Deno.test("what is under way when keys change still arrives", () => {
  const link = new VirtualLink();
  connect(link);
  link.delayMs = 3000;
  link.send(link.a, packet(1));
  link.send(link.b, packet(1));
  link.delayMs = 10;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(200);
  assertEquals(link.a.eventTags.length, 2);
  link.run(5000);
  assertEquals([link.a.packets.length, link.b.packets.length], [1, 1]);
});

Deno.test("a message for a buffer that is too small is dropped, not thrown", () => {
  const { link, message } = recorded();
  const result: WireGuardResult = { code: "data", length: 1 };
  link.b.tunnel.handle(link.now, message, 0, message.length, new Uint8Array(99), 0, result);
  assertEquals([result.code, result.reason], ["dropped", "too-long"]);
  const dst = new Uint8Array(112);
  link.b.tunnel.handle(link.now, message, 0, message.length, dst, 0, result);
  assertEquals([result.code, result.length], ["data", 112]);
});

Deno.test("counters from 2^53 on are refused", () => {
  const { link, message } = recorded();
  const result: WireGuardResult = { code: "data", length: 1 };
  message.fill(0xff, 8, 16);
  link.b.tunnel.handle(link.now, message, 0, message.length, new Uint8Array(200), 0, result);
  assertEquals([result.code, result.reason], ["dropped", "replayed"]);
});

Deno.test("a disposed tunnel has given back its indices and stays silent", () => {
  const link = new VirtualLink();
  connect(link);
  const index = new DataView(link.a.sent.at(-1)!.message.buffer).getUint32(4, true);
  assertEquals(link.b.node.tunnelForIndex(index), link.b.tunnel);
  link.b.tunnel.dispose();
  assertEquals(link.b.node.tunnelForIndex(index), undefined);
  assertEquals(link.b.tunnel.pollTimeout(), NEVER);
  assert(!link.send(link.b, packet(1)));
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(100);
  assertEquals(link.b.outcomes.at(-1), "not-identified");
  link.a.tunnel.dispose();
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  assertEquals(link.a.tunnel.pollTransmit(), undefined);
  link.b.tunnel.dispose();
});

Deno.test("keys of a wrong length are a bug of the caller", () => {
  const link = new VirtualLink();
  const options = { initiates: true, presharedKey: new Uint8Array(31) };
  assertThrows(() => link.makeTunnel(link.a, link.b, options), RangeError);
});

Deno.test("bytes are counted with overhead and keepalives", () => {
  const link = new VirtualLink();
  connect(link);
  link.send(link.a, packet(1));
  link.run(100);
  assertEquals(link.a.tunnel.txBytes, 32 + 144);
  assertEquals(link.b.tunnel.rxBytes, 32 + 144);
});

Deno.test("data is news to the owner only when it brings a deadline forward", () => {
  const link = new VirtualLink();
  connect(link);
  const { tunnel } = link.b;
  link.run(1000);
  const news: boolean[] = [];
  // The first packet has to be answered within ten seconds; before that nothing was due.
  for (let i = 0; i < 5; i++) {
    link.passes = () => false;
    link.send(link.b, packet(i));
    news.push(tunnel.hasNews);
    link.passes = () => true;
    link.send(link.a, packet(i));
    link.run(100);
    news.push(link.b.newsOfLastMessage);
  }
  assertEquals(news, [false, true, false, false, false, false, false, false, false, false]);
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  assert(link.a.tunnel.hasNews);
});

Deno.test("sealing and opening full packets allocates nothing", () => {
  const link = new VirtualLink();
  connect(link);
  if (link.a.node.identity.aead.name !== "libcrypto") return;
  const plain = new Uint8Array(65_536);
  const sealed = new Uint8Array(65_536);
  const opened = new Uint8Array(65_536);
  const result: WireGuardResult = { code: "dropped", length: 0 };
  const batch = () => {
    for (let i = 0; i < 1000; i++) {
      const at = (i % 48) * 1312;
      const { now, a, b } = link;
      a.tunnel.seal(now, plain, at, at + 1280, sealed, at);
      b.tunnel.handle(now, sealed, at, at + 1312, opened, at, result);
      if (result.code !== "data") throw new Error(result.reason);
    }
  };
  const growth = medianHeapGrowth(batch, 8000);
  assert(growth < 8000, `${growth / 1000} bytes per packet`);
});

/** A data message on its way from a to b, and how to hand it over. */
function recorded(): { link: VirtualLink; message: Uint8Array } {
  const link = new VirtualLink();
  connect(link);
  let message: Uint8Array = new Uint8Array();
  link.passes = (_, it) => {
    message = it;
    return false;
  };
  link.send(link.a, packet(1));
  return { link, message };
}
