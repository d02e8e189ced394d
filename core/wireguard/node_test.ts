import { assertEquals } from "@std/assert";
import { seededRandom, testAead } from "../testing/mod.ts";
import type { Millis } from "../units.ts";
import { WireGuardNode } from "./node.ts";
import { type WireGuardResult, WireGuardTunnel } from "./tunnel.ts";
import { connect, VirtualLink } from "./testing/virtual_link.ts";

const INITIATION = 1;
const COOKIE_REPLY = 3;

Deno.test("under load a handshake takes a cookie and one more round", () => {
  const link = new VirtualLink({ handshakesPerSecond: 0 });
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  link.run(6000);
  assertEquals(link.b.outcomes.slice(0, 3), ["cookie-reply", "handled", "keepalive"]);
  assertEquals(link.a.outcomes, ["handled", "handled"]);
  assertEquals(link.a.sentAt(INITIATION).length, 2);
  assertEquals(link.a.eventTags, ["handshake-completed"]);
  assertEquals(link.b.node.counters["cookie-replies"], 1);
  assertEquals(link.b.tunnel.pollTransmit(), undefined);
  assertEquals(link.b.sentAt(COOKIE_REPLY), []);
});

Deno.test("the hundredth handshake of a second is answered, the next one is asked for a cookie", () => {
  const link = new VirtualLink();
  link.passes = (from) => from === link.a;
  for (let i = 0; i < 105; i++) {
    link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
    link.run(1);
  }
  link.run(100);
  assertEquals(link.b.outcomes.slice(0, 100).every((it) => it === "handled"), true);
  assertEquals(link.b.outcomes.slice(100), Array(5).fill("cookie-reply"));
  link.run(1000);
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(20);
  assertEquals(link.b.outcomes.at(-1), "handled");
});

Deno.test("a cookie that is two minutes old is not used any more", () => {
  const link = new VirtualLink({ handshakesPerSecond: 0 });
  connect(link, 6000);
  link.run(121_000);
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(20);
  assertEquals(link.b.outcomes.at(-1), "cookie-reply");
});

Deno.test("initiations for others, damaged or of an unknown kind are counted and dropped", () => {
  const link = new VirtualLink();
  link.passes = () => false;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  const good = link.a.sent[0]!.message;
  const identify = (message: Uint8Array) => {
    const from = link.a.address;
    return link.b.node.identifyInitiation(link.now, from, message, 0, message.length);
  };
  assertEquals(identify(good.subarray(1)), { tag: "drop", reason: "malformed" });
  const damaged = good.slice();
  damaged[60] = damaged[60]! ^ 1;
  assertEquals(identify(damaged), { tag: "drop", reason: "wrong-mac" });
  assertEquals(link.b.node.counters, {
    "malformed": 1,
    "wrong-mac": 1,
    "rate-limited": 0,
    "undecryptable": 0,
    "cookie-replies": 0,
  });
});

Deno.test("a tunnel takes an initiation only after the node identified it as this peer's", () => {
  const link = new VirtualLink();
  link.passes = () => false;
  link.command(link.a, (tunnel) => tunnel.initiate(link.now));
  const { message } = link.a.sent[0]!;
  const stranger = new VirtualLink({ seed: 50 }).a;
  const other = link.makeTunnel(link.b, stranger, { initiates: false });
  const handle = (tunnel: WireGuardTunnel) => {
    const result: WireGuardResult = { code: "data", length: 0 };
    tunnel.handle(link.now, message, 0, message.length, new Uint8Array(200), 0, result);
    return result.reason ?? result.code;
  };
  const identify = () => {
    const { node } = link.b;
    node.identifyInitiation(link.now, link.a.address, message, 0, message.length);
  };
  assertEquals(handle(link.b.tunnel), "not-identified");
  identify();
  assertEquals(handle(other), "not-identified");
  identify();
  assertEquals(handle(link.b.tunnel), "handled");
  assertEquals(handle(link.b.tunnel), "not-identified");
});

Deno.test("indices are of one tunnel each and are given back", () => {
  // A source of randomness that repeats itself: collisions must be avoided, not hoped away.
  let next = 0;
  const random = (length: number) => new Uint8Array(length).fill(Math.floor(next++ / 2) % 250);
  const node = new WireGuardNode({
    privateKey: seededRandom(1)(32),
    aead: testAead(),
    random,
    unixMillisAtZero: 0,
  });
  const remotePublicKey = new VirtualLink().b.node.publicKey;
  const now = 0 as Millis;
  const tunnel = new WireGuardTunnel({ node, remotePublicKey, initiates: false, now });
  const indices = Array.from({ length: 100 }, () => node.registerIndex(tunnel));
  assertEquals(new Set(indices).size, 100);
  for (const index of indices) {
    assertEquals(node.tunnelForIndex(index), tunnel);
    node.releaseIndex(index);
    assertEquals(node.tunnelForIndex(index), undefined);
  }
});
