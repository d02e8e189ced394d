/**
 * What a tunnel lives through: gateways, relays and the portal that go and come back, in virtual
 * time.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { ip, prefix } from "@firezone/core/ip";
import { NAT_KINDS } from "@firezone/core/testing";
import {
  ADDRESSES,
  behindNat,
  cidrResource,
  gatewayId,
  TunnelWorld,
  udpPacket,
  type WorldOptions,
} from "./tunnel_world.ts";

const SERVER = ip("10.0.0.7");
const OTHER_SERVER = ip("10.0.1.7");
const OTHER_RESOURCE = "00000000-0000-4000-8000-000000000009";
const HOUR_MS = 3_600_000;
/** The client gives a path up after 16.5 s, and waits two more. */
const ICE_TIMEOUT_MS = 18_500;
/** A gateway is given up after that time without a word ... */
const PEER_SILENCE_MS = 16_500;
/** ... and after so long packets go through another: four messages by way of the portal, checks, a handshake. */
const NEW_CONNECTION_MS = 400;

const CONE = NAT_KINDS.portRestrictedCone;
const HOME = behindNat("home", "198.51.100.1", "192.168.1.2", CONE);
const OFFICE = behindNat("office", "198.51.100.2", "10.9.0.2", CONE);
const SECOND = behindNat("second", "198.51.100.3", "10.9.1.2", CONE);
/** Places from which only relays lead anywhere. */
const CLOSED = {
  client: behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.symmetric),
  gateway: behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.symmetric),
};

function connected(options: Partial<WorldOptions> = {}): TunnelWorld {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE, ...options });
  world.network.runFor(500);
  assert(timeToReach(world) < 1000);
  world.network.runFor(3000); // to the best path
  return world;
}

/** Sends a packet every 200 ms until one arrives at a gateway; how long that took. */
function timeToReach(world: TunnelWorld, server = SERVER, limitMs = 60_000): number {
  const start = world.network.now;
  const before = arrived(world);
  while (world.network.now - start < limitMs) {
    world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, server, 1));
    if (world.network.runUntil(() => arrived(world) > before, 200)) break;
  }
  return world.network.now - start;
}

function arrived(world: TunnelWorld): number {
  return world.gateways.reduce((sum, gateway) => sum + gateway.received.length, 0);
}

function count(world: TunnelWorld, what: string): number {
  return world.log.filter((line) => line.endsWith(what)).length;
}

function clientStatus(world: TunnelWorld) {
  return world.client.machine.status(world.network.now);
}

/** Where the client's packets go now. */
function carrier(world: TunnelWorld): string | undefined {
  return clientStatus(world).resources[0]!.gatewayId;
}

function withSecondResource(world: TunnelWorld): TunnelWorld {
  world.putResource(cidrResource(OTHER_RESOURCE, prefix("10.0.1.0/24")));
  world.initClient();
  assert(timeToReach(world, OTHER_SERVER) < 1000);
  return world;
}

Deno.test("a portal that is away for hours is not missed by tunnels that stand", () => {
  for (const places of [{}, CLOSED]) {
    const world = connected(places);
    world.portalIsUp = false;
    for (let hour = 0; hour < 6; hour++) {
      for (let minute = 0; minute < 10; minute++) {
        world.network.runFor(60_000);
        assert(timeToReach(world) <= 200, `hour ${hour}, minute ${minute}`);
      }
      world.network.runFor(HOUR_MS - 600_000);
    }
    assertEquals(count(world, "gateway-connected"), 1, "it is one connection all the time");
    world.portalIsUp = true;
    world.initClient();
    world.initGateway();
    assert(timeToReach(world) <= 200);
    assertEquals(count(world, "gateway-failed"), 0);
  }
});

Deno.test("a gateway that starts anew without a word is back within three seconds", () => {
  for (const idleMs of [0, 60_000]) {
    const world = withSecondResource(connected());
    world.network.runFor(idleMs);
    world.restartGateway();
    world.network.runFor(500);
    const took = timeToReach(world);
    assert(took < 3000, `after ${idleMs} ms without traffic it took ${took} ms`);
    assert(timeToReach(world, OTHER_SERVER) < 1000, "the other resource is asked for as well");
  }
});

Deno.test("a gateway that says goodbye is replaced at once", () => {
  const world = connected({ moreGateways: [SECOND] });
  world.gateway.machine.shutDown(world.network.now);
  world.offline.add(gatewayId(0));
  world.network.runFor(200);
  assertEquals(clientStatus(world).connections.map(({ peerId }) => peerId), [gatewayId(1)]);
  assert(timeToReach(world) < 1000);
  assertEquals(carrier(world), gatewayId(1));
});

Deno.test("who only receives is connected again, too, if it did lately", () => {
  for (const wasIdle of [false, true]) {
    const world = connected();
    if (wasIdle) world.network.runFor(60_000);
    world.offline.add(gatewayId(0));
    world.gateway.machine.shutDown(world.network.now);
    world.network.runFor(10_000);
    assertEquals(clientStatus(world).connections, []);
    world.offline.clear();
    world.network.runFor(5_000);
    const states = clientStatus(world).connections.map(({ state }) => state);
    assertEquals(states, wasIdle ? [] : ["connected"]);
  }
});

Deno.test("a gateway that starts anew is asked for all that it carried", () => {
  const world = withSecondResource(connected());
  world.restartGateway();
  world.network.runFor(500);
  assert(timeToReach(world) < 3000);
  world.network.runFor(3000);
  const gateways = clientStatus(world).resources.map(({ gatewayId }) => gatewayId);
  assertEquals(gateways, [gatewayId(0), gatewayId(0)]);
});

Deno.test("a gateway that is gone for good is asked for no longer than a minute", () => {
  const world = connected();
  world.offline.add(gatewayId(0));
  world.gateway.machine.shutDown(world.network.now);
  world.network.runFor(120_000);
  const before = count(world, "flow-failed");
  assert(before > 1);
  world.network.runFor(HOUR_MS);
  assertEquals(count(world, "flow-failed"), before);
});

Deno.test("when a gateway dies its client is at another one within the ICE timeout", () => {
  const world = withSecondResource(connected({ moreGateways: [SECOND] }));
  const start = world.network.now;
  world.network.block("198.51.100.2", "0.0.0.0/0");
  world.offline.add(gatewayId(0));
  timeToReach(world);
  timeToReach(world, OTHER_SERVER);
  assert(world.network.now - start < ICE_TIMEOUT_MS, `took ${world.network.now - start} ms`);
  assertEquals(carrier(world), gatewayId(1));
  world.network.runFor(ICE_TIMEOUT_MS);
  assertEquals(clientStatus(world).connections.map(({ peerId }) => peerId), [gatewayId(1)]);
  assertEquals(clientStatus(world).resources.map(({ status }) => status), ["online", "online"]);
});

Deno.test("a gateway whose machine dies is replaced in time, although the portal believes in it", () => {
  for (const places of [{}, CLOSED]) {
    for (let phase = 0; phase < 1500; phase += 125) {
      const world = connected({ ...places, moreGateways: [SECOND] });
      world.network.runFor(phase);
      world.vanishGateway();
      const took = timeToReach(world);
      assert(took <= PEER_SILENCE_MS + NEW_CONNECTION_MS, `took ${took} ms`);
      assert(took > PEER_SILENCE_MS - 1_600, `did not wait: ${took} ms`);
      assertEquals(carrier(world), gatewayId(1));
    }
  }
});

Deno.test("a direct path that dies costs seconds and no gateway while the relay leads to it", () => {
  const world = connected({ moreGateways: [SECOND] });
  assertEquals(clientStatus(world).connections[0]!.path!.kind, "direct");
  world.network.block("198.51.100.1", "198.51.100.2");
  const took = timeToReach(world);
  assert(took < 5000, `took ${took} ms`);
  for (let s = 0; s < 60; s++) {
    world.network.runFor(1000);
    assert(timeToReach(world) <= 200, `${s} s later`);
  }
  assertEquals(count(world, "gateway-failed"), 0);
  assertEquals(new Set(world.granted), new Set([gatewayId(0)]));
});

Deno.test("a gateway that failed is not wished for again, whatever the portal thinks of it", () => {
  const world = connected({ moreGateways: [SECOND] });
  world.network.block("198.51.100.2", "0.0.0.0/0");
  for (let s = 0; s < 40; s++) {
    world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
    world.network.runFor(500);
  }
  assertEquals(count(world, "gateway-failed"), 1);
  world.offline.add(gatewayId(0));
  timeToReach(world);
  world.offline.clear();
  assertEquals(carrier(world), gatewayId(1));
  const start = world.granted.length;
  world.client.machine.reset(world.network.now, new Uint8Array(32).fill(7));
  world.initClient();
  assert(timeToReach(world) < 2000);
  assertEquals(world.granted.slice(start), [gatewayId(1)]);
});

Deno.test("after a move the same gateway is chosen again, although another is idle", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE, moreGateways: [SECOND] });
  world.network.runFor(500);
  world.offline.add(gatewayId(0));
  timeToReach(world);
  world.offline.clear();
  for (let move = 0; move < 3; move++) {
    const street = behindNat(`street-${move}`, `198.51.100.1${move}`, "172.16.0.2", CONE);
    world.network.move(world.client.host, street(world.network));
    world.client.machine.reset(world.network.now, new Uint8Array(32).fill(10 + move));
    world.initClient();
    const took = timeToReach(world);
    assert(took < 2000, `took ${took} ms`);
  }
  assertEquals(new Set(world.granted), new Set([gatewayId(1)]));
});

Deno.test("a client that loses a few checks in a row does not lose its connection", () => {
  const world = connected({ moreGateways: [SECOND] });
  world.client.host.link.loss = 0.2;
  for (let i = 0; i < 300; i++) {
    world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
    world.network.runFor(500);
  }
  assertEquals(count(world, "gateway-failed"), 0);
  assertEquals(new Set(world.granted), new Set([gatewayId(0)]));
  assert(arrived(world) > 100);
});

Deno.test("a relay that was rebooted is used again, with its new credentials", () => {
  const world = connected({ ...CLOSED, relays: [{ v4: "203.0.113.1" }] });
  world.relays[0]!.restart("another secret");
  world.network.runFor(1000);
  for (const [side, who] of [["client", "client"], ["gateway", gatewayId(0)]] as const) {
    world[side].machine.handlePortalMessage(world.network.now, {
      tag: "relays-presence",
      disconnectedIds: [],
      connected: world.relaysFor(who),
    });
  }
  const took = timeToReach(world);
  assert(took < 5000, `took ${took} ms`);
  assertEquals(count(world, "gateway-failed"), 0, "the connection moved, it was not made anew");
});

Deno.test("a relay that was rebooted behind the portal's back is noticed, and had again", () => {
  const world = connected({ ...CLOSED, relays: [{ v4: "203.0.113.1" }] });
  world.relays[0]!.restart("another secret");
  const took = timeToReach(world, SERVER, 120_000);
  assert(took < 60_000, `took ${took} ms`);
  assert(count(world, "relay-failed") > 0);
});

Deno.test("a direct connection does not mind that all relays are lost, and new ones wait for some", () => {
  const world = connected();
  const start = world.network.now;
  const restore = world.network.block("203.0.113.1", "0.0.0.0/0");
  const restore6 = world.network.block("2001:db8:f::1", "::/0");
  for (let s = 0; s < 60; s++) {
    world.network.runFor(1000);
    assert(timeToReach(world) <= 200, `${s} s after the loss`);
  }
  const told = world.log.find((line) => line.endsWith("client no-relays"));
  assert(told, "the portal is told");
  assert(parseInt(told) - start < 60_000, told);
  world.gateway.machine.shutDown(world.network.now);
  world.network.runFor(20_000);
  restore();
  restore6();
  const took = timeToReach(world);
  assert(took < 12_000, `took ${took} ms`);
  assertEquals(count(world, "gateway-connected"), 2);
});

Deno.test("relays that the portal takes away without giving others are asked for at once", () => {
  const world = connected();
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "relays-presence",
    disconnectedIds: ["relay-0"],
    connected: [],
  });
  world.network.runFor(0);
  assertEquals(count(world, "client no-relays"), 1);
  world.network.runFor(2000);
  assertEquals(count(world, "client no-relays"), 1, "once is enough");
});

Deno.test("a relayed connection moves to another relay, without being made anew", () => {
  const world = connected({
    ...CLOSED,
    relays: [{ v4: "203.0.113.1" }, { v4: "203.0.113.2" }],
  });
  const path = clientStatus(world).connections[0]!.path!;
  const used = [path.relay ?? "", path.remote].join().includes("203.0.113.1:") ? 0 : 1;
  world.network.block(`203.0.113.${used + 1}`, "0.0.0.0/0");
  for (const side of [world.client.machine, world.gateway.machine]) {
    side.handlePortalMessage(world.network.now, {
      tag: "relays-presence",
      disconnectedIds: [`relay-${used}`],
      connected: [],
    });
  }
  const took = timeToReach(world);
  assert(took < 5000, `took ${took} ms`);
  assertEquals(count(world, "gateway-failed"), 0);
});

Deno.test("a datagram from a relay that was dropped is no packet, and is counted", () => {
  const world = connected();
  const { machine } = world.client;
  const before = clientStatus(world).drops;
  const from = world.relaysFor("client")[0]!.servers.v4!;
  machine.handlePortalMessage(world.network.now, {
    tag: "relays-presence",
    disconnectedIds: ["relay-0"],
    connected: [],
  });
  const channelData = new Uint8Array(24);
  channelData.set([0x40, 0, 0, 20, 4]); // a WireGuard data message, by its first byte
  world.client.handleDatagram(world.network.now, from, from, channelData);
  const dropped = (drops: Readonly<Record<string, number>>) =>
    Object.values(drops).reduce((sum, n) => sum + n, 0);
  assertEquals(dropped(clientStatus(world).drops), dropped(before) + 1);
  assertEquals(world.client.received, []);
});

Deno.test("a client has another key after every start over", () => {
  const world = connected();
  const keys = new Set([String(world.client.machine.publicKey)]);
  for (let i = 1; i <= 3; i++) {
    world.client.machine.reset(world.network.now, new Uint8Array(32).fill(i));
    keys.add(String(world.client.machine.publicKey));
    assertEquals(clientStatus(world).connections, []);
  }
  assertEquals(keys.size, 4);
});
