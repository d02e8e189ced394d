import { assert, assertEquals } from "@std/assert";
import { ProxyAddresses, proxyAddressesOf } from "@firezone/core/dns";
import { ip, IpAddress, PROTOCOL } from "@firezone/core/ip";
import { NAT_KINDS } from "@firezone/core/testing";
import { ADDRESSES, behindNat, IDS, TunnelWorld, udpPacket } from "./tunnel_world.ts";

const HOST = "db.example.com";

/** The addresses that a client's stub resolver gives to names. */
const proxies = new ProxyAddresses();
const proxyOf = (domain: string) => proxyAddressesOf(proxies.assign(domain))[0]!;

function makeWorld(zone: Record<string, readonly string[]>): TunnelWorld {
  const world = new TunnelWorld({
    client: behindNat("home", "198.51.100.1", "192.168.1.2", NAT_KINDS.portRestrictedCone),
    gateway: behindNat("office", "198.51.100.2", "10.9.0.2", NAT_KINDS.portRestrictedCone),
    hasNames: true,
  });
  for (const [domain, addresses] of Object.entries(zone)) world.zone.set(domain, addresses);
  return world;
}

/** What the stub resolver does when a program asks for a name. */
function query(world: TunnelWorld, domain: string): void {
  world.client.machine.handleDomainResolved(world.network.now, {
    domain,
    slot: proxies.assign(domain),
    resourceIds: [IDS.names],
  });
}

/** Source and destination of an IPv4 packet with a UDP payload of one byte. */
function describe(packet: Uint8Array): string {
  const address = (at: number) => new IpAddress(packet.slice(at, at + 4)).text;
  return `${address(12)} -> ${address(16)}: ${packet[28]}`;
}

function send(world: TunnelWorld, domain: string, payload: number, port = 80): void {
  const packet = udpPacket(ADDRESSES.client.ipv4, proxyOf(domain), payload);
  packet[21] = port;
  world.sendFromClient(packet);
}

/** One packet each way; answers what the resource saw. */
function exchange(world: TunnelWorld, domain: string, payload: number, port?: number): string {
  const asked = world.gateway.received.length;
  const answered = world.client.received.length;
  send(world, domain, payload, port);
  assert(world.runUntilGatewayGot(asked + 1), "the gateway got no packet");
  const request = world.gateway.received.at(-1)!;
  const reply = request.slice();
  reply.set(request.subarray(16, 20), 12);
  reply.set(request.subarray(12, 16), 16);
  reply.set(request.subarray(22, 24), 20);
  reply.set(request.subarray(20, 22), 22);
  reply[28] = payload + 1;
  world.gateway.send(world.network.now, reply);
  assert(world.runUntilClientGot(answered + 1), "the client got no reply");
  assertEquals(
    describe(world.client.received.at(-1)!),
    `${proxyOf(domain)} -> ${ADDRESSES.client.ipv4}: ${payload + 1}`,
  );
  return describe(request);
}

/** ICMP type and code that the client's TUN got within a second. */
function refusal(world: TunnelWorld): number[] {
  const before = world.client.received.length;
  world.runUntilClientGot(before + 1, 1_000);
  const packet = world.client.received[before];
  return packet && packet[9] === PROTOCOL.icmp ? [packet[20]!, packet[21]!] : [];
}

const PROHIBITED = [3, 13];
const NETWORK_UNREACHABLE = [3, 0];

Deno.test("a packet to a name reaches the address that the gateway resolves it to, and is answered", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1", "2001:db8::1"] });
  query(world, HOST);
  assertEquals(exchange(world, HOST, 1), "100.64.0.1 -> 10.7.0.1: 1");
  assertEquals(exchange(world, HOST, 3), "100.64.0.1 -> 10.7.0.1: 3");
  assertEquals(world.resolved, [HOST]);
  assertEquals(world.gateway.machine.status(world.network.now).peers.map((peer) => peer.names), [
    1,
  ]);
});

Deno.test("a name that was asked for again is resolved again, for new flows", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  exchange(world, HOST, 1, 5);
  world.zone.set(HOST, ["10.7.0.2"]);
  query(world, HOST);
  world.network.runFor(1_000);
  assertEquals(exchange(world, HOST, 3, 5), "100.64.0.1 -> 10.7.0.1: 3");
  assertEquals(exchange(world, HOST, 5, 6), "100.64.0.1 -> 10.7.0.2: 5");
});

Deno.test("two names at one address do not get in each other's way", () => {
  const world = makeWorld({ "a.example.com": ["10.7.0.1"], "b.example.com": ["10.7.0.1"] });
  for (const domain of ["a.example.com", "b.example.com"]) query(world, domain);
  exchange(world, "a.example.com", 1);
  exchange(world, "b.example.com", 3);
  assertEquals(exchange(world, "a.example.com", 5), "100.64.0.1 -> 10.7.0.1: 5");
});

Deno.test("a name that the gateway cannot resolve goes nowhere until it is asked for again", () => {
  const world = makeWorld({});
  query(world, HOST);
  send(world, HOST, 1);
  world.network.runFor(2_000);
  assertEquals(world.resolved, [HOST]);
  send(world, HOST, 1);
  assertEquals(refusal(world), NETWORK_UNREACHABLE);
  assertEquals(world.runUntilGatewayGot(1, 5_000), false);
  world.zone.set(HOST, ["10.7.0.1"]);
  query(world, HOST);
  assertEquals(exchange(world, HOST, 3), "100.64.0.1 -> 10.7.0.1: 3");
});

Deno.test("names that are in use go on while the gateway's name servers are away, new ones fail", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"], "new.example.com": ["10.7.0.2"] });
  query(world, HOST);
  exchange(world, HOST, 1);
  world.nameServersAreUp = false;
  query(world, HOST);
  world.network.runFor(1_000);
  assertEquals(world.resolved, [HOST, HOST]);
  assertEquals(exchange(world, HOST, 3), "100.64.0.1 -> 10.7.0.1: 3");
  query(world, "new.example.com");
  send(world, "new.example.com", 1);
  world.network.runFor(1_000);
  send(world, "new.example.com", 1);
  assertEquals(refusal(world), NETWORK_UNREACHABLE);

  // When they are back and say that there are no addresses any more, it is over.
  world.nameServersAreUp = true;
  world.zone.delete(HOST);
  query(world, HOST);
  world.network.runFor(1_000);
  send(world, HOST, 1);
  assertEquals(refusal(world), NETWORK_UNREACHABLE);
});

Deno.test("the resolver's silence counts as a failure after a while", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  send(world, HOST, 1);
  world.network.runUntil(() => world.resolved.length > 0, 5_000);
  // An answer that nobody waits for any more, or never did, changes nothing.
  world.gateway.machine.handleResolved(world.network.now, 0, undefined);
  world.gateway.machine.handleResolved(world.network.now, 77, [ip("10.7.0.9")]);
  world.network.runFor(20_000);
  assertEquals(world.gateway.received, []);
  assertEquals(world.gateway.machine.status(world.network.now).peers.map((peer) => peer.names), [
    0,
  ]);
});

Deno.test("a name outside of the resource's pattern is not even resolved", () => {
  const world = makeWorld({ "db.example.org": ["10.7.0.1"], "10.7.0.1": ["10.7.0.1"] });
  for (const domain of ["db.example.org", "a.b.example.com", "10.7.0.1"]) {
    query(world, domain);
    send(world, domain, 1);
    world.network.runFor(2_000);
  }
  assertEquals(world.resolved, []);
  assertEquals(world.gateway.received, []);
});

Deno.test("addresses of the tunnel and of the gateway itself are nobody's real address", () => {
  const world = makeWorld({ [HOST]: ["127.0.0.1", "100.64.0.9", "fd00:2021:1111::9", "::1"] });
  query(world, HOST);
  send(world, HOST, 1);
  world.network.runFor(2_000);
  assertEquals(world.resolved, [HOST]);
  assertEquals(world.gateway.received, []);
});

Deno.test("a family without addresses is answered with network unreachable", () => {
  const world = makeWorld({ [HOST]: ["2001:db8::1"] });
  query(world, HOST);
  send(world, HOST, 1);
  world.network.runUntil(() => world.resolved.length > 0, 5_000);
  assertEquals(refusal(world), NETWORK_UNREACHABLE);
  assertEquals(world.gateway.received, []);
});

Deno.test("filters decide on what goes to a name", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  exchange(world, HOST, 1);
  world.nameFilters = [{ protocol: "udp", portStart: 53, portEnd: 53 }];
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "resource-updated",
    resource: world.gatewayResource(IDS.names),
  });
  send(world, HOST, 3);
  assertEquals(refusal(world), PROHIBITED);
});

Deno.test("a name is forgotten with its resource, and other resources stay", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  exchange(world, HOST, 1);
  const got = world.gateway.received.length;
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, ip("10.0.0.7"), 1));
  assert(world.runUntilGatewayGot(got + 1));
  world.gateway.machine.handlePortalMessage(world.network.now, {
    tag: "reject-access",
    clientId: IDS.client,
    resourceId: IDS.names,
  });
  send(world, HOST, 3);
  assertEquals(refusal(world), PROHIBITED);
  world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, ip("10.0.0.7"), 1));
  assert(world.runUntilGatewayGot(got + 2));
  assertEquals(world.gateway.machine.status(world.network.now).peers.map((peer) => peer.names), [
    0,
  ]);
});

Deno.test("a reply that comes after its flow is over does not reach the client", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  exchange(world, HOST, 1);
  world.network.runFor(121_000);
  const late = udpPacket(ip("10.7.0.1"), ADDRESSES.client.ipv4, 9);
  const before = world.client.received.length;
  world.gateway.send(world.network.now, late);
  assertEquals(world.runUntilClientGot(before + 1, 1_000), false);
  assertEquals(world.gateway.machine.status(world.network.now).drops.natExpired, 1);
});

Deno.test("an error on the way comes from the proxy address, whoever sent it", () => {
  const world = makeWorld({ [HOST]: ["10.7.0.1"] });
  query(world, HOST);
  exchange(world, HOST, 1);
  const request = world.gateway.received.at(-1)!;
  for (const router of [ADDRESSES.gateway.ipv4, ip("10.9.9.9")]) {
    const error = new Uint8Array(28 + request.length);
    error.set([0x45, 0, 0, error.length, 0, 0, 0, 0, 64, PROTOCOL.icmp]);
    error.set(router.bytes, 12);
    error.set(ADDRESSES.client.ipv4.bytes, 16);
    error[20] = 11; // time exceeded
    error.set(request, 28);
    const before = world.client.received.length;
    world.gateway.send(world.network.now, error);
    assert(world.runUntilClientGot(before + 1, 1_000));
    const got = world.client.received.at(-1)!;
    assertEquals(new IpAddress(got.slice(12, 16)), proxyOf(HOST));
    assertEquals(describe(got.subarray(28)), `${ADDRESSES.client.ipv4} -> ${proxyOf(HOST)}: 1`);
  }
});

Deno.test("names work when many datagrams are lost", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const world = makeWorld({ [HOST]: ["10.7.0.1"] });
    world.client.host.link.loss = 0.2;
    world.gateway.host.link.loss = 0.2;
    query(world, HOST);
    let got = false;
    for (let i = 0; i < 60 && !got; i++) {
      send(world, HOST, 1);
      got = world.runUntilGatewayGot(1, 500);
    }
    assert(got, `seed ${seed}: no packet came through`);
  }
});
