import { assert, assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { NAT_KINDS } from "@firezone/core/testing";
import { ADDRESSES, behindNat, TunnelWorld, udpPacket } from "./tunnel_world.ts";

const SERVER = ip("10.0.0.7");

/** One packet each way, through the present path. */
function exchange(world: TunnelWorld, payload: number, limitMs?: number): void {
  const asked = world.gateway.received.length;
  const answered = world.client.received.length;
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, payload));
  assert(world.runUntilGatewayGot(asked + 1, limitMs), "the gateway got no packet");
  assertEquals(world.gateway.received.at(-1)!.at(-1), payload);
  const reply = udpPacket(SERVER, ADDRESSES.client.ipv4, payload + 1);
  world.gateway.send(world.network.now, reply);
  assert(world.runUntilClientGot(answered + 1, limitMs), "the client got no reply");
  assertEquals(world.client.received.at(-1)!.at(-1), payload + 1);
}

/** The path that the client uses. */
function clientPath(world: TunnelWorld) {
  return world.client.machine.status(world.network.now).connections[0]?.path;
}

const HOME = behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.portRestrictedCone);
const OFFICE = behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.portRestrictedCone);

Deno.test("a client behind a NAT reaches a gateway behind a NAT directly, within half a second", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE });
  world.network.runFor(200); // allocations are made at start, long before the first packet
  const start = world.network.now;
  exchange(world, 1);
  assert(world.network.now - start <= 500, `took ${world.network.now - start} ms`);
  world.network.runFor(2000);
  exchange(world, 3);
  assertEquals(clientPath(world)?.kind, "direct");
  assertEquals(clientPath(world)?.remoteRelayed, false);
});

Deno.test("two symmetric NATs meet through a relay", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.symmetric),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.symmetric),
  });
  exchange(world, 1);
  world.network.runFor(3000);
  exchange(world, 3);
  const path = clientPath(world);
  assert(path?.kind === "relayed" || path?.remoteRelayed, JSON.stringify(path));
});

Deno.test("a tunnel runs over IPv6 alone", () => {
  const world = new TunnelWorld({
    client: () => ({ addresses: ["2001:db8:a::2"] }),
    gateway: () => ({ addresses: ["2001:db8:b::2"] }),
    relays: [{ v6: "2001:db8:f::1" }],
  });
  exchange(world, 1);
});

Deno.test("a client with IPv4 alone reaches a gateway with IPv6 alone through a dual-stack relay", () => {
  const world = new TunnelWorld({
    client: HOME,
    gateway: () => ({ addresses: ["2001:db8:b::2"] }),
  });
  exchange(world, 1);
});

Deno.test("when the direct path dies, the connection moves to the relay or is made anew", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE });
  exchange(world, 1);
  world.network.runFor(2000);
  assertEquals(clientPath(world)?.kind, "direct");
  world.network.block("198.51.100.1", "198.51.100.2");
  // ICE needs about 16.5 s to give the path up; packets until then are lost.
  for (let i = 0; i < 25; i++) {
    world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 9));
    world.network.runFor(1000);
  }
  exchange(world, 3);
  const path = clientPath(world);
  assert(path?.kind === "relayed" || path?.remoteRelayed, JSON.stringify(path));
});

Deno.test("an idle connection survives, and wakes with the next packet", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE });
  exchange(world, 1);
  world.network.runFor(30 * 60_000);
  assertEquals(world.client.machine.status(world.network.now).connections[0]?.state, "idle");
  exchange(world, 3);
});

Deno.test("a client that starts over on another network is back on the next packet", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE });
  exchange(world, 1);
  const cafe = behindNat("cafe", "198.51.100.3", "172.16.0.2")(world.network);
  world.network.move(world.client.host, cafe);
  world.client.host.port = 40_000;
  world.client.machine.reset(world.network.now, new Uint8Array(32).fill(7));
  world.initClient();
  const start = world.network.now;
  exchange(world, 3);
  assert(world.network.now - start <= 2000, `took ${world.network.now - start} ms`);
});

Deno.test("a client that only receives is back after starting over, without a packet of its own", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE });
  exchange(world, 1);
  world.client.machine.reset(world.network.now, new Uint8Array(32).fill(7));
  world.client.host.port = 40_000;
  world.initClient();
  world.network.runFor(1000);
  const before = world.client.received.length;
  world.gateway.send(world.network.now, udpPacket(SERVER, ADDRESSES.client.ipv4, 5));
  assert(world.runUntilClientGot(before + 1, 1000), "the client got nothing");
});

Deno.test("a relay that is lost is replaced by the other one", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.symmetric),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.symmetric),
    relays: [{ v4: "203.0.113.1" }, { v4: "203.0.113.2" }],
  });
  exchange(world, 1);
  world.network.runFor(2000);
  const used = clientPath(world)!;
  const lost = [used.relay ?? "", used.remote].some((text) => text.includes("203.0.113.1:"))
    ? 0
    : 1;
  world.network.block(`203.0.113.${lost + 1}`, "0.0.0.0/0");
  for (const side of [world.client.machine, world.gateway.machine]) {
    side.handlePortalMessage(world.network.now, {
      tag: "relays-presence",
      disconnectedIds: [`relay-${lost}`],
      connected: [],
    });
  }
  for (let i = 0; i < 10; i++) {
    world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 9));
    world.network.runFor(1000);
  }
  exchange(world, 3);
});

Deno.test("without any relay the client says so instead of dropping the packet in silence", () => {
  const world = new TunnelWorld({ client: HOME, gateway: OFFICE, relays: [] });
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
  world.network.runFor(1000);
  assert(world.log.some((line) => line.endsWith("gateway no-relays")), world.log.join("\n"));
});

Deno.test("many lost datagrams do not keep a connection from being made", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const world = new TunnelWorld({ client: HOME, gateway: OFFICE, seed });
    world.client.host.link.loss = 0.2;
    world.gateway.host.link.loss = 0.2;
    let got = false;
    for (let i = 0; i < 60 && !got; i++) {
      world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
      got = world.runUntilGatewayGot(1, 500);
    }
    assert(got, `seed ${seed}: no packet came through`);
  }
});
