import { assert, assertEquals } from "@std/assert";
import { ip, type IpAddress, prefix, PROTOCOL } from "@firezone/core/ip";
import type { ClientResource, Filter } from "@firezone/core/portal";
import { NAT_KINDS } from "@firezone/core/testing";
import {
  ADDRESSES,
  behindNat,
  cidrResource,
  IDS,
  RESOURCE,
  SITE,
  TunnelWorld,
  udpPacket,
} from "./tunnel_world.ts";

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
  world.offline.add(IDS.gateway);
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
  world.offline.add(IDS.gateway);
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

Deno.test("a gateway that is offline is reported, and asked for again two seconds later", () => {
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
  world.network.runFor(2000); // a refusal does not make a flood of packets one of requests
  assertEquals(arrives(world, udpPacket(ADDRESSES.client.ipv4, SERVER, 2)), true);
  assertEquals(world.client.machine.status(world.network.now).resources[0]?.status, "online");
});

Deno.test("a client that leaves says goodbye, and the gateway forgets the connection at once", () => {
  const world = connectedWorld();
  world.client.machine.shutDown(world.network.now);
  world.network.runFor(500);
  assertEquals(world.gateway.machine.status(world.network.now).connections, []);
});

const OTHER_RESOURCE = "00000000-0000-4000-8000-000000000009";
const OTHER_SERVER = ip("10.0.2.7");

function put(world: TunnelWorld, resource: ClientResource): void {
  world.putResource(resource);
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "resource-created-or-updated",
    resource,
  });
}

function to(server: IpAddress, port = 80): Uint8Array {
  const packet = udpPacket(ADDRESSES.client.ipv4, server, 2);
  packet[22] = port >> 8;
  packet[23] = port & 0xff;
  return packet;
}

function resourceStatus(world: TunnelWorld): (string | undefined)[] {
  const { resources } = world.client.machine.status(world.network.now);
  return resources.map(({ status }) => status);
}

Deno.test("what the gateway prohibits although it was granted is asked for again", () => {
  const world = connectedWorld();
  put(world, cidrResource(OTHER_RESOURCE, prefix("10.0.2.0/24")));
  assertEquals(arrives(world, to(OTHER_SERVER)), true);
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "reject-access",
    clientId: IDS.client,
    resourceId: OTHER_RESOURCE,
  });
  const granted = world.granted.length;
  assertEquals(arrives(world, to(OTHER_SERVER)), false);
  assertEquals(lastToClient(world), ICMP_PROHIBITED);
  assertEquals(world.granted.length, granted + 1);
  assertEquals(arrives(world, to(OTHER_SERVER)), true);
  assertEquals(world.log.filter((line) => line.endsWith("gateway-failed")), []);
});

Deno.test("a resource with another address is served there, and no longer at the former one", () => {
  const world = connectedWorld();
  put(world, cidrResource(IDS.resource, prefix("10.0.2.0/24")));
  assertEquals(arrives(world, to(SERVER)), false);
  assertEquals(arrives(world, to(OTHER_SERVER)), true);
});

Deno.test("resources come, change and go while others carry traffic", () => {
  const world = connectedWorld();
  for (let i = 0; i < 5; i++) {
    put(world, cidrResource(OTHER_RESOURCE, prefix(`10.${i + 1}.0.0/16`)));
    assertEquals(arrives(world, to(ip(`10.${i + 1}.0.7`))), true);
    assertEquals(arrives(world, to(SERVER)), true);
  }
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "resource-deleted",
    resourceId: OTHER_RESOURCE,
  });
  assertEquals(arrives(world, to(ip("10.5.0.7"))), false);
  assertEquals(arrives(world, to(SERVER)), true);
  const established = world.log.filter((line) => line.endsWith("gateway-connected"));
  assertEquals(established.length, 1, "it is one connection all the time");
});

Deno.test("of overlapping resources the one whose filters admit the packet carries it", () => {
  const world = connectedWorld();
  const filters: Filter[] = [{ protocol: "udp", portStart: 53, portEnd: 53 }];
  put(world, cidrResource(OTHER_RESOURCE, prefix("10.0.0.7/32"), filters));
  assertEquals(arrives(world, to(SERVER, 53)), true);
  assertEquals(arrives(world, to(SERVER, 80)), true, "the wider resource admits it");
  const granted = world.granted.length;
  put(world, cidrResource(IDS.resource, RESOURCE, filters));
  assertEquals(arrives(world, to(SERVER, 80)), false);
  assertEquals(lastToClient(world), ICMP_PROHIBITED);
  assertEquals(world.granted.length, granted, "what no resource admits is not asked for");
});

Deno.test("filters hold for what comes back, by its source port", () => {
  const world = connectedWorld();
  assertEquals(arrives(world, to(SERVER, 53)), true);
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "resource-updated",
    resource: {
      ...world.gatewayResource(IDS.resource),
      filters: [{ protocol: "udp", portStart: 53, portEnd: 53 }],
    },
  });
  const reply = (port: number) => {
    const packet = udpPacket(SERVER, ADDRESSES.client.ipv4, 3);
    packet[20] = port >> 8;
    packet[21] = port & 0xff;
    const before = world.client.received.length;
    world.gateway.send(world.network.now, packet);
    return world.runUntilClientGot(before + 1, 1000);
  };
  assertEquals(reply(53), true);
  assertEquals(reply(80), false);
  assertEquals(drops(world, "gateway").deniedInbound, 1);
});

Deno.test("a flood of refused packets is answered now and then, by either end", () => {
  const world = connectedWorld();
  const isError = (packet: Uint8Array) => packet[9] === PROTOCOL.icmp;
  const errors = () => world.client.received.filter(isError).length;
  const flood = (destination: IpAddress) => {
    const before = errors();
    for (let ms = 0; ms < 1000; ms++) {
      for (let i = 0; i < 5; i++) world.sendFromClient(to(destination));
      world.network.runFor(1);
    }
    world.network.runFor(1000);
    return errors() - before;
  };
  // The client refuses by itself.
  put(world, cidrResource(OTHER_RESOURCE, prefix("10.0.1.0/24"), [{ protocol: "icmp" }]));
  const byClient = flood(ELSEWHERE);
  assertEquals(drops(world, "client").filtered, 5000);
  assert(byClient >= 1000 && byClient <= 1060, `${byClient} of the client`);
  // The gateway alone knows of a filter.
  world.offline.add(IDS.gateway);
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "resource-updated",
    resource: { ...world.gatewayResource(IDS.resource), filters: [{ protocol: "icmp" }] },
  });
  const byGateway = flood(SERVER);
  assertEquals(drops(world, "gateway").denied, 5000);
  assert(byGateway >= 100 && byGateway <= 130, `${byGateway} of the gateway`);
});

Deno.test("errors of routers on the way reach the client, if they are about its packets", () => {
  const world = connectedWorld();
  const timeExceeded = (quoted: Uint8Array) => {
    const error = new Uint8Array(28 + quoted.length);
    error.set([0x45, 0, 0, error.length, 0, 0, 0, 0, 64, PROTOCOL.icmp]);
    error.set(ip("10.9.9.9").bytes, 12);
    error.set(ADDRESSES.client.ipv4.bytes, 16);
    error[20] = 11;
    error.set(quoted, 28);
    const before = world.client.received.length;
    world.gateway.send(world.network.now, error);
    return world.runUntilClientGot(before + 1, 1000);
  };
  assertEquals(timeExceeded(to(SERVER)), true);
  assertEquals(timeExceeded(to(ip("192.0.2.1"))), false, "it was never sent");
  assertEquals(timeExceeded(udpPacket(ip("100.64.0.9"), SERVER, 1)), false, "another's");
  assertEquals(timeExceeded(to(SERVER).subarray(0, 20)), false, "too little is quoted");
  assertEquals(drops(world, "client").sourceNotAllowed, 3);
});

Deno.test("the Internet resource carries the rest, but nothing private to the gateway's network", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2"),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2"),
    usesInternet: true,
  });
  put(world, { type: "internet", id: OTHER_RESOURCE, name: "Internet", sites: [SITE] });
  assertEquals(arrives(world, to(ip("192.0.2.1"))), true);
  assertEquals(arrives(world, to(ip("172.16.0.1"))), false);
  assertEquals(lastToClient(world), [PROTOCOL.icmp, 3, 0], "network unreachable");
  assertEquals(drops(world, "gateway").unreachable, 1);
  const before = drops(world, "client").noResource!;
  assertEquals(arrives(world, to(ip("100.64.0.99"))), false);
  assertEquals(arrives(world, to(ip("100.100.111.9"))), false, "a sentinel that nobody is");
  assertEquals(drops(world, "client").noResource, before + 2);
});

Deno.test("a gateway that carries nothing any more is told goodbye", () => {
  const world = connectedWorld();
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "resource-deleted",
    resourceId: IDS.resource,
  });
  assertEquals(world.client.machine.status(world.network.now).connections, []);
  world.network.runFor(200);
  assertEquals(world.gateway.machine.status(world.network.now).connections, []);
});

Deno.test("a resource is online with its gateway, and nobody knows any more once that is gone", () => {
  const world = connectedWorld();
  assertEquals(resourceStatus(world), ["online"]);
  world.network.runFor(60_000); // who is idle does not ask for it again
  world.gateway.machine.shutDown(world.network.now);
  world.network.runFor(200);
  assertEquals(resourceStatus(world), ["unknown"]);
});

Deno.test("a site that is offline is so for five minutes, for all of its resources", () => {
  const world = connectedWorld();
  put(world, cidrResource(OTHER_RESOURCE, prefix("10.0.2.0/24")));
  world.network.runFor(60_000); // who is idle does not ask for it again
  world.gateway.machine.shutDown(world.network.now);
  world.offline.add(IDS.gateway);
  world.network.runFor(200);
  assertEquals(arrives(world, to(SERVER)), false);
  assertEquals(resourceStatus(world), ["offline", "offline"]);
  world.network.runFor(290_000);
  assertEquals(resourceStatus(world), ["offline", "offline"]);
  world.network.runFor(10_000);
  assertEquals(resourceStatus(world), ["unknown", "unknown"]);
});

Deno.test("a flood of packets is no flood of requests, whatever the portal answers", () => {
  const world = connectedWorld();
  world.gateway.machine.shutDown(world.network.now);
  world.offline.add(IDS.gateway);
  world.network.runFor(200);
  for (let i = 0; i < 1000; i++) {
    world.sendFromClient(to(SERVER));
    world.network.runFor(10);
  }
  const refusals = world.log.filter((line) => line.endsWith("flow-failed")).length;
  assert(refusals >= 4 && refusals <= 6, `${refusals} requests in ten seconds`);
});

Deno.test("a gateway without a relay for the connection does not say that the client may come", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2"),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2"),
    relays: [],
  });
  world.sendFromClient(to(SERVER));
  world.network.runFor(1000);
  assertEquals(world.gateway.machine.status(world.network.now).peers, []);
  assertEquals(world.client.machine.status(world.network.now).connections, []);
});

Deno.test("packets that waited arrive once, a repeated one once only", () => {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2"),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2"),
  });
  for (let i = 0; i < 5; i++) world.sendFromClient(to(SERVER, 53));
  world.sendFromClient(to(SERVER, 54));
  world.network.runFor(3000);
  assertEquals(world.gateway.received.length, 2);
});

Deno.test("a client reaches nothing from an address that is not its own", () => {
  const world = connectedWorld();
  const elsewhere = { ipv4: ip("100.64.0.77"), ipv6: ip("fd00:2021:1111::77") };
  // Not even from one of another client that may reach the same.
  const ice = { username: "user", password: "a password of twenty-two" };
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "authorize-flow",
    ref: "other",
    resource: { type: "cidr", id: "net", name: "net", prefix: RESOURCE, filters: [] },
    client: {
      id: "other",
      publicKey: new Uint8Array(32).fill(9),
      presharedKey: new Uint8Array(32),
      ...elsewhere,
    },
    clientIce: ice,
    gatewayIce: { ...ice, username: "gateway" },
    expiresAt: undefined,
  });
  world.client.machine.handlePortalMessage(world.network.now, {
    tag: "config-changed",
    interface: { ...elsewhere, upstreamDns: [], upstreamDoh: [], searchDomain: undefined },
  });
  for (const n of [2, 3]) {
    assertEquals(arrives(world, udpPacket(elsewhere.ipv4, SERVER, n)), false);
  }
  assertEquals(drops(world, "gateway"), { ...drops(world, "gateway"), notClientAddress: 2 });
});
