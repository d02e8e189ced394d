import { assert, assertEquals } from "@std/assert";
import { NEVER } from "../units.ts";
import { connect, packet, VirtualLink } from "./testing/virtual_link.ts";

const INITIATION = 1;
const DATA = 4;

// ---- rekeying and expiry

Deno.test("keys are made anew by the initiator when it sends after 120 s, and no packet is lost", () => {
  const link = new VirtualLink();
  connect(link);
  let sent = 0;
  for (; sent < 2000; sent++) {
    assert(link.send(link.a, packet(sent)) && link.send(link.b, packet(sent)));
    link.run(250);
  }
  link.run(1000);
  assertEquals([link.a.packets.length, link.b.packets.length], [sent, sent]);
  const times = link.a.sentAt(INITIATION);
  assertEquals(times.length, 5);
  for (let i = 1; i < times.length; i++) {
    const age = times[i]! - times[i - 1]!;
    assert(age >= 120_000 && age < 120_600, `rekeyed after ${age} ms`);
  }
  assertEquals(link.b.sentAt(INITIATION), []);
});

Deno.test("an initiator that only receives makes new keys too, when it acknowledges after 120 s", () => {
  const link = new VirtualLink();
  connect(link);
  for (let i = 0; i < 400; i++) {
    assert(link.send(link.b, packet(i)), `packet ${i}`);
    link.run(1000);
  }
  const times = link.a.sentAt(INITIATION);
  assertEquals(times.length, 4);
  for (let i = 1; i < times.length; i++) {
    const age = times[i]! - times[i - 1]!;
    assert(age >= 120_000 && age < 131_000, `rekeyed after ${age} ms`);
  }
  assertEquals(link.a.packets.length, 400);
});

Deno.test("an initiator that receives with keys of 165 s makes new ones at once, once", () => {
  const link = new VirtualLink();
  connect(link);
  const born = link.a.tunnel.lastHandshakeAt!;
  link.passes = (from) => from === link.b;
  link.run(born + 163_000 - link.now);
  assert(link.send(link.b, packet(1)));
  link.run(2000);
  assertEquals(link.a.sentAt(INITIATION).length, 1);
  assert(link.send(link.b, packet(2)) && link.send(link.b, packet(3)));
  link.run(100);
  assertEquals(link.a.sentAt(INITIATION).slice(1), [born + 165_010]);
});

Deno.test("keys older than 180 s neither seal nor open", () => {
  const link = new VirtualLink({ delayMs: 0 });
  connect(link);
  const born = link.a.tunnel.lastHandshakeAt!;
  link.run(born + 179_000 - link.now);
  const late: Uint8Array[] = [];
  link.passes = (_, message) => {
    if (message[0] === DATA) late.push(message);
    return false;
  };
  assert(link.send(link.b, packet(1)));
  link.run(1001);
  assert(!link.a.tunnel.canSeal(link.now));
  assert(!link.send(link.b, packet(2)));
  link.passes = () => true;
  link.inject(link.a, late[0]!);
  link.run(1);
  assertEquals(link.a.packets, []);
  assertEquals(link.a.outcomes.at(-1), "unknown-tunnel");
});

Deno.test("540 s after the last handshake all is forgotten, and the owner is told", () => {
  const link = new VirtualLink();
  connect(link);
  link.run(600_000);
  const expired = { tag: "expired", reason: "no-new-keys" } as const;
  assertEquals(link.a.events.at(-1), { at: 541_020, event: expired });
  assertEquals(link.b.events.at(-1), { at: 541_010, event: expired });
  for (const { tunnel } of [link.a, link.b]) assertEquals(tunnel.pollTimeout(), NEVER);
  assert(!link.send(link.a, packet(1)));
  link.run(100);
  assertEquals(link.a.eventTags.at(-1), "handshake-completed");
});

Deno.test("an attempt that fails while there are keys leaves the keys to their end", () => {
  const link = new VirtualLink({ a: { rekeyAttemptTimeMs: 20_000 } });
  connect(link);
  link.passes = (_, message) => message[0] === DATA;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(30_000);
  assertEquals(link.a.eventTags, ["handshake-completed", "expired"]);
  assert(link.send(link.a, packet(1)));
  link.run(20);
  assertEquals(link.b.packets.length, 1);
});

// ---- keepalives

Deno.test("data that is not answered for 10 s is answered by an empty message", () => {
  const link = new VirtualLink();
  connect(link);
  link.send(link.a, packet(1));
  link.run(3000);
  link.send(link.a, packet(2));
  link.run(9000);
  const received = link.now;
  assertEquals(link.b.sentAt(DATA).length, 1);
  assert(received - link.b.sentAt(DATA)[0]! < 3000);
  link.run(100_000);
  assertEquals(link.b.sentAt(DATA).length, 1, "silence needs no keepalive");
  assertEquals(link.a.outcomes.filter((it) => it === "keepalive").length, 1);
  assertEquals(link.a.sentAt(INITIATION).length, 1, "the keepalive showed that the peer is there");
});

Deno.test("data that is answered by data needs no keepalive", () => {
  const link = new VirtualLink();
  connect(link);
  for (let i = 0; i < 10; i++) {
    link.send(i % 2 === 0 ? link.a : link.b, packet(i));
    link.run(9000);
  }
  assertEquals(link.b.sentAt(DATA), []);
});

Deno.test("data to a peer that is silent for 15 s starts a handshake", () => {
  const link = new VirtualLink();
  connect(link);
  link.passes = () => false;
  const sentAt = link.now;
  for (let i = 0; i < 20; i++) {
    link.send(link.a, packet(i));
    link.run(1000);
  }
  assertEquals(link.a.sentAt(INITIATION)[1], sentAt + 15_000);
});

Deno.test("a peer that forgot everything is found again within 15 s", () => {
  const link = new VirtualLink();
  connect(link);
  link.b.tunnel.dispose();
  link.b.tunnel = link.makeTunnel(link.b, link.a, { initiates: false });
  link.send(link.a, packet(1));
  link.run(16_000);
  assert(link.send(link.b, packet(2)));
  link.run(100);
  assertEquals(link.a.packets.length, 1);
});

Deno.test("a persistent keepalive is sent after each interval of silence, once there are keys", () => {
  const link = new VirtualLink({ a: { persistentKeepaliveMs: 25_000 } });
  link.run(60_000);
  assertEquals(link.a.sent, []);
  connect(link);
  const first = link.a.sentAt(DATA)[0]!;
  link.run(60_000);
  assertEquals(link.a.sentAt(DATA), [first, first + 25_000, first + 50_000]);
});
