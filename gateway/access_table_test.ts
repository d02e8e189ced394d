import { assertEquals } from "@std/assert";
import { ip, PacketRef, Parse, parsePacket, prefix, PROTOCOL } from "@firezone/core/ip";
import type { Filter, GatewayResource } from "@firezone/core/portal";
import type { UnixSeconds } from "@firezone/core/units";
import { AccessTable } from "./access_table.ts";

const unix = (seconds: number) => seconds as UnixSeconds;

function cidr(id: string, range: string, filters: Filter[] = []): GatewayResource {
  return { type: "cidr", id, name: id, prefix: prefix(range), filters };
}

function tcpPacket(from: string, to: string, sourcePort: number, destinationPort: number) {
  const packet = new Uint8Array(40);
  packet.set([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
  packet.set(ip(from).bytes, 12);
  packet.set(ip(to).bytes, 16);
  new DataView(packet.buffer).setUint16(20, sourcePort);
  new DataView(packet.buffer).setUint16(22, destinationPort);
  packet[32] = 5 << 4;
  return packet;
}

function admits(table: AccessTable, to: string, port: number): boolean {
  const packet = tcpPacket("100.64.0.1", to, 50_000, port);
  const ref = new PacketRef();
  assertEquals(parsePacket(packet, 0, packet.length, ref), Parse.Ok);
  return table.checkOutbound(packet, ref) === "admitted";
}

Deno.test("AccessTable admits what a resource contains, and nothing else", () => {
  const table = new AccessTable();
  assertEquals(admits(table, "10.0.0.1", 80), false);
  table.allow(cidr("a", "10.0.0.0/24"), undefined);
  assertEquals(admits(table, "10.0.0.1", 80), true);
  assertEquals(admits(table, "10.0.1.1", 80), false);
  assertEquals(table.revoke("a"), true);
  assertEquals(table.revoke("a"), false);
  assertEquals(admits(table, "10.0.0.1", 80), false);
  assertEquals(table.isEmpty, true);
});

Deno.test("AccessTable admits by any of several overlapping resources", () => {
  const table = new AccessTable();
  table.allow(
    cidr("net", "10.0.0.0/8", [{ protocol: "tcp", portStart: 22, portEnd: 22 }]),
    undefined,
  );
  table.allow(
    cidr("host", "10.0.0.1/32", [{ protocol: "tcp", portStart: 80, portEnd: 80 }]),
    undefined,
  );
  assertEquals(admits(table, "10.0.0.1", 22), true);
  assertEquals(admits(table, "10.0.0.1", 80), true);
  assertEquals(admits(table, "10.0.0.1", 443), false);
  assertEquals(admits(table, "10.0.0.2", 80), false);
});

Deno.test("AccessTable looks at the source port of what comes back", () => {
  const table = new AccessTable();
  table.allow(
    cidr("a", "10.0.0.0/24", [{ protocol: "tcp", portStart: 80, portEnd: 80 }]),
    undefined,
  );
  const ref = new PacketRef();
  for (const [port, admitted] of [[80, true], [81, false]] as const) {
    const packet = tcpPacket("10.0.0.1", "100.64.0.1", port, 50_000);
    parsePacket(packet, 0, packet.length, ref);
    assertEquals(table.admitsInbound(packet, ref), admitted);
  }
});

Deno.test("AccessTable withdraws what has expired, at the second it does", () => {
  const table = new AccessTable();
  table.allow(cidr("a", "10.0.0.0/24"), unix(100));
  table.allow(cidr("b", "10.0.1.0/24"), unix(200));
  table.allow(cidr("c", "10.0.2.0/24"), undefined);
  assertEquals(table.expire(unix(99)), []);
  assertEquals(table.expire(unix(100)), ["a"]);
  assertEquals(admits(table, "10.0.0.1", 80), false);
  assertEquals(table.setExpiry("b", unix(300)), true);
  assertEquals(table.expire(unix(250)), []);
  assertEquals([...table.resourceIds()], ["b", "c"]);
});

Deno.test("AccessTable takes new filters for a resource in use, but no other kind of resource", () => {
  const table = new AccessTable();
  table.allow(cidr("a", "10.0.0.0/24"), undefined);
  table.update(cidr("a", "10.0.0.0/24", [{ protocol: "tcp", portStart: 22, portEnd: 22 }]));
  assertEquals(admits(table, "10.0.0.1", 80), false);
  assertEquals(admits(table, "10.0.0.1", 22), true);
  table.update({ type: "internet", id: "a", name: "", filters: [] });
  assertEquals(admits(table, "10.0.0.1", 80), false);
});

function verdict(table: AccessTable, to: string, port = 443): string {
  const packet = tcpPacket("100.64.0.1", to, 50_000, port);
  const ref = new PacketRef();
  parsePacket(packet, 0, packet.length, ref);
  return table.checkOutbound(packet, ref);
}

Deno.test("the Internet resource leads to public addresses, whatever its filters", () => {
  const table = new AccessTable();
  const internet: GatewayResource = {
    type: "internet",
    id: "internet",
    name: "",
    filters: [{ protocol: "udp", portStart: 1, portEnd: 1 }],
  };
  assertEquals(verdict(table, "192.0.2.1"), "prohibited");
  table.allow(internet, undefined);
  assertEquals(verdict(table, "192.0.2.1"), "admitted");
  for (const to of ["10.0.0.1", "100.64.0.9", "100.96.0.1", "169.254.169.254", "127.0.0.1"]) {
    assertEquals(verdict(table, to), "unreachable", to);
  }
  table.allow(
    cidr("a", "10.0.0.0/24", [{ protocol: "tcp", portStart: 80, portEnd: 80 }]),
    undefined,
  );
  assertEquals(verdict(table, "10.0.0.1", 80), "admitted");
  assertEquals(verdict(table, "10.0.0.1", 443), "prohibited");
  const ref = new PacketRef();
  for (const [from, admitted] of [["192.0.2.1", true], ["192.168.0.1", false]] as const) {
    const packet = tcpPacket(from, "100.64.0.1", 443, 50_000);
    parsePacket(packet, 0, packet.length, ref);
    assertEquals(table.admitsInbound(packet, ref), admitted, from);
  }
  table.revoke("internet");
  assertEquals(verdict(table, "192.0.2.1"), "prohibited");
});

function dns(id: string, pattern: string, filters: Filter[] = []): GatewayResource {
  return { type: "dns", id, name: id, pattern, ipStack: "dual", filters };
}

Deno.test("a name belongs to the DNS resources whose patterns it matches, while they are there", () => {
  const table = new AccessTable();
  table.allow(dns("wild", "*.Example.com"), unix(100));
  table.allow(dns("broken", "a..b"), undefined);
  table.allow(cidr("net", "10.0.0.0/24"), undefined);
  const may = (id: string, domain: string) => table.mayResolve(id, domain);
  assertEquals(may("wild", "a.example.com"), true);
  assertEquals(may("wild", "example.com"), true);
  assertEquals(may("wild", "a.b.example.com"), false);
  assertEquals(may("wild", "example.org"), false);
  assertEquals(may("broken", "a..b"), false);
  assertEquals(may("net", "a.example.com"), false);
  assertEquals(may("other", "a.example.com"), false);
  table.allow(dns("wild", "*.example.org"), unix(100));
  assertEquals([may("wild", "a.example.com"), may("wild", "a.example.org")], [false, true]);
  table.expire(unix(100));
  assertEquals(may("wild", "a.example.org"), false);
});

Deno.test("traffic with a name is allowed when any of its resources admits it", () => {
  const table = new AccessTable();
  table.allow(
    dns("web", "a.example", [{ protocol: "tcp", portStart: 443, portEnd: 443 }]),
    undefined,
  );
  table.allow(
    dns("ssh", "*.example", [{ protocol: "tcp", portStart: 22, portEnd: 22 }]),
    undefined,
  );
  table.allow(cidr("net", "0.0.0.0/0"), undefined);
  const admits = (ids: string[], port: number) => table.admitsName(ids, PROTOCOL.tcp, port);
  assertEquals(admits(["web"], 443), true);
  assertEquals(admits(["web"], 22), false);
  assertEquals(admits(["web", "ssh"], 22), true);
  assertEquals(admits([], 443), false);
  assertEquals(admits(["net"], 443), false, "a resource of another kind says nothing about names");
  table.update(dns("web", "a.example"));
  assertEquals(admits(["web"], 22), true);
  table.revoke("web");
  assertEquals(admits(["web", "ssh"], 443), false);
});
