import { assert, assertEquals } from "@std/assert";
import { ip, PROTOCOL } from "@firezone/core/ip";
import type { Filter } from "@firezone/core/portal";
import { NAT_KINDS } from "@firezone/core/testing";
import { ADDRESSES, behindNat, IDS, RESOURCE, TunnelWorld, udpPacket } from "./tunnel_world.ts";

const SERVER = ip("10.0.0.7");
const ELSEWHERE = ip("10.0.1.7");

function connectedWorld(accessSeconds = 86_400): TunnelWorld {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.portRestrictedCone),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.portRestrictedCone),
  });
  world.accessSeconds = accessSeconds;
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
  assert(world.runUntilGatewayGot(1));
  return world;
}

/** Sends a packet and says whether it arrived at the gateway's TUN within two seconds. */
function arrives(world: TunnelWorld, packet: Uint8Array): boolean {
  const before = world.gateway.received.length;
  world.sendFromClient(packet);
  return world.runUntilGatewayGot(before + 1, 2000);
}

function drops(world: TunnelWorld, side: "client" | "gateway"): Readonly<Record<string, number>> {
  return world[side].machine.status(world.network.now).drops;
}

/** IPv4 protocol, ICMP type and code of the last packet that the client's TUN got. */
function lastToClient(world: TunnelWorld): number[] {
  const packet = world.client.received.at(-1)!;
  return [packet[9]!, packet[20]!, packet[21]!];
}

const ICMP_PROHIBITED = [PROTOCOL.icmp, 3, 13];

Deno.test("packets to nowhere and from foreign addresses stay out of the tunnel", () => {
  const world = connectedWorld();
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, ELSEWHERE, 2)), false);
  assertEquals(drops(world, "client").noResource, 1);
  assertEquals(arrives(world, udpPacket(ip("192.168.1.2"), SERVER, 2)), false);
  assertEquals(drops(world, "client").notOurSource, 1);
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), true);
});

Deno.test("a resource that the portal took away is unreachable, and reachable when it is back", () => {
  const world = connectedWorld();
  const { machine } = world.client;
  machine.handlePortalMessage(world.network.now, {
    tag: "resource-deleted",
    resourceId: IDS.resource,
  });
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), false);
  machine.handlePortalMessage(world.network.now, {
    tag: "resource-created-or-updated",
    resource: world.clientResource(),
  });
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), true);
});

Deno.test("the gateway says goodbye to a client whose last resource was revoked", () => {
  const world = connectedWorld();
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "reject-access",
    clientId: IDS.client,
    resourceId: IDS.resource,
  });
  assertEquals(world.gateway.machine.status(world.network.now).connections, []);
  world.network.runFor(500);
  assertEquals(world.client.machine.status(world.network.now).connections, []);
});

Deno.test("access ends when it expires, without a word of the portal", () => {
  const world = connectedWorld(60);
  world.network.runFor(58_000);
  assertEquals(world.gateway.machine.status(world.network.now).peers.length, 1);
  world.network.runFor(3_000);
  assertEquals(world.gateway.machine.status(world.network.now).peers, []);
  assert(world.log.some((line) => line.endsWith("gateway access-revoked")));
});

Deno.test("what init does not list is revoked, what it lists gets the new expiry", () => {
  const world = connectedWorld(60);
  const init = (authorizations: { clientId: string; resourceId: string; expiresAt: undefined }[]) =>
    world.gateway.machine.handlePortalMessage(world.network.now, {
      tag: "init",
      interface: ADDRESSES.gateway,
      relays: world.relaysFor("gateway"),
      authorizations,
    });
  init([{ clientId: IDS.client, resourceId: IDS.resource, expiresAt: undefined }]);
  world.network.runFor(120_000);
  assertEquals(world.gateway.machine.status(world.network.now).peers.length, 1);
  init([]);
  assertEquals(world.gateway.machine.status(world.network.now).peers, []);
});

Deno.test("what the client's filters forbid is answered at once, without the tunnel", () => {
  const world = connectedWorld();
  const filters: Filter[] = [{ protocol: "udp", portStart: 53, portEnd: 53 }];
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "resource-filters-updated",
    resourceId: IDS.resource,
    filters,
  });
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 2));
  world.network.runFor(0);
  assertEquals(lastToClient(world), ICMP_PROHIBITED);
  assertEquals(drops(world, "client").filtered, 1);
});

Deno.test("what the gateway's filters forbid is answered through the tunnel", () => {
  const world = connectedWorld();
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "resource-updated",
    resource: {
      type: "cidr",
      id: IDS.resource,
      name: "private",
      prefix: RESOURCE,
      filters: [{ protocol: "udp", portStart: 53, portEnd: 53 }],
    },
  });
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), false);
  assertEquals(lastToClient(world), ICMP_PROHIBITED);
  assertEquals(drops(world, "gateway").denied, 1);
});

Deno.test("an answer that nobody asked for makes no connection", () => {
  const world = connectedWorld();
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "flow-created",
    resourceId: IDS.resource,
    gatewayId: "00000000-0000-4000-8000-00000000000f",
    gatewayPublicKey: new Uint8Array(32).fill(9),
    gatewayIps: undefined,
    siteId: "site",
    presharedKey: new Uint8Array(32),
    clientIce: { username: "abcd", password: "p".repeat(22) },
    gatewayIce: { username: "efgh", password: "q".repeat(22) },
  });
  assertEquals(world.client.machine.status(world.network.now).connections.length, 1);
});

Deno.test("a gateway that is offline is reported, and asked for again on the next packet", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2"),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2"),
  });
  world.portalIsUp = false;
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "flow-creation-failed",
    resourceId: IDS.resource,
    reason: "offline",
    violatedProperties: [],
  });
  assertEquals(world.client.machine.status(world.network.now).resources[0]?.status, "offline");
  world.portalIsUp = true;
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), true);
  assertEquals(world.client.machine.status(world.network.now).resources[0]?.status, "online");
});

Deno.test("a client that leaves says goodbye, and the gateway forgets the connection at once", () => {
  const world = connectedWorld();
  world.client.machine.shutDown(world.network.now);
  world.network.runFor(500);
  assertEquals(world.gateway.machine.status(world.network.now).connections, []);
});
