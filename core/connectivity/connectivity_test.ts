import { assert, assertEquals } from "@std/assert";
import { type SocketAddress, socketAddress } from "../ip/address.ts";
import { looksLikeStun } from "../stun/mod.ts";
import { NAT_KINDS } from "../testing/mod.ts";
import type { Transmit } from "../transmit.ts";
import type { Millis } from "../units.ts";
import { GenerousRelay, inner, World } from "./testing/world.ts";

const OTHER_KEY = new Uint8Array(32).fill(6);

Deno.test("two ends connect, once, and carry packets both ways", () => {
  const world = new World().connect();
  assertEquals(world.reaches(1), true);
  world.gateway.send(world.network.now, "client", inner(2));
  world.network.runFor(100);
  assertEquals(world.client.received, [2]);
  assertEquals(world.client.told, ["path-changed", "established"]);
});

Deno.test("packets before the first handshake wait for it, in order and without copies", () => {
  const world = new World();
  world.network.runFor(200);
  world.upsert("gateway");
  world.upsert("client");
  for (const n of [1, 2, 2, 3]) world.client.send(world.network.now, "gateway", inner(n));
  world.network.runFor(1000);
  assertEquals(world.gateway.received, [1, 2, 3]);
});

Deno.test("without a relay nothing is made or changed, and somebody is told", () => {
  const world = new World(0);
  assertEquals(world.upsert("client"), "no-relays");
  assertEquals(world.client.node.connection("gateway"), undefined);
  world.network.runFor(0);
  assertEquals(world.client.told, ["no-relays"]);
  const connected = new World().connect();
  const connection = connected.client.node.connection("gateway");
  connected.client.node.updateRelays(connected.network.now, ["relay-0"], []);
  assertEquals(connected.upsert("client", OTHER_KEY), "no-relays");
  assertEquals(connected.client.node.connection("gateway"), connection);
});

Deno.test("candidates are signalled best first", () => {
  const world = new World().connect();
  const priorities = world.client.signalled.map(({ candidate }) => Number(candidate.split(" ")[3]));
  assert(priorities.length >= 2);
  assertEquals(priorities, priorities.toSorted((a, b) => b - a));
});

Deno.test("the same parameters renew: everything is signalled again, and keys are made anew", () => {
  const world = new World().connect();
  world.network.runFor(30_000);
  const { client, gateway } = world;
  assertEquals(client.node.connection("gateway")!.isIdle, true);
  const before = [client, gateway].map(({ signalled }) => signalled.map((one) => one.candidate));
  for (const end of [client, gateway]) end.signalled.length = 0;
  const lastHandshake = client.node.connection("gateway")!.tunnel.lastHandshakeAt!;
  assertEquals([world.upsert("gateway"), world.upsert("client")], ["renewed", "renewed"]);
  assertEquals(client.node.connection("gateway")!.isIdle, false);
  world.network.runFor(1000);
  const after = [client, gateway].map(({ signalled }) => signalled.map((one) => one.candidate));
  assertEquals(after.map((all) => all.toSorted()), before.map((all) => all.toSorted()));
  assert(client.node.connection("gateway")!.tunnel.lastHandshakeAt! > lastHandshake);
  assertEquals(client.told.filter((event) => event === "established").length, 1);
  assertEquals(world.reaches(1), true);
});

Deno.test("another preshared key, or another key of the peer, replaces the connection", () => {
  const world = new World().connect();
  const first = world.client.node.connection("gateway");
  assertEquals(world.upsert("client", OTHER_KEY), "replaced");
  const second = world.client.node.connection("gateway");
  assert(first !== second);
  world.gateway.node.reset(world.network.now, new Uint8Array(32).fill(8));
  assertEquals(world.upsert("client", OTHER_KEY), "replaced");
  assert(world.client.node.connection("gateway") !== second);
});

Deno.test("ends with different preshared keys fail at once, not after all attempts", () => {
  const world = new World();
  world.network.runFor(200);
  world.upsert("gateway");
  world.upsert("client", OTHER_KEY);
  world.network.runFor(2000);
  assertEquals(world.client.told.at(-1), "failed: the keys of the two ends do not match");
});

Deno.test("a peer that names no candidate for ten seconds has failed; one is enough", () => {
  for (const hears of [false, true]) {
    const world = new World();
    world.network.runFor(200);
    world.upsert("client");
    if (hears) {
      const candidate = "candidate:1 1 udp 2130706431 192.0.2.99 1234 typ host";
      world.client.node.addRemoteCandidates(world.network.now, "gateway", [candidate]);
    }
    world.network.runFor(9_999);
    assertEquals(world.client.told, []);
    world.network.runFor(1);
    const failure = "failed: no candidates received from the peer";
    assertEquals(world.client.told, hears ? [] : [failure]);
  }
});

Deno.test("a connection idles 20 s after the last packet in either direction, and wakes with one", () => {
  const world = new World().connect();
  const isIdle = () => world.client.node.connection("gateway")!.isIdle;
  world.network.runFor(15_000);
  world.gateway.send(world.network.now, "client", inner(1));
  world.network.runFor(19_000);
  assertEquals(isIdle(), false);
  world.network.runFor(1_100);
  assertEquals(isIdle(), true);
  assertEquals(world.reaches(1), true);
  assertEquals(isIdle(), false);
});

Deno.test("a connection does not idle while its path is being looked for", () => {
  const world = new World().connect();
  world.network.runFor(18_000);
  world.network.block("192.0.2.1", "0.0.0.0/0");
  world.network.runFor(10_000);
  assertEquals(world.client.node.connection("gateway")!.isIdle, true, "checks had been answered");
  world.client.send(world.network.now, "gateway", inner(1));
  world.network.runFor(18_600);
  assertEquals(world.client.told.at(-1), "failed: ICE found no working path");
});

Deno.test("a peer that says nothing while the relay answers is given up 16.5 s after its last word", () => {
  for (let phase = 0; phase < 1500; phase += 250) {
    const world = new World().connect();
    world.network.runFor(phase);
    world.network.block("192.0.2.2", "0.0.0.0/0");
    world.gateway.isHeard = false;
    const start = world.network.now;
    const asked = world.relays[0]!.asked.length;
    world.client.send(start, "gateway", inner(1));
    assert(world.network.runUntil(() => world.client.told.at(-1)!.startsWith("failed"), 20_000));
    const tookMs = world.network.now - start;
    assert(tookMs > 15_000 - 50 && tookMs <= 16_500 + 50, `${tookMs} ms`);
    assertEquals(world.client.told.at(-1), "failed: the peer fell silent");
    assertEquals(world.relays[0]!.asked.slice(asked), ["refresh"]);
  }
});

Deno.test("a peer that dies together with the relay of its connection is given up by the word of another", () => {
  const world = new World(2).connect();
  const used = world.client.node.connection("gateway")!.allocation!.id === "relay-0" ? 0 : 1;
  world.relays[used]!.isUp = false;
  world.network.block("192.0.2.2", "0.0.0.0/0");
  world.gateway.isHeard = false;
  const start = world.network.now;
  world.client.send(start, "gateway", inner(1));
  assert(world.network.runUntil(() => world.client.told.at(-1)!.startsWith("failed"), 16_550));
  assertEquals(world.client.told.at(-1), "failed: the peer fell silent");
});

Deno.test("the silence of a peer counts from when somebody wants something of it", () => {
  const world = new World().connect();
  world.network.runFor(60_000);
  assertEquals(world.client.node.connection("gateway")!.isIdle, true);
  world.network.block("192.0.2.2", "0.0.0.0/0");
  world.gateway.isHeard = false;
  world.network.runFor(20_000);
  const woke = world.network.now;
  world.client.send(woke, "gateway", inner(1));
  assert(world.network.runUntil(() => world.client.told.at(-1)!.startsWith("failed"), 20_000));
  assertEquals(world.network.now - woke, 16_500);
});

Deno.test("a peer whose packets arrive is not given up for its silence, although no checks do", () => {
  const world = new World().connect();
  const isCheck = (payload: Uint8Array, at: number) => looksLikeStun(payload, at, payload.length);
  world.network.dropIf(({ from, payload }) =>
    from.ip.text === "192.0.2.2" && (isCheck(payload, 0) || isCheck(payload, 4))
  );
  for (let s = 0; s < 18; s++) {
    world.gateway.send(world.network.now, "client", inner(2));
    world.network.runFor(1000);
    assertEquals(world.client.told.filter((event) => event.startsWith("failed")), [], `${s} s`);
  }
});

Deno.test("a path that dies under traffic fails after 16.5 s and two of grace, unless it is back", () => {
  for (const awayMs of [17_000, 60_000]) {
    const world = new World().connect();
    const restore = world.network.block("192.0.2.1", "0.0.0.0/0");
    const start = world.network.now;
    let failedAt: Millis | undefined;
    for (let ms = 0; ms < 25_000; ms += 500) {
      if (ms === awayMs) restore();
      world.network.runFor(500);
      if (world.client.told.some((event) => event.startsWith("failed"))) {
        failedAt ??= world.network.now;
      } else world.client.send(world.network.now, "gateway", inner(1));
    }
    if (awayMs === 17_000) assertEquals(failedAt, undefined);
    else {
      const tookMs = failedAt! - start;
      assert(tookMs >= 16_500 && tookMs <= 21_000, `${tookMs} ms`);
    }
  }
});

Deno.test("keys that work are kept when a handshake for newer ones is lost", () => {
  const world = new World().connect();
  const initiationOrResponse = (payload: Uint8Array) =>
    (payload[0] === 1 && payload.length === 148) || (payload[0] === 2 && payload.length === 92);
  const restore = world.network.dropIf(({ payload }) => initiationOrResponse(payload));
  for (let s = 0; s < 150; s++) {
    assertEquals(world.reaches(1), true, `second ${s}`);
    world.gateway.send(world.network.now, "client", inner(2));
    world.network.runFor(1000);
  }
  restore();
  for (let s = 0; s < 60; s++) {
    assertEquals(world.reaches(1), true);
    world.network.runFor(1000);
  }
  assertEquals(world.client.told.filter((event) => event.startsWith("failed")), []);
});

Deno.test("a handshake that nobody answers ends a connection whose keys have run out", () => {
  const world = new World().connect();
  world.network.dropIf(({ payload }) => payload[0] === 1 && payload.length === 148);
  for (let s = 0; s < 210; s++) {
    const connection = world.client.node.connection("gateway");
    if (!connection) break;
    world.client.send(world.network.now, "gateway", inner(1));
    world.network.runFor(1000);
  }
  assertEquals(world.client.told.at(-1), "failed: WireGuard handshake was not answered");
});

Deno.test("a message finds its connection by its index, wherever it comes from", () => {
  const world = new World().connect();
  world.client.sent.length = 0;
  world.client.send(world.network.now, "gateway", inner(7));
  const { payload } = world.client.pollTransmit()!;
  const elsewhere = socketAddress("198.51.100.77:9");
  world.gateway.handleDatagram(
    world.network.now,
    socketAddress("192.0.2.2:52625"),
    elsewhere,
    payload,
  );
  assertEquals(world.gateway.received, [7]);
});

Deno.test("a peer may use the port of relays: those are known by their whole address", () => {
  const gateway = () => ({ addresses: ["192.0.2.2"], port: 3478 });
  const world = new World(1, { gateway }).connect();
  assertEquals(world.client.node.connection("gateway")!.path!.remote.key, "192.0.2.2:3478");
  assertEquals(world.reaches(1), true);
  world.gateway.send(world.network.now, "client", inner(2));
  world.network.runFor(1000);
  assertEquals(world.client.received, [2]);
});

Deno.test("only relayed candidates are taken back, and those of one relay alone are offered", () => {
  const world = new World(2).connect();
  const kinds = (tag: string) =>
    world.client.signalled.filter((one) => one.tag === tag)
      .map(({ candidate }) => candidate.split(" ")[7]);
  assertEquals(kinds("candidates").filter((kind) => kind === "relay").length, 1);
  const relayed = world.client.signalled.find(({ candidate }) => candidate.includes("typ relay"))!;
  const used = relayed.candidate.includes("203.0.113.1") ? 0 : 1;
  world.client.node.updateRelays(world.network.now, [`relay-${used}`], []);
  world.network.runFor(200);
  assertEquals(kinds("candidates-invalidated"), ["relay"]);
  assertEquals(kinds("candidates").filter((kind) => kind === "relay").length, 2, "the other's");
  assertEquals(world.reaches(1), true);
});

Deno.test("a candidate that was taken back is not told again when all others are", () => {
  const world = new World(2).connect();
  const relayed = () => world.client.signalled.filter((one) => one.candidate.includes("typ relay"));
  const gone = relayed()[0]!.candidate;
  const used = gone.includes("203.0.113.1") ? 0 : 1;
  world.client.node.updateRelays(world.network.now, [`relay-${used}`], []);
  world.network.runFor(200);
  world.client.signalled.length = 0;
  assertEquals(world.upsert("client"), "renewed");
  world.network.runFor(0);
  assertEquals(relayed().length, 1);
  assert(relayed()[0]!.candidate !== gone);
});

Deno.test("a connection whose relay stays does not notice that another one went or came", () => {
  const world = new World(2).connect();
  const relayed = world.client.signalled.find(({ candidate }) => candidate.includes("typ relay"))!;
  const other = relayed.candidate.includes("203.0.113.1") ? 1 : 0;
  const before = world.client.signalled.length;
  world.client.node.updateRelays(world.network.now, [`relay-${other}`], []);
  world.network.runFor(200);
  world.offerRelays("client");
  world.network.runFor(500);
  assertEquals(world.client.signalled.slice(before), []);
});

Deno.test("a relay that the portal drops but that works goes on carrying until another one does", () => {
  const world = new World(2);
  world.network.block("192.0.2.1", "192.0.2.2");
  world.connect();
  const path = world.client.node.status(world.network.now)[0]!.path!;
  const used = [path.local, path.remote].join().includes("203.0.113.1:") ? 0 : 1;
  for (const end of [world.client, world.gateway]) {
    end.node.updateRelays(world.network.now, [`relay-${used}`], []);
  }
  let lost = 0;
  for (let i = 0; i < 20; i++) {
    if (!world.reaches(1)) lost++;
  }
  assert(lost <= 2, `${lost} packets were lost`);
  assertEquals(world.client.told.filter((event) => event.startsWith("failed")), []);
});

Deno.test("packets that wait while the path is gone follow as soon as there is another", () => {
  const world = new World(2);
  const isClient = ({ ip }: SocketAddress) => ip.text === "192.0.2.1";
  // All that the client can talk to is the front of a relay.
  world.network.dropIf(({ from, to }) =>
    isClient(from) && to.port !== 3478 || isClient(to) && from.port !== 3478
  );
  world.connect();
  const connection = world.client.node.connection("gateway")!;
  assertEquals(connection.path?.kind, "relayed");
  const used = connection.path!.local.key.startsWith("203.0.113.1:") ? 0 : 1;
  world.relays[used]!.isUp = false;
  for (const end of [world.client, world.gateway]) {
    end.node.updateRelays(world.network.now, [`relay-${used}`], []);
  }
  assertEquals(connection.path, undefined);
  world.client.send(world.network.now, "gateway", inner(1));
  world.network.runFor(5_000);
  assertEquals(world.gateway.received, [1]);
});

Deno.test("behind a symmetric NAT one server-reflexive candidate per relay is told", () => {
  const world = new World(2, {
    client: (network) => ({
      addresses: ["192.168.1.2"],
      behind: network.addRouter("home", { addresses: ["198.51.100.1"], nat: NAT_KINDS.symmetric }),
    }),
  }).connect();
  const reflexive = () => world.client.signalled.filter((one) => one.candidate.includes("srflx"));
  assertEquals(reflexive().length, 2);
  world.network.runFor(600_000);
  assertEquals(reflexive().length, 2);
  world.upsert("client");
  world.network.runFor(0);
  assertEquals(reflexive().length, 4, "the same two again");
});

Deno.test("an end with two addresses has two host candidates, each once", () => {
  const world = new World(2, { client: () => ({ addresses: ["192.0.2.1", "192.0.2.3"] }) });
  const second = socketAddress("192.0.2.3:52625");
  world.network.runFor(200);
  world.upsert("client");
  // Another relay may be reached by another interface.
  world.client.node.updateRelays(world.network.now, [], [
    new GenerousRelay("203.0.113.9").offer("x"),
  ]);
  world.network.runFor(0);
  const probe = lastBinding(world.client);
  const answer = bindingSuccess(probe, second.key);
  world.client.handleDatagram(world.network.now, second, probe.destination, answer);
  world.network.runFor(100);
  const hosts = world.client.signalled
    .filter(({ candidate }) => candidate.includes("typ host"))
    .map(({ candidate }) => candidate.split(" ")[4]);
  assertEquals(hosts, ["192.0.2.1", "192.0.2.3"]);
});

Deno.test("relays that are still offered are asked whether they know us, those offered anew are not", () => {
  const world = new World(2).connect();
  for (const relay of world.relays) relay.asked.length = 0;
  world.client.node.updateRelays(world.network.now, [], [world.relays[0]!.offer("relay-0")]);
  world.network.runFor(100);
  assertEquals(world.relays.map(({ asked }) => asked.filter((one) => one === "refresh").length), [
    0,
    1,
  ]);
});

Deno.test("a relay with other credentials under the same id is another relay", () => {
  const world = new World().connect();
  world.relays[0]!.asked.length = 0;
  const offer = world.relays[0]!.offer("relay-0");
  world.client.node.updateRelays(world.network.now, [], [{ ...offer, password: "other" }]);
  world.network.runFor(10);
  assertEquals(world.relays[0]!.asked, ["binding"]);
  assertEquals(world.client.told.includes("no-relays"), false);
});

Deno.test("a relay that dies is told of once", () => {
  const world = new World(2).connect();
  for (const relay of world.relays) relay.isUp = false;
  world.network.runFor(120_000);
  assertEquals(world.client.told.filter((event) => event === "relay-failed").length, 2);
  assertEquals(world.client.told.filter((event) => event === "no-relays").length, 1);
});

Deno.test("reset: other key, no connections, no checks left, relays asked with what they know", () => {
  const world = new World().connect();
  const { node } = world.client;
  const key = node.publicKey;
  world.relays[0]!.asked.length = 0;
  node.reset(world.network.now, new Uint8Array(32).fill(3));
  assert(key.some((byte, i) => byte !== node.publicKey[i]));
  assertEquals([...node.connections()], []);
  world.network.runFor(200);
  assertEquals(world.relays[0]!.asked.slice(0, 2), ["binding", "allocate"]);
  assertEquals(world.upsert("gateway"), "replaced");
  assertEquals(world.upsert("client"), "created");
  world.network.runFor(1000);
  assertEquals(world.reaches(1), true);
});

Deno.test("a packet that is too large is dropped and counted, and nothing else is", () => {
  const world = new World().connect();
  world.client.send(world.network.now, "gateway", new Uint8Array(1281).fill(0x45));
  assertEquals(world.client.node.drops.tooLong, 1);
  assertEquals(world.reaches(1), true);
});

Deno.test("what belongs to nobody is counted and harms nobody", () => {
  const world = new World().connect();
  const { client, network } = world;
  const [local, from] = [socketAddress("192.0.2.1:52625"), socketAddress("198.51.100.1:1")];
  for (const first of [0, 1, 2, 3, 4, 0x40, 0x80, 0xff]) {
    for (const length of [0, 1, 3, 4, 20, 32, 92, 148, 1500]) {
      const bytes = new Uint8Array(length).fill(first);
      client.handleDatagram(network.now, local, from, bytes);
      client.handleDatagram(network.now, local, world.relays[0]!.offer("x").servers.v4!, bytes);
    }
  }
  const dropped = Object.values(client.node.drops).reduce((sum, n) => sum + n, 0);
  assertEquals(dropped, 2 * 8 * 9);
  assertEquals(world.reaches(1), true);
});

Deno.test("pollTimeout says now while something is queued, and draining ends", () => {
  const world = new World();
  const { node } = world.client;
  assertEquals(node.pollTimeout(), 0);
  while (node.pollTransmit() !== undefined);
  while (node.pollEvent() !== undefined);
  assert(node.pollTimeout() > world.network.now);
});

function lastBinding({ sent }: { sent: Transmit[] }): Transmit {
  return sent.findLast(({ payload }) => payload[0] === 0 && payload[1] === 1)!;
}

/** A BINDING success with XOR-MAPPED-ADDRESS (RFC 8489 §14.2). */
function bindingSuccess({ payload }: Transmit, mapped: string): Uint8Array {
  const { ip, port } = socketAddress(mapped);
  const cookie = payload.slice(4, 8);
  const answer = new Uint8Array(32);
  answer.set([0x01, 0x01, 0, 12, ...payload.slice(4, 20), 0, 0x20, 0, 8, 0, 1]);
  answer.set([port >> 8 ^ cookie[0]!, (port & 0xff) ^ cookie[1]!], 26);
  answer.set(ip.bytes.map((byte, i) => byte ^ cookie[i]!), 28);
  return answer;
}

Deno.test("a packet out of an idle connection has its path checked soon again", () => {
  const world = new World().connect();
  world.network.runFor(60_000);
  const { gateway, network } = world;
  const connection = gateway.node.connection("client")!;
  assertEquals(connection.isIdle, true);
  const before = gateway.node.pollTimeout();
  gateway.send(network.now, "client", inner(1));
  assertEquals(connection.isIdle, false);
  assert(gateway.node.pollTimeout() < before, "a deadline has come forward");
});
