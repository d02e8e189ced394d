import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { socketAddress } from "../ip/address.ts";
import { computeIntegrity } from "../stun/integrity.ts";
import { METHOD, parseStunMessage, StunWriter } from "../stun/mod.ts";
import { NAT_KINDS } from "../testing/nat.ts";
import { seededRandom } from "../testing/random.ts";
import { type Millis, NEVER } from "../units.ts";
import { IceAgent, type IceEvent } from "./agent.ts";
import { Candidate } from "./candidate.ts";
import { MAX_CANDIDATES } from "./candidates.ts";
import { MAX_PAIRS } from "./checklist.ts";
import { CLIENT, CREDENTIALS, World } from "./testing/world.ts";

const CLIENT_NAT = { ip: "192.0.2.10", options: NAT_KINDS.portRestrictedCone };
const GATEWAY_NAT = { ip: "192.0.2.20", options: NAT_KINDS.portRestrictedCone };
const SYMMETRIC_NAT = { ip: "192.0.2.10", options: NAT_KINDS.symmetric };
const OPEN_NAT = { ip: "192.0.2.20", options: NAT_KINDS.fullCone };
const CLIENT_RELAY = { relayed: ["203.0.113.1:50000"] };
const GATEWAY_RELAY = { relayed: ["203.0.113.2:50001"] };

Deno.test("two hosts meet: one round trip to a path, another to the nomination", () => {
  const world = new World();
  world.trickleAll();
  world.run(5000);
  assertEquals(world.client.path, "198.51.100.2:52625 > 198.51.100.3:52625");
  assertEquals(world.gateway.path, "198.51.100.3:52625 > 198.51.100.2:52625");
  assertEquals(world.client.events.map((e) => [e.tag, e.at - 1000]), [
    ["nominated", 20],
    ["state", 20],
  ]);
  assertEquals(world.gateway.events.map((e) => [e.tag, e.at - 1000]), [
    ["nominated", 30],
    ["state", 30],
  ]);
  assertEquals(world.client.states, [["connected", 1020]]);
  assertEquals(world.client.agent.nominated?.rttMs, 20);
});

Deno.test("a new candidate brings the deadline forward by itself", () => {
  const { client, gateway } = new World();
  const at = 5000 as Millis;
  client.agent.addLocalCandidate(at, Candidate.host(client.host));
  assertEquals(client.agent.pollTimeout(), NEVER);
  client.agent.addRemoteCandidate(at, Candidate.host(gateway.host));
  assertEquals(client.agent.pollTimeout(), at);
  assertEquals(client.agent.pollTransmit(), undefined, "nothing leaves before the time");
  client.agent.handleTimeout(at);
  assert(client.agent.pollTransmit());
});

Deno.test("two ends behind NATs meet at their server-reflexive addresses", () => {
  const world = new World({ nat: CLIENT_NAT }, { nat: GATEWAY_NAT });
  world.trickleAll();
  const took = world.runUntil(() => world.gateway.agent.state === "connected");
  assert(took < 300, `took ${took} ms`);
  assertEquals(world.client.path, "192.168.1.2:52625 > 192.0.2.20:52625");
  assertEquals(world.gateway.path, "10.0.0.2:52625 > 192.0.2.10:52625");
  assertEquals(world.client.agent.nominated?.remote.kind, "srflx");
  assertEquals(world.client.agent.nominated?.local.kind, "host");
});

Deno.test("the port that a symmetric NAT makes up is learned from the checks", () => {
  const world = new World({ nat: SYMMETRIC_NAT }, { nat: OPEN_NAT });
  world.trickleAll();
  world.runUntil(() => world.gateway.agent.state === "connected");
  const learned = world.gateway.events.filter((e) => e.tag === "remote-candidate");
  assertEquals(learned.length, 1);
  const { remote } = world.gateway.agent.nominated!;
  assertEquals([remote.kind, remote.address.ip.text], ["prflx", "192.0.2.10"]);
});

Deno.test("where no direct path is, the relays carry", () => {
  const world = new World(
    { nat: SYMMETRIC_NAT, ...CLIENT_RELAY },
    { nat: GATEWAY_NAT, ...GATEWAY_RELAY },
  );
  world.trickleAll();
  world.runUntil(() => world.gateway.agent.state === "connected");
  world.run(5000);
  assertEquals(world.client.agent.state, "connected");
  const { local, remote } = world.client.agent.nominated!;
  assert(local.kind === "relay" || remote.kind === "relay");
});

Deno.test("with relayed candidates alone both ends send from their relayed addresses", () => {
  const world = new World(CLIENT_RELAY, GATEWAY_RELAY);
  for (const end of world.ends) world.trickle(end, world.gather(end).slice(1));
  world.run(1000);
  assertEquals(world.client.path, "203.0.113.1:50000 > 203.0.113.2:50001");
  assertEquals(world.gateway.path, "203.0.113.2:50001 > 203.0.113.1:50000");
});

Deno.test("an end that knows no remote candidate yet answers and follows the peer's checks", () => {
  const world = new World();
  const { client, gateway } = world;
  gateway.agent.addLocalCandidate(world.now, Candidate.host(gateway.host));
  client.agent.addLocalCandidate(world.now, Candidate.host(client.host));
  client.agent.addRemoteCandidate(world.now, Candidate.host(gateway.host));
  world.run(200);
  assertEquals([client.agent.state, gateway.agent.state], ["connected", "connected"]);
  assertEquals(gateway.events.map((e) => e.tag), ["remote-candidate", "nominated", "state"]);
  // The candidate that comes later is the same address under its proper name.
  gateway.agent.addRemoteCandidate(world.now, Candidate.host(client.host));
  assertEquals(gateway.agent.remoteCandidates.map((c) => c.kind), ["host"]);
  assertEquals(gateway.agent.nominated?.remote.kind, "host");
});

Deno.test("checks say what RFC 8445 §7.1 wants said", () => {
  const world = new World(CLIENT_RELAY);
  const host = Candidate.host(world.client.host);
  world.client.agent.addLocalCandidate(world.now, host);
  const relayed = Candidate.relayed(world.client.relayed[0]!);
  world.client.agent.addLocalCandidate(world.now, relayed);
  world.client.agent.addRemoteCandidate(world.now, Candidate.host(world.gateway.host));
  world.client.agent.handleTimeout(world.now);
  const [first, second] = [world.client.agent.pollTransmit()!, world.client.agent.pollTransmit()!];
  const check = parseStunMessage(first.payload, 0, first.payload.length)!;
  assertEquals(first.source?.key, host.address.key);
  assertEquals([check.class, check.method], ["request", METHOD.binding]);
  assertEquals(check.username, "wjgw:mhk3");
  assertEquals(check.priority, 110 * 2 ** 24 + host.priority % 2 ** 24);
  assertEquals([check.iceControlled, check.useCandidate], [undefined, false]);
  assert(check.iceControlling !== undefined);
  assert(check.verifyIntegrity(new TextEncoder().encode(CREDENTIALS.gateway.password)));
  assertEquals(check.verifyFingerprint(), true);
  const relayedCheck = parseStunMessage(second.payload, 0, second.payload.length)!;
  assertEquals(second.source?.key, relayed.address.key);
  assertEquals(relayedCheck.priority, relayed.priority);
});

Deno.test("of two ends that claim one role the greater tie-breaker keeps it", () => {
  for (const controlling of [true, false]) {
    for (let seed = 1; seed <= 6; seed++) {
      const world = new World({ controlling }, { controlling }, seed);
      world.trickleAll();
      world.run(3000);
      const roles = world.ends.map((end) => end.agent.controlling);
      assertEquals(roles.filter((role) => role).length, 1, `seed ${seed}: ${roles}`);
      for (const end of world.ends) assertEquals(end.agent.state, "connected");
    }
  }
});

Deno.test("a role conflict ends also when one end alone can check", () => {
  for (let seed = 1; seed <= 6; seed++) {
    const world = new World({ controlling: true }, { controlling: true }, seed);
    world.gateway.agent.addLocalCandidate(world.now, Candidate.host(world.gateway.host));
    world.client.agent.addLocalCandidate(world.now, Candidate.host(world.client.host));
    world.client.agent.addRemoteCandidate(world.now, Candidate.host(world.gateway.host));
    world.run(2000);
    for (const end of world.ends) assertEquals(end.agent.state, "connected", `seed ${seed}`);
    assert(world.client.agent.controlling !== world.gateway.agent.controlling);
  }
});

Deno.test("strangers, forgers and broken messages are counted and not answered", () => {
  const world = new World();
  const { agent, host } = world.gateway;
  agent.addLocalCandidate(world.now, Candidate.host(host));
  const { client, gateway } = CREDENTIALS;
  const key = new TextEncoder().encode(gateway.password);
  const username = `${gateway.username}:${client.username}`;
  const request = () => new StunWriter("request", METHOD.binding, "00".repeat(12));
  const good = () => request().username(username).priority(1).iceControlling(1n);
  const messages: [keyof typeof agent.drops, Uint8Array][] = [
    ["stranger", request().finish()],
    ["stranger", request().username("wjgw:other").priority(1).finish({ integrityKey: key })],
    ["stranger", request().username("other:mhk3").priority(1).finish({ integrityKey: key })],
    ["stranger", new StunWriter("indication", METHOD.binding, "00".repeat(12)).finish()],
    ["stranger", new StunWriter("request", METHOD.allocate, "00".repeat(12)).finish()],
    ["stranger", new StunWriter("success", METHOD.binding, "00".repeat(12)).finish()],
    ["forged", good().finish()],
    ["forged", good().finish({ integrityKey: new TextEncoder().encode(client.password) })],
    ["malformed", request().username(username).finish({ integrityKey: key })],
    ["malformed", good().errorCode(100).finish({ integrityKey: key })],
  ];
  for (const [reason, bytes] of messages) {
    const before = agent.drops[reason];
    const message = parseStunMessage(bytes, 0, bytes.length)!;
    assertEquals(agent.handleStun(world.now, host, world.client.host, message), false);
    assertEquals(agent.drops[reason], before + 1, reason);
  }
  const whole = good().finish({ integrityKey: key, fingerprint: true });
  const message = parseStunMessage(whole, 0, whole.length)!;
  assert(!agent.handleStun(world.now, world.client.host, world.client.host, message));
  assertEquals(agent.drops.misplaced, 1);
  assertEquals([agent.pollTransmit(), agent.pollEvent()], [undefined, undefined]);
  assertEquals(agent.pollTimeout(), NEVER);
  assert(agent.handleStun(world.now, host, world.client.host, message));
  assert(agent.pollTransmit());
});

Deno.test("a check with an attribute that we must know but do not is answered with 420", () => {
  const world = new World();
  const { agent, host } = world.gateway;
  agent.addLocalCandidate(world.now, Candidate.host(host));
  const { client, gateway } = CREDENTIALS;
  const key = new TextEncoder().encode(gateway.password);
  const writer = new StunWriter("request", METHOD.binding, "00".repeat(12))
    .username(`${gateway.username}:${client.username}`).priority(1).iceControlling(1n);
  // An empty UNKNOWN-ATTRIBUTES, renamed to a type that nobody knows.
  const bytes = writer.unknownAttributes([]).finish();
  bytes[bytes.length - 4] = 0x7f;
  const prefix = parseStunMessage(bytes, 0, bytes.length)!;
  assertEquals(prefix.unknownComprehensionRequired, [0x7f0a]);
  const signed = signAgain(bytes, key);
  const message = parseStunMessage(signed, 0, signed.length)!;
  assert(agent.handleStun(world.now, host, world.client.host, message));
  const answer = agent.pollTransmit()!;
  const parsed = parseStunMessage(answer.payload, 0, answer.payload.length)!;
  assertEquals([parsed.class, parsed.errorCode?.code], ["error", 420]);
  assert(parsed.verifyIntegrity(key));
  assertEquals(agent.remoteCandidates, []);
});

Deno.test("an answer that comes from elsewhere, or is forged, proves nothing", () => {
  const world = new World();
  const { agent, host } = world.client;
  agent.addLocalCandidate(world.now, Candidate.host(host));
  agent.addRemoteCandidate(world.now, Candidate.host(world.gateway.host));
  agent.handleTimeout(world.now);
  const { payload } = agent.pollTransmit()!;
  const { transactionId } = parseStunMessage(payload, 0, payload.length)!;
  const answer = (password: string) => {
    const bytes = new StunWriter("success", METHOD.binding, transactionId)
      .mappedAddress(host)
      .finish({ integrityKey: new TextEncoder().encode(password), fingerprint: true });
    return parseStunMessage(bytes, 0, bytes.length)!;
  };
  const right = answer(CREDENTIALS.gateway.password);
  const elsewhere = socketAddress("198.51.100.99:1");
  assert(!agent.handleStun(world.now, host, elsewhere, right));
  assert(!agent.handleStun(world.now, elsewhere, world.gateway.host, right));
  assert(!agent.handleStun(world.now, host, world.gateway.host, answer("wrong")));
  assertEquals([agent.drops.misplaced, agent.drops.forged], [2, 1]);
  assertEquals(agent.state, "checking");
  assert(agent.handleStun(world.now, host, world.gateway.host, right));
  assertEquals(agent.state, "connected");
  assert(!agent.handleStun(world.now, host, world.gateway.host, right), "once only");
});

Deno.test("candidates of another generation are refused", () => {
  const { client } = new World();
  const sdp = { ...Candidate.host(socketAddress("192.0.2.1:1")) };
  assert(!client.agent.addRemoteCandidate(0 as Millis, new Candidate({ ...sdp, ufrag: "old" })));
  assert(client.agent.addRemoteCandidate(0 as Millis, new Candidate({ ...sdp, ufrag: "wjgw" })));
  assertEquals(client.agent.remoteCandidates.length, 1);
});

Deno.test("server-reflexive local candidates make no pairs beside those of their base", () => {
  const world = new World({ nat: CLIENT_NAT });
  const { agent, host } = world.client;
  const [hostCandidate, reflexive] = world.gather(world.client);
  assert(agent.addLocalCandidate(world.now, reflexive!));
  agent.addRemoteCandidate(world.now, Candidate.host(world.gateway.host));
  assert(agent.addLocalCandidate(world.now, hostCandidate!));
  agent.handleTimeout(world.now);
  assertEquals(agent.pollTransmit()?.source?.key, host.key);
  assertEquals(agent.pollTransmit(), undefined);
  assertEquals(agent.localCandidates.length, 2);
});

Deno.test("a local candidate that says nothing new is not to be signalled", () => {
  const { client } = new World();
  const now = 0 as Millis;
  assert(client.agent.addLocalCandidate(now, Candidate.host(client.host)));
  assert(!client.agent.addLocalCandidate(now, Candidate.host(client.host)));
  assert(!client.agent.addLocalCandidate(now, Candidate.serverReflexive(client.host, client.host)));
  assertEquals(client.agent.localCandidates.length, 1);
});

Deno.test("families are not mixed", () => {
  const { client } = new World();
  client.agent.addLocalCandidate(0 as Millis, Candidate.host(client.host));
  client.agent.addRemoteCandidate(0 as Millis, Candidate.host(socketAddress("[2001:db8::1]:1")));
  assertEquals(client.agent.pollTimeout(), NEVER);
  client.agent.addLocalCandidate(0 as Millis, Candidate.host(socketAddress("[2001:db8::2]:1")));
  client.agent.handleTimeout(0 as Millis);
  assertEquals(client.agent.pollTransmit()?.source?.key, "[2001:db8::2]:1");
});

Deno.test("candidates, pairs and checks per tick are bounded", () => {
  const { agent } = new World().client;
  const now = 0 as Millis;
  let added = 0;
  for (let i = 1; i <= 100; i++) {
    if (agent.addLocalCandidate(now, Candidate.host(socketAddress(`10.0.0.${i}:1`)))) added++;
    agent.addRemoteCandidate(now, Candidate.host(socketAddress(`10.0.1.${i}:1`)));
  }
  assertEquals([added, agent.localCandidates.length], [MAX_CANDIDATES, MAX_CANDIDATES]);
  assertEquals(agent.remoteCandidates.length, MAX_CANDIDATES);
  const destinations = new Set<string>();
  let time = now;
  for (let tick = 0; tick < 10; tick++) {
    agent.handleTimeout(time);
    let sent = 0;
    for (let transmit; (transmit = agent.pollTransmit()); sent++) {
      destinations.add(`${transmit.source?.key} ${transmit.destination.key}`);
    }
    assert(sent <= 40, `${sent} checks in a tick`);
    time = agent.pollTimeout();
  }
  assertEquals(destinations.size, MAX_PAIRS);
});

Deno.test("a better pair displaces a worse one from a full list", () => {
  const { agent } = new World().client;
  const now = 0 as Millis;
  for (let i = 1; i <= MAX_CANDIDATES - 1; i++) {
    agent.addLocalCandidate(now, Candidate.relayed(socketAddress(`10.0.0.${i}:1`)));
  }
  for (let i = 1; i <= 10; i++) {
    agent.addRemoteCandidate(now, Candidate.relayed(socketAddress(`10.0.1.${i}:1`)));
  }
  agent.addLocalCandidate(now, Candidate.host(socketAddress("10.0.2.1:1")));
  agent.handleTimeout(now);
  const sources = new Set<string>();
  for (let t; (t = agent.pollTransmit());) sources.add(t.source!.key);
  assert(sources.has("10.0.2.1:1"));
});

Deno.test("no message makes an agent throw", () => {
  const { client, gateway } = CREDENTIALS;
  const key = new TextEncoder().encode(client.password);
  const remoteKey = new TextEncoder().encode(gateway.password);
  const address = fc.constantFrom(
    "198.51.100.2:1",
    "198.51.100.3:2",
    "[2001:db8::1]:3",
    "0.0.0.0:0",
  );
  const step = fc.record({
    kind: fc.constantFrom("request", "success", "error", "raw", "time", "candidate"),
    local: address,
    from: address,
    bytes: fc.uint8Array({ maxLength: 60 }),
    flags: fc.nat(63),
    ms: fc.nat(2000),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const agent = new IceAgent({
      controlling: true,
      local: client,
      remote: gateway,
      random: seededRandom(1),
      timing: CLIENT,
    });
    let now = 0 as Millis;
    const ids: string[] = ["11".repeat(12)];
    const write = (cls: "request" | "success" | "error", s: { flags: number; ms: number }) => {
      const id = cls === "request" ? "22".repeat(12) : ids[s.ms % ids.length]!;
      const writer = new StunWriter(cls, METHOD.binding, id);
      if (s.flags & 1) writer.username(`${client.username}:${gateway.username}`);
      if (s.flags & 2) writer.priority(s.ms);
      if (s.flags & 4) writer.iceControlling(BigInt(s.ms));
      if (s.flags & 8) writer.iceControlled(BigInt(s.ms));
      if (s.flags & 16) writer.useCandidate();
      if (cls === "error") writer.errorCode(s.flags & 32 ? 487 : 400);
      return writer.finish({ integrityKey: cls === "request" ? key : remoteKey });
    };
    for (const s of steps) {
      const [local, from] = [socketAddress(s.local), socketAddress(s.from)];
      if (s.kind === "time") agent.handleTimeout(now = (now + s.ms) as Millis);
      else if (s.kind === "candidate") {
        agent.addLocalCandidate(now, Candidate.host(local));
        agent.addRemoteCandidate(now, Candidate.host(from));
      } else {
        const bytes = s.kind === "raw" ? s.bytes : write(s.kind, s);
        const message = parseStunMessage(bytes, 0, bytes.length);
        if (message) agent.handleStun(now, local, from, message);
      }
      for (let t; (t = agent.pollTransmit());) {
        const sent = parseStunMessage(t.payload, 0, t.payload.length)!;
        if (sent.class === "request") ids.push(sent.transactionId);
      }
      while (agent.pollEvent());
    }
  }));
});

Deno.test("nothing is due before pollTimeout, and draining ends", () => {
  fc.assert(
    fc.property(fc.nat(1000), fc.integer({ min: 0, max: 60 }), (seed, lossPercent) => {
      const world = new World({ nat: CLIENT_NAT, ...CLIENT_RELAY }, GATEWAY_RELAY, seed + 1);
      const luck = seededRandom(seed);
      world.isLost = () => luck(1)[0]! % 100 < lossPercent;
      world.trickleAll();
      for (let i = 0; i < 30; i++) {
        for (const { agent } of world.ends) {
          const at = agent.pollTimeout();
          if (at <= world.now) continue;
          agent.handleTimeout(world.now);
          assertEquals(agent.pollTransmit(), undefined);
          assertEquals<IceEvent | undefined>(agent.pollEvent(), undefined);
          assertEquals(agent.pollTimeout(), at);
        }
        world.run(97);
      }
    }),
    { numRuns: 30 },
  );
});

/** Replaces whatever stands behind a message by MESSAGE-INTEGRITY. */
function signAgain(bytes: Uint8Array, key: Uint8Array): Uint8Array {
  const hmacOf = new StunWriter("request", METHOD.binding, "00".repeat(12)).finish({
    integrityKey: key,
  });
  const signed = new Uint8Array(bytes.length + 24);
  signed.set(bytes);
  signed.set(hmacOf.subarray(20), bytes.length);
  signed[3] = signed.length - 20;
  signed.set(computeIntegrity(signed, bytes.length, key), bytes.length + 4);
  return signed;
}
