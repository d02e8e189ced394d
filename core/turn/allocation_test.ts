import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type SocketAddress, socketAddress } from "../ip/address.ts";
import { longTermKey } from "../stun/credentials.ts";
import { METHOD, parseStunMessage, type StunMessage, StunWriter } from "../stun/mod.ts";
import { seededRandom } from "../testing/random.ts";
import { after, type Millis } from "../units.ts";
import {
  Allocation,
  type AllocationEvent,
  KEEP_ALIVE_MS,
  MAX_QUEUED_PEERS,
  type TurnServers,
} from "./allocation.ts";
import { FIRST_CHANNEL } from "./channel_data.ts";

const V4 = socketAddress("203.0.113.1:3478");
const V6 = socketAddress("[2001:db8::1]:3478");
const HOST4 = socketAddress("10.0.0.2:52625");
const HOST6 = socketAddress("[2001:db8:c::2]:52625");
const MAPPED4 = socketAddress("198.51.100.1:5000");
const RELAYED4 = socketAddress("203.0.113.1:50000");
const RELAYED6 = socketAddress("[2001:db8::1]:50000");
const PEER = socketAddress("192.0.2.9:7000");
const PEER6 = socketAddress("[2001:db8:9::9]:7000");
const CREDENTIALS = { username: "1892160000:salt", password: "secret", realm: "firezone" };
const KEY = longTermKey("1892160000:salt", "firezone", "secret");
const SECOND = 1000;

Deno.test("Allocation probes all addresses and uses the first that answers", () => {
  const t = new Bench({ v4: V4, v6: V6 });
  assertEquals(t.sent().map((s) => [s.to, s.is]), [[V4, "binding"], [V6, "binding"]]);
  t.reply(t.last(V6), (w) => w.mappedAddress(HOST6), { signed: false });
  assertEquals(t.allocation.activeServer, V6);
  assertEquals(t.take(), [["host-address", HOST6.key], ["candidate-added", "srflx", HOST6.key]]);
  const [allocate] = t.sent();
  assertEquals([allocate!.to, allocate!.is], [V6, "allocate"]);
  t.reply(t.last(V4), (w) => w.mappedAddress(MAPPED4), { signed: false });
  assertEquals(t.allocation.activeServer, V6, "the other address only tells ours");
  assertEquals(t.take(), [["host-address", HOST4.key], ["candidate-added", "srflx", MAPPED4.key]]);
  assertEquals(t.sent(), []);
});

Deno.test("Allocation asks for UDP in both families, naming its user from the first time", () => {
  const t = new Bench({ v4: V4 });
  t.sent();
  t.reply(t.last(V4), (w) => w.mappedAddress(MAPPED4), { signed: false });
  const { request } = t.sent()[0]!;
  assertEquals(request.requestedTransport, 17);
  assertEquals(request.additionalAddressFamily, 6);
  assertEquals(request.software, "test");
  assertEquals([request.username, request.realm, request.nonce], [
    CREDENTIALS.username,
    "firezone",
    undefined,
  ]);
  assert(request.verifyIntegrity(KEY));
  t.challenge(t.last(V4), 401, "n1");
  const again = t.sent()[0]!.request;
  assertEquals([again.method, again.nonce], [METHOD.allocate, "n1"]);
  assert(again.transactionId !== request.transactionId);
});

Deno.test("Allocation tells its candidates and binds what waited for it", () => {
  const t = new Bench({ v4: V4 });
  t.allocation.bindChannel(t.now, PEER);
  t.allocation.bindChannel(t.now, PEER);
  t.allocation.bindChannel(t.now, PEER6);
  assertEquals(t.allocation.channelFor(PEER), undefined);
  t.allocate([RELAYED4]);
  assertEquals(t.take().slice(2), [["candidate-added", "relay", RELAYED4.key]]);
  assertEquals(t.allocation.relayedAddress(4), RELAYED4);
  assertEquals(t.allocation.relayedAddress(6), undefined);
  const sent = t.sent();
  assertEquals(sent.map((s) => [s.is, s.request.peerAddress?.key]), [["channelBind", PEER.key]]);
  assertEquals(t.allocation.channelFor(PEER), FIRST_CHANNEL, "may be used while under way");
  t.reply(sent[0]!);
  t.allocation.bindChannel(t.now, PEER);
  assertEquals(t.sent(), [], "bound already");
  assertEquals(t.allocation.peerFor(FIRST_CHANNEL), PEER);
});

Deno.test("Allocation remembers no more than 100 peers while it waits", () => {
  const t = new Bench({ v4: V4 });
  for (let i = 0; i < MAX_QUEUED_PEERS + 50; i++) {
    t.allocation.bindChannel(t.now, socketAddress(`192.0.2.9:${i + 1}`));
  }
  t.allocate([RELAYED4]);
  assertEquals(t.sent().filter((s) => s.is === "channelBind").length, MAX_QUEUED_PEERS);
});

Deno.test("Allocation retransmits at 1, 2.5 and 4.75 s and gives up at 8 s", () => {
  const t = new Bench({ v4: V4 });
  const start = t.now;
  const times: number[] = [];
  times.push(...t.sent().map(() => 0));
  while (!t.allocation.isFailed) {
    t.now = t.allocation.pollTimeout();
    t.allocation.handleTimeout(t.now);
    times.push(...t.sent().map(() => t.now - start));
  }
  times.push(t.now - start);
  assertEquals(times, [0, 1000, 2500, 4750, 8000]);
  assertEquals(t.take(), [["failed", "no-response"]]);
  assertEquals(t.allocation.pollTimeout(), Infinity, "a failed allocation stays silent");
  t.allocation.bindChannel(t.now, PEER);
  t.allocation.refresh(t.now);
  assertEquals(t.sent(), []);
});

Deno.test("Allocation sends the same bytes again, and takes a late answer", () => {
  const t = new Bench({ v4: V4 });
  const [first] = t.sent();
  t.wait(2 * SECOND);
  const [second] = t.sent();
  assertEquals(second!.payload, first!.payload);
  t.reply(first!, (w) => w.mappedAddress(MAPPED4), { signed: false });
  assertEquals(t.allocation.activeServer, V4);
  assertEquals(t.allocation.rttMs, undefined, "which send it answers cannot be known");
});

Deno.test("Allocation survives one family that does not answer", () => {
  const t = new Bench({ v4: V4, v6: V6 });
  t.allocate([RELAYED4]);
  t.wait(20 * SECOND);
  assertEquals(t.allocation.activeServer, V4);
  assert(!t.allocation.isFailed);
});

Deno.test("Allocation takes no answer that is not signed, from elsewhere, or to another question", () => {
  const t = new Bench({ v4: V4 });
  t.sent();
  const binding = t.last(V4);
  t.reply(binding, (w) => w.mappedAddress(MAPPED4), { signed: false, from: V6 });
  assertEquals(t.allocation.activeServer, undefined);
  t.reply(binding, (w) => w.mappedAddress(MAPPED4), { signed: false });
  const [allocate] = t.sent();
  const grant = (w: StunWriter) => w.relayedAddress(RELAYED4).lifetime(600);
  t.reply(allocate!, grant, { signed: false });
  t.reply(allocate!, grant, { key: longTermKey("a", "b", "c") });
  t.reply(allocate!, grant, { method: METHOD.refresh });
  t.reply(allocate!, (w) => w.errorCode(508), { cls: "error", signed: false });
  t.reply(allocate!, (w) => w.errorCode(401).nonce("n"), {
    cls: "error",
    key: longTermKey("a", "b", "c"),
  });
  assertEquals(t.allocation.relayedAddress(4), undefined);
  t.reply(allocate!, grant);
  assertEquals(t.allocation.relayedAddress(4), RELAYED4);
});

Deno.test("Allocation knows which messages are its own", () => {
  const t = new Bench({ v4: V4 });
  const answer = (from: SocketAddress, cls: "success" | "request") => {
    const bytes = new StunWriter(cls, METHOD.binding, "00".repeat(12)).finish();
    const message = parseStunMessage(bytes, 0, bytes.length)!;
    return t.allocation.handleInput(t.now, HOST4, from, message);
  };
  assert(answer(V4, "success"), "late answers are swallowed");
  assert(!answer(V4, "request"));
  assert(!answer(PEER, "success"));
  assert(t.allocation.matches(V4) && !t.allocation.matches(V6) && !t.allocation.matches(PEER));
});

Deno.test("401 to a request with a nonce: the credentials are wrong, and that is final", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.allocation.refresh(t.now);
  t.challenge(t.sent()[0]!, 401, "n2", { signed: false });
  assert(!t.allocation.isFailed, "but not if just anybody says so");
  t.challenge(t.last(V4), 401, "n2");
  assertEquals(t.take(), [
    ["candidate-removed", "relay", RELAYED4.key],
    ["failed", "authentication"],
  ]);
  t.allocation.restart(t.now);
  assertEquals(t.sent(), [], "the same credentials would fail again");
});

Deno.test("a relay that does not know us any more is believed after a second without a better answer", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  const forget = (sent: Sent) => {
    if (sent.is === "binding") t.answerBinding(sent);
    // Some sign with the password that they now believe to be ours.
    else t.challenge(sent, 438, "n2", { key: longTermKey("a", "b", "c") });
  };
  t.wait(5_000);
  t.allocation.verify(t.now);
  t.wait(900, forget);
  assertEquals(t.take(), []);
  t.reply(t.last(V4), (w) => w.lifetime(600));
  t.wait(5_000, forget);
  assertEquals(t.take(), [], "a signed answer counts, whoever else says no");
  t.allocation.verify(t.now);
  t.wait(2_000, forget);
  assertEquals(t.take(), [
    ["candidate-removed", "relay", RELAYED4.key],
    ["failed", "authentication"],
  ]);
});

Deno.test("438: the request goes out again with the new nonce, a few times", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.allocation.bindChannel(t.now, PEER);
  for (const nonce of ["n2", "n3", "n4"]) {
    t.challenge(t.last(V4), 438, nonce, { signed: nonce !== "n3" });
    assertEquals(t.last(V4).request.nonce, nonce);
    assertEquals(t.last(V4).request.peerAddress?.key, PEER.key);
  }
  t.challenge(t.last(V4), 438, "n5");
  assertEquals(t.take().at(-1), ["failed", "protocol"]);
});

Deno.test("A challenge for another realm, or without a nonce, is not answered", () => {
  for (
    const edit of [
      (w: StunWriter) => w.realm("elsewhere").nonce("n"),
      (w: StunWriter) => w.realm("firezone"),
    ]
  ) {
    const t = new Bench({ v4: V4 });
    t.sent();
    t.reply(t.last(V4), (w) => w.mappedAddress(MAPPED4), { signed: false });
    t.sent();
    t.reply(t.last(V4), (w) => edit(w.errorCode(401)), { cls: "error" });
    assertEquals(t.sent(), []);
    assertEquals(t.take().at(-1), ["failed", "protocol"]);
  }
});

Deno.test("A server that wants no credentials without a nonce is asked without", () => {
  const t = new Bench({ v4: V4 });
  t.sent();
  t.answerBinding(t.last(V4));
  t.reply(t.last(V4), (w) => w.errorCode(400), { cls: "error", signed: false });
  const bare = t.last(V4);
  assertEquals([bare.is, bare.request.username, bare.request.hasIntegrity], [
    "allocate",
    undefined,
    false,
  ]);
  t.reply(bare, (w) => w.errorCode(400), { cls: "error", signed: false });
  assertEquals(t.last(V4), bare, "that would be asked for ever");
  t.challenge(bare, 401, "n1", { signed: false });
  assert(t.last(V4).request.verifyIntegrity(KEY));
  assertEquals(t.last(V4).request.nonce, "n1");
});

Deno.test("437 to ALLOCATE: deletes what the relay holds, then allocates", () => {
  const t = new Bench({ v4: V4 });
  t.authenticate();
  t.error(t.last(V4), 437);
  const [remove] = t.sent();
  assertEquals([remove!.is, remove!.request.lifetimeSeconds], ["refresh", 0]);
  t.reply(remove!, (w) => w.lifetime(0));
  const [allocate] = t.sent();
  assertEquals(allocate!.is, "allocate");
  t.reply(allocate!, (w) => w.relayedAddress(RELAYED4).lifetime(600));
  assertEquals(t.allocation.relayedAddress(4), RELAYED4);
});

Deno.test("437 again and again is given up", () => {
  const t = new Bench({ v4: V4 });
  t.authenticate();
  for (let i = 0; i < 20 && !t.allocation.isFailed; i++) t.error(t.last(V4), 437);
  assertEquals(t.take().at(-1), ["failed", "protocol"]);
});

Deno.test("437 to REFRESH: allocates anew and binds the channels it had", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.bind(PEER);
  t.take();
  t.allocation.refresh(t.now);
  t.error(t.sent()[0]!, 437);
  assertEquals(t.take(), [["candidate-removed", "relay", RELAYED4.key]]);
  assertEquals(t.allocation.channelFor(PEER), undefined);
  const [allocate] = t.sent();
  t.reply(allocate!, (w) => w.relayedAddress(RELAYED4).lifetime(600));
  assertEquals(t.sent().map((s) => s.request.peerAddress?.key), [PEER.key]);
});

Deno.test("437 to CHANNEL_BIND: allocates anew, once, and binds all that was under way", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.allocation.bindChannel(t.now, PEER);
  t.allocation.bindChannel(t.now, socketAddress("192.0.2.9:7001"));
  const [one, two] = t.sent();
  t.error(one!, 437);
  t.error(two!, 437);
  const [allocate, ...more] = t.sent();
  assertEquals([allocate!.is, more.length], ["allocate", 0]);
  t.reply(allocate!, (w) => w.relayedAddress(RELAYED4).lifetime(600));
  assertEquals(t.sent().map((s) => s.request.peerAddress?.port), [7000, 7001]);
});

Deno.test("420 ends it: we do not speak the same language", () => {
  const t = new Bench({ v4: V4 });
  t.authenticate();
  t.error(t.last(V4), 420);
  assertEquals(t.take().at(-1), ["failed", "protocol"]);
});

Deno.test("Any other refusal of ALLOCATE suspends it until it is asked to refresh", () => {
  const t = new Bench({ v4: V4 });
  t.allocation.bindChannel(t.now, PEER);
  t.authenticate();
  t.error(t.last(V4), 508);
  assertEquals(t.take().at(-1), ["refused", "allocate", 508]);
  assert(!t.allocation.isFailed);
  assertEquals(t.allocation.pollTimeout(), Infinity);
  t.allocation.refresh(t.now);
  const [binding] = t.sent();
  t.reply(binding!, (w) => w.mappedAddress(MAPPED4), { signed: false });
  t.reply(t.sent()[0]!, (w) => w.relayedAddress(RELAYED4).lifetime(600));
  assertEquals(t.sent(), [], "queued peers were forgotten");
});

Deno.test("Any other refusal of CHANNEL_BIND drops that channel alone", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.allocation.bindChannel(t.now, PEER);
  t.error(t.sent()[0]!, 403);
  assertEquals(t.take(), [["refused", "channel-bind", 403]]);
  assertEquals(t.allocation.channelFor(PEER), undefined);
  t.allocation.bindChannel(t.now, PEER);
  assertEquals(t.sent()[0]!.request.channelNumber, FIRST_CHANNEL + 1);
});

Deno.test("Any other refusal of REFRESH leaves the allocation as it is, until it expires", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.wait(300 * SECOND, (s) => s.is === "refresh" ? t.error(s, 500) : t.answerBinding(s));
  assertEquals(t.take(), [["refused", "refresh", 500]]);
  assertEquals(t.allocation.relayedAddress(4), RELAYED4);
  t.wait(300 * SECOND, (s) => t.answerBinding(s));
  assertEquals(t.take()[0], ["candidate-removed", "relay", RELAYED4.key]);
});

Deno.test("An allocation without a relayed address or a lifetime is none", () => {
  for (
    const edit of [
      (w: StunWriter) => w.lifetime(600),
      (w: StunWriter) => w.relayedAddress(RELAYED4),
    ]
  ) {
    const t = new Bench({ v4: V4 });
    t.authenticate();
    t.reply(t.last(V4), edit);
    assertEquals(t.take().at(-1), ["failed", "protocol"]);
  }
});

Deno.test("Allocation refreshes at half its lifetime", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4, RELAYED6], 1000);
  const start = t.now;
  const refreshes: number[] = [];
  t.wait(1600 * SECOND, (s) => {
    if (s.is !== "refresh") return t.answerBinding(s);
    refreshes.push((t.now - start) / SECOND);
    t.reply(s, (w) => w.lifetime(600));
  });
  assertEquals(refreshes, [500, 800, 1100, 1400]);
  assertEquals(t.allocation.relayedAddress(6), RELAYED6);
});

Deno.test("An unanswered REFRESH loses the relay; a later answer brings it back with its channels", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.bind(PEER);
  t.take();
  t.wait(300 * SECOND - 1, (s) => t.answerBinding(s));
  t.wait(1 + 8 * SECOND, (s) => s.is === "binding" && t.answerBinding(s));
  assertEquals(t.take(), [["candidate-removed", "relay", RELAYED4.key]]);
  assertEquals(t.allocation.activeServer, V4, "it has answered the new probe");
  assertEquals(t.last(V4).is, "allocate");
  t.reply(t.last(V4), (w) => w.relayedAddress(RELAYED4).lifetime(600));
  assertEquals(t.sent().at(-1)!.request.peerAddress?.key, PEER.key);
});

Deno.test("A relay that falls silent is noticed by the keep-alive and then given up", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.wait(KEEP_ALIVE_MS + 8 * SECOND);
  assertEquals(t.take(), [["candidate-removed", "relay", RELAYED4.key]]);
  assertEquals(t.allocation.activeServer, undefined);
  t.wait(8 * SECOND);
  assertEquals(t.take(), [["failed", "no-response"]]);
});

Deno.test("A relay that answers BINDING alone is given up", () => {
  const t = new Bench({ v4: V4 });
  t.sent();
  t.reply(t.last(V4), (w) => w.mappedAddress(MAPPED4), { signed: false });
  t.wait(8 * SECOND, (s) => s.is === "binding" && t.answerBinding(s));
  assertEquals(t.take().at(-1), ["failed", "no-response"]);
});

Deno.test("Allocation keeps the NAT open every 25 s, unless ChannelData does", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  const start = t.now;
  const times: number[] = [];
  const watch = (s: Sent) => {
    times.push((t.now - start) / SECOND);
    t.answerBinding(s);
  };
  t.wait(60 * SECOND, watch);
  for (let i = 0; i < 6; i++) {
    t.allocation.noteChannelData(t.now, "sent", FIRST_CHANNEL);
    t.wait(20 * SECOND, watch);
  }
  t.allocation.noteChannelData(t.now, "received", FIRST_CHANNEL);
  t.wait(20 * SECOND, watch);
  assertEquals(times, [25, 50, 185]);
});

Deno.test("Allocation averages round-trip times of BINDING with 7/8", () => {
  const t = new Bench({ v4: V4 });
  const samples: number[] = [];
  const slow = (s: Sent, ms: number) => {
    t.now = after(t.now, ms);
    t.answerBinding(s);
    samples.push(t.allocation.rttMs!);
  };
  t.sent();
  slow(t.last(V4), 80);
  t.challenge(t.sent()[0]!, 401, "n1");
  t.reply(t.last(V4), (w) => w.relayedAddress(RELAYED4).lifetime(600));
  t.sent();
  t.wait(KEEP_ALIVE_MS, (s) => slow(s, 160));
  assertEquals(samples, [80, 90]);
});

Deno.test("A new address on the way to the relay makes a new candidate and a REFRESH", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  const moved = socketAddress("198.51.100.1:6000");
  t.wait(KEEP_ALIVE_MS, (s) => t.reply(s, (w) => w.mappedAddress(moved), { signed: false }));
  assertEquals(t.take(), [["candidate-added", "srflx", moved.key]]);
  assertEquals(t.last(V4).is, "refresh");
});

Deno.test("refresh gives the relay one second and one chance", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.allocation.refresh(t.now);
  t.allocation.refresh(t.now);
  assertEquals(t.sent().map((s) => s.is), ["refresh"]);
  t.wait(999);
  assertEquals(t.take(), []);
  t.wait(1);
  assertEquals(t.take(), [["candidate-removed", "relay", RELAYED4.key]]);
  assertEquals(t.sent().map((s) => s.is), ["binding"]);
});

Deno.test("verify asks patiently, and not what the relay has just said", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.take();
  t.wait(999);
  t.allocation.verify(t.now);
  assertEquals(t.sent(), []);
  t.wait(1);
  t.allocation.verify(t.now);
  t.allocation.verify(t.now);
  assertEquals(t.sent().map((s) => s.is), ["refresh"]);
  t.wait(7999);
  assertEquals(t.take(), [], "an answer is awaited as long as that of any request");
});

Deno.test("refresh does nothing to an allocation that is just being made", () => {
  const t = new Bench({ v4: V4 });
  t.sent();
  t.allocation.refresh(t.now);
  assertEquals(t.sent(), []);
});

Deno.test("restart forgets all addresses and begins with BINDING", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4]);
  t.bind(PEER);
  t.take();
  t.allocation.restart(t.now);
  assertEquals(t.take(), [
    ["candidate-removed", "relay", RELAYED4.key],
    ["candidate-removed", "srflx", MAPPED4.key],
  ]);
  assertEquals(t.sent().map((s) => s.is), ["binding"]);
  assertEquals(t.allocation.channelFor(PEER), undefined);
  t.reply(t.last(V4), (w) => w.mappedAddress(MAPPED4), { signed: false });
  assertEquals(t.take().map(([tag]) => tag), ["host-address", "candidate-added"]);
  assertEquals(t.sent()[0]!.request.nonce, undefined);
});

Deno.test("A channel is refreshed after 5 min while data comes, and expires otherwise", () => {
  const t = new Bench({ v4: V4 });
  t.allocate([RELAYED4], 3600);
  t.bind(PEER);
  const start = t.now;
  t.allocation.noteChannelData(t.now, "received", FIRST_CHANNEL);
  const binds: number[] = [];
  t.wait(1000 * SECOND, (s) => {
    if (s.is !== "channelBind") return t.answerBinding(s);
    binds.push((t.now - start) / SECOND);
    assertEquals(s.request.channelNumber, FIRST_CHANNEL);
    t.reply(s);
  });
  assertEquals(binds, [300]);
  assertEquals(t.allocation.channelFor(PEER), undefined);
  t.allocation.bindChannel(t.now, PEER);
  assertEquals(t.sent()[0]!.request.channelNumber, FIRST_CHANNEL, "same pair in the cool-down");
});

Deno.test("sameAs compares addresses and credentials", () => {
  const t = new Bench({ v4: V4 });
  assert(t.allocation.sameAs({ v4: V4 }, CREDENTIALS));
  assert(!t.allocation.sameAs({ v4: V4, v6: V6 }, CREDENTIALS));
  assert(!t.allocation.sameAs({ v6: V6 }, CREDENTIALS));
  assert(!t.allocation.sameAs({ v4: V4 }, { ...CREDENTIALS, password: "other" }));
});

Deno.test("Whatever a relay answers, an allocation neither throws nor chatters on", () => {
  const answer = fc.record({
    method: fc.constantFrom(undefined, ...Object.values(METHOD)),
    code: fc.constantFrom(undefined, 300, 400, 401, 403, 420, 437, 438, 440, 486, 500, 508),
    attributes: fc.subarray([
      "nonce",
      "realm",
      "other realm",
      "mapped",
      "relayed",
      "lifetime 0",
      "lifetime",
    ]),
    signed: fc.boolean(),
    from: fc.constantFrom(V4, V6, undefined),
    waitMs: fc.nat(400_000),
    then: fc.constantFrom("nothing", "bind", "refresh", "restart", "receive"),
  });
  fc.assert(fc.property(fc.array(answer, { maxLength: 40 }), (answers) => {
    const t = new Bench({ v4: V4, v6: V6 });
    t.bindSoon(PEER);
    for (const a of answers) {
      for (const sent of t.sent().slice(0, 5)) {
        const edit = (w: StunWriter) => {
          if (a.code !== undefined) w.errorCode(a.code);
          if (a.attributes.includes("nonce")) w.nonce("n");
          if (a.attributes.includes("other realm")) w.realm("elsewhere");
          else if (a.attributes.includes("realm")) w.realm("firezone");
          if (a.attributes.includes("mapped")) w.mappedAddress(MAPPED4);
          if (a.attributes.includes("relayed")) w.relayedAddress(RELAYED4).relayedAddress(RELAYED6);
          if (a.attributes.includes("lifetime 0")) w.lifetime(0);
          else if (a.attributes.includes("lifetime")) w.lifetime(600);
        };
        t.reply(sent, edit, {
          cls: a.code === undefined ? "success" : "error",
          signed: a.signed,
          method: a.method ?? sent.request.method,
          from: a.from ?? sent.to,
        });
      }
      if (a.then === "bind") t.allocation.bindChannel(t.now, PEER6);
      if (a.then === "refresh") t.allocation.refresh(t.now);
      if (a.then === "restart") t.allocation.restart(t.now);
      if (a.then === "receive") t.allocation.noteChannelData(t.now, "received", FIRST_CHANNEL);
      const before = t.sentCount;
      t.wait(a.waitMs);
      assert(t.sentCount - before < 200, "it keeps quiet while nobody answers");
    }
  }));
});

interface Sent {
  readonly to: SocketAddress;
  readonly is: keyof typeof METHOD;
  readonly request: StunMessage;
  readonly payload: Uint8Array;
}

interface ReplyOptions {
  readonly cls?: "success" | "error";
  readonly signed?: boolean;
  readonly key?: Uint8Array;
  readonly method?: number;
  readonly from?: SocketAddress;
}

/** An allocation whose relay is played by the test. */
class Bench {
  now = 1000 as Millis;
  readonly allocation: Allocation;
  readonly #all: Sent[] = [];
  readonly #unseen: Sent[] = [];
  readonly #events: string[][] = [];

  constructor(servers: TurnServers) {
    const random = seededRandom(1);
    const options = { id: "relay", servers, credentials: CREDENTIALS, random, software: "test" };
    this.allocation = new Allocation(options, this.now);
  }

  /** What was sent since the last call. */
  sent(): Sent[] {
    this.#collect();
    return this.#unseen.splice(0);
  }

  get sentCount(): number {
    this.#collect();
    return this.#all.length;
  }

  /** Asks for a channel before there is an allocation. */
  bindSoon(peer: SocketAddress): void {
    this.allocation.bindChannel(this.now, peer);
  }

  /** The newest request to a server. */
  last(server: SocketAddress): Sent {
    this.sent();
    return this.#all.findLast((s) => s.to.equals(server))!;
  }

  reply(sent: Sent, edit: (w: StunWriter) => unknown = () => {}, options: ReplyOptions = {}): void {
    const { cls = "success", signed = true, key = KEY, from = sent.to } = options;
    const method = options.method ?? sent.request.method;
    const writer = new StunWriter(cls, method, sent.request.transactionId);
    edit(writer);
    const bytes = writer.finish(signed ? { integrityKey: key } : {});
    const message = parseStunMessage(bytes, 0, bytes.length)!;
    const local = from.family === 4 ? HOST4 : HOST6;
    this.allocation.handleInput(this.now, local, from, message);
  }

  error(sent: Sent, code: number): void {
    this.reply(sent, (w) => w.errorCode(code), { cls: "error" });
  }

  challenge(sent: Sent, code: number, nonce: string, options: ReplyOptions = {}): void {
    const edit = (w: StunWriter) => w.errorCode(code).realm("firezone").nonce(nonce);
    this.reply(sent, edit, { cls: "error", ...options });
  }

  answerBinding(sent: Sent): void {
    if (sent.is === "binding") this.reply(sent, (w) => w.mappedAddress(MAPPED4), { signed: false });
  }

  /** Up to the ALLOCATE that bears a nonce. */
  authenticate(): void {
    this.answerBinding(this.last(V4));
    this.challenge(this.last(V4), 401, "n1");
  }

  allocate(relayed: SocketAddress[], lifetimeSeconds = 600): void {
    this.authenticate();
    this.reply(this.last(V4), (w) => {
      for (const address of relayed) w.relayedAddress(address);
      w.mappedAddress(MAPPED4).lifetime(lifetimeSeconds);
    });
  }

  bind(peer: SocketAddress): void {
    this.sent();
    this.allocation.bindChannel(this.now, peer);
    this.reply(this.sent()[0]!);
  }

  /** Lets time pass from deadline to deadline; `answer` plays the relay. */
  wait(ms: number, answer?: (sent: Sent) => unknown): void {
    const end = after(this.now, ms);
    while (true) {
      this.#collect();
      if (answer !== undefined && this.#unseen.length > 0) {
        answer(this.#unseen.shift()!);
        continue;
      }
      const due = this.allocation.pollTimeout();
      if (due > end) break;
      assert(due > 0 && due >= this.now, "what is due was done");
      this.now = due;
      this.allocation.handleTimeout(this.now);
    }
    if (end > this.now) this.now = end;
  }

  /** Events since the last call, short. */
  take(): string[][] {
    this.#collect();
    return this.#events.splice(0);
  }

  #collect(): void {
    for (let t; (t = this.allocation.pollTransmit()) !== undefined;) {
      const request = parseStunMessage(t.payload, 0, t.payload.length)!;
      const names = Object.keys(METHOD) as (keyof typeof METHOD)[];
      const is = names.find((name) => METHOD[name] === request.method)!;
      const sent = { to: t.destination, is, request, payload: t.payload };
      this.#all.push(sent);
      this.#unseen.push(sent);
    }
    for (let e; (e = this.allocation.pollEvent()) !== undefined;) {
      this.#events.push(brief(e) as string[]);
    }
  }
}

function brief(event: AllocationEvent): (string | number)[] {
  switch (event.tag) {
    case "candidate-added":
    case "candidate-removed":
      return [event.tag, event.candidate.kind, event.candidate.address.key];
    case "host-address":
      return [event.tag, event.address.key];
    case "refused":
      return [event.tag, event.request, event.code];
    case "failed":
      return [event.tag, event.reason];
  }
}
