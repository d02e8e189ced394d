import { assertEquals } from "@std/assert";
import { selectAead } from "@firezone/core/crypto";
import { ip, type IpAddress } from "@firezone/core/ip";
import type { ClientResource, IpStack } from "@firezone/core/portal";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import { makeUdpPacket } from "../core/ip/packet_fixtures.ts";
import { ClientState } from "./client_state.ts";

const OURS = { ipv4: ip("100.64.0.1"), ipv6: ip("fd00:2021:1111::1") };
const DOMAIN = "db.example.com";
/** Of slot 0. */
const PROXY_V4 = ip("100.96.0.1");
const PROXY_V6 = ip("fd00:2021:1111:8000::1");
const NOW = 1_000 as Millis;

Deno.test("of two resources of a name the one that has the packet's family is asked for", () => {
  const run = start([resource("v4", "ipv4_only"), resource("v6", "ipv6_only")]);
  for (const [order, resourceIds] of [["v4", "v6"], ["v6", "v4"]].entries()) {
    run.machine.setDomains([{ domain: DOMAIN, slot: 0, resourceIds }]);
    run.advance(10_000 * order);
    run.send(OURS.ipv4, PROXY_V4);
    assertEquals(run.requested(), ["v4"]);
    run.send(OURS.ipv6, PROXY_V6);
    assertEquals(run.requested(), ["v6"]);
  }
});

Deno.test("an address of a family or a name that no resource has any more is unreachable at once", () => {
  const run = start([resource("v4", "ipv4_only")]);
  run.machine.setDomains([{ domain: DOMAIN, slot: 0, resourceIds: ["v4"] }]);
  run.send(OURS.ipv6, PROXY_V6);
  assertEquals(run.replies(), ["ICMPv6 1.0"]);

  // The resource stays, but its pattern has changed: the name is not listed any more.
  run.machine.setDomains([]);
  run.send(OURS.ipv4, PROXY_V4);
  assertEquals(run.replies(), ["ICMP 3.0"]);
  assertEquals(run.requested(), []);
  run.send(OURS.ipv4, ip("100.96.7.7"));
  assertEquals(run.replies(), []);
});

Deno.test("the Internet resource takes neither names nor addresses that nobody has", () => {
  const internet: ClientResource = {
    type: "internet",
    id: "everything",
    name: "Internet",
    sites: [],
  };
  const run = start([internet, resource("names", "dual")], true);
  run.machine.setDomains([{ domain: DOMAIN, slot: 0, resourceIds: ["names"] }]);
  run.send(OURS.ipv4, PROXY_V4);
  assertEquals(run.requested(), ["names"]);
  const nobody = ["100.96.0.5", "100.100.111.9"].map(ip);
  for (const to of nobody) run.send(OURS.ipv4, to);
  run.send(OURS.ipv6, ip("fd00:2021:1111:8000:100:100:111:9"));
  assertEquals(run.requested(), []);
  run.send(OURS.ipv4, ip("198.51.100.1"));
  assertEquals(run.requested(), ["everything"]);
});

Deno.test("what the system asks its neighbours in the tunnel is told, other multicast is not", () => {
  const run = start([]);
  const asked = () => {
    const packets: Uint8Array[] = [];
    for (let event; (event = run.machine.pollEvent()) !== undefined;) {
      if (event.tag === "llmnr-query") packets.push(event.packet);
    }
    return packets;
  };
  asked();
  run.send(OURS.ipv4, ip("224.0.0.252"), 5355);
  run.send(OURS.ipv6, ip("ff02::1:3"), 5355);
  assertEquals(asked(), [
    makeUdpPacket(OURS.ipv4, ip("224.0.0.252"), 5355),
    makeUdpPacket(OURS.ipv6, ip("ff02::1:3"), 5355),
  ]);
  run.send(OURS.ipv4, ip("224.0.0.251"), 5355);
  run.send(OURS.ipv4, ip("224.0.0.252"), 5353);
  run.send(ip("192.0.2.1"), ip("224.0.0.252"), 5355);
  assertEquals(asked(), []);
  for (let i = 0; i < 1000; i++) run.send(OURS.ipv4, ip("224.0.0.252"), 5355);
  assertEquals(asked().length, 100);
  run.machine.sendToSystem(makeUdpPacket(OURS.ipv4, OURS.ipv4));
  assertEquals(run.machine.pollPacket(), makeUdpPacket(OURS.ipv4, OURS.ipv4));
});

function resource(id: string, ipStack: IpStack): ClientResource {
  return {
    type: "dns",
    id,
    name: id,
    pattern: DOMAIN,
    ipStack,
    addressDescription: undefined,
    sites: [],
    filters: [],
  };
}

/** A client with these resources and nobody around it. */
function start(resources: readonly ClientResource[], usesInternet = false) {
  const random = seededRandom(1);
  const machine = new ClientState({
    privateKey: random(32),
    aead: selectAead("node"),
    random,
    unixMillisAtZero: 0,
  }, usesInternet);
  let now = NOW;
  const batch = { buffer: new Uint8Array(2_000), reserve: () => 0, commit: () => {} };
  machine.handlePortalMessage(now, {
    tag: "init",
    interface: { ...OURS, upstreamDns: [], upstreamDoh: [], searchDomain: undefined },
    resources,
    relays: [],
    skippedResources: 0,
  });
  return {
    machine,
    advance(ms: number) {
      now = (now + ms) as Millis;
    },
    send(from: IpAddress, to: IpAddress, port?: number) {
      const packet = makeUdpPacket(from, to, port);
      machine.handleTunPacket(now, packet, 0, packet.length, batch);
    },
    /** Resources that a gateway was asked for. */
    requested(): string[] {
      const ids: string[] = [];
      for (let event; (event = machine.pollEvent()) !== undefined;) {
        if (event.tag === "request-flow") ids.push(event.resourceId);
      }
      return ids;
    },
    /** What came back into TUN: protocol, type and code. */
    replies(): string[] {
      const texts: string[] = [];
      for (let packet; (packet = machine.pollPacket()) !== undefined;) {
        const at = packet[0]! >> 4 === 4 ? 20 : 40;
        const name = at === 20 ? "ICMP" : "ICMPv6";
        texts.push(`${name} ${packet[at]}.${packet[at + 1]}`);
      }
      return texts;
    },
  };
}
