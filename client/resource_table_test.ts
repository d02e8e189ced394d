import { assertEquals } from "@std/assert";
import { ip, PacketRef, Parse, parsePacket, prefix } from "@firezone/core/ip";
import type { Connection } from "@firezone/core/connectivity";
import type { ClientResource, Filter, IpStack } from "@firezone/core/portal";
import { ResourceTable } from "./resource_table.ts";

const US = { 4: ip("100.64.0.1"), 6: ip("fd00:2021:1111::1") };
const WEB: Filter[] = [{ protocol: "tcp", portStart: 443, portEnd: 443 }];
const SSH: Filter[] = [{ protocol: "tcp", portStart: 22, portEnd: 22 }];

Deno.test("the longest prefix wins, then the larger id", () => {
  const table = tableOf(
    cidr("b", "10.0.0.0/8"),
    cidr("a", "10.1.0.0/16"),
    cidr("c", "10.1.0.0/16"),
  );
  assertEquals(table.match(...to("10.1.2.3", 443))?.resource.id, "c");
  assertEquals(table.match(...to("10.2.2.3", 443))?.resource.id, "b");
  assertEquals(table.match(...to("192.0.2.1", 443)), undefined);
});

Deno.test("a shorter prefix whose filters admit the packet goes before a longer one", () => {
  const table = tableOf(
    cidr("wide", "10.0.0.0/8", SSH),
    cidr("narrow", "10.1.0.0/16", WEB),
    cidr("other", "10.1.0.0/16", WEB),
  );
  assertEquals(table.match(...to("10.1.2.3", 443))?.resource.id, "other");
  assertEquals(table.match(...to("10.1.2.3", 22))?.resource.id, "wide");
  assertEquals(table.match(...to("10.1.2.3", 80))?.resource.id, "other", "the best refuses");
});

Deno.test("removing one of several overlapping resources leaves the others", () => {
  const table = tableOf(cidr("a", "10.0.0.0/8"), cidr("b", "10.0.0.0/8"), cidr("c", "10.1.0.0/16"));
  table.remove("b");
  assertEquals(table.match(...to("10.9.9.9", 1))?.resource.id, "a");
  assertEquals(table.prefixes().map(String), ["10.0.0.0/8", "10.1.0.0/16"]);
  table.remove("c");
  assertEquals(table.match(...to("10.1.2.3", 1))?.resource.id, "a");
});

Deno.test("the Internet resource takes the rest, but no address of the tunnel", () => {
  const table = tableOf(cidr("a", "10.0.0.0/8", WEB), INTERNET);
  assertEquals(table.match(...to("192.0.2.1", 80)), undefined, "it is switched off");
  assertEquals(table.prefixes().map(String), ["10.0.0.0/8"]);
  table.usesInternet = true;
  assertEquals(table.match(...to("192.0.2.1", 80))?.resource.id, "internet");
  assertEquals(table.match(...to("10.1.1.1", 80))?.resource.id, "a", "refused, not let out");
  assertEquals(table.prefixes().map(String), ["10.0.0.0/8", "0.0.0.0/0", "::/0"]);
  const inside = ["100.64.0.7", "100.96.0.7", "100.100.111.1", "fd00:2021:1111::7"];
  for (const address of [...inside, "fd00:2021:1111:8000::7"]) {
    assertEquals(table.match(...to(address, 80)), undefined, address);
  }
});

Deno.test("a CIDR resource may hold addresses that the tunnel uses as well", () => {
  const table = tableOf(cidr("shared", "100.64.0.0/10"));
  assertEquals(table.match(...to("100.80.0.1", 80))?.resource.id, "shared");
});

Deno.test("of a name's resources the first that admits the packet and has its family is meant", () => {
  const table = tableOf(
    dns("four", "ipv4_only", WEB),
    dns("six", "ipv6_only"),
    dns("late", "dual"),
  );
  const choose = (address: string, port: number) =>
    table.choose(["gone", "four", "six", "late"], to(address, port)[1])?.resource.id;
  assertEquals(choose("100.96.0.1", 443), "four");
  assertEquals(choose("100.96.0.1", 80), "late");
  assertEquals(choose("fd00:2021:1111:8000::1", 443), "six");
  assertEquals(table.choose(["six"], to("100.96.0.1", 443)[1]), undefined);
});

Deno.test("a packet may come from what its connection carries, whichever prefix is longest", () => {
  const table = tableOf(cidr("wide", "10.0.0.0/8"), cidr("narrow", "10.1.0.0/16"));
  const [one, other] = [{} as Connection, {} as Connection];
  table.get("wide")!.connection = one;
  table.get("narrow")!.connection = other;
  for (const connection of [one, other]) {
    assertEquals(table.mayComeFrom(connection, ...from("10.1.2.3")), true);
  }
  assertEquals(table.mayComeFrom(other, ...from("10.2.2.3")), false);
  assertEquals(table.mayComeFrom(one, ...from("192.0.2.1")), false);
});

function tableOf(...resources: ClientResource[]): ResourceTable {
  const table = new ResourceTable();
  for (const resource of resources) table.put(resource);
  return table;
}

const COMMON = { name: "", addressDescription: undefined, sites: [] };
const INTERNET: ClientResource = { type: "internet", id: "internet", name: "", sites: [] };

function cidr(id: string, range: string, filters: readonly Filter[] = []): ClientResource {
  return { ...COMMON, type: "cidr", id, prefix: prefix(range), filters };
}

function dns(id: string, ipStack: IpStack, filters: readonly Filter[] = []): ClientResource {
  return { ...COMMON, type: "dns", id, pattern: "*.example.com", ipStack, filters };
}

function to(address: string, port: number): [Uint8Array, PacketRef] {
  return packet(US[ip(address).family].text, address, port);
}

function from(address: string): [Uint8Array, PacketRef] {
  return packet(address, US[ip(address).family].text, 443);
}

/** A TCP header without much in it. */
function packet(source: string, destination: string, port: number): [Uint8Array, PacketRef] {
  const [src, dst] = [ip(source), ip(destination)];
  const header = src.family === 4 ? 20 : 40;
  const buf = new Uint8Array(header + 20);
  buf.set(
    src.family === 4 ? [0x45, 0, 0, buf.length, 0, 0, 0, 0, 64, 6] : [0x60, 0, 0, 0, 0, 20, 6],
  );
  buf.set(src.bytes, src.family === 4 ? 12 : 8);
  buf.set(dst.bytes, src.family === 4 ? 16 : 24);
  buf.set([0x9c, 0x40, port >> 8, port & 0xff], header);
  buf[header + 12] = 0x50;
  const ref = new PacketRef();
  assertEquals(parsePacket(buf, 0, buf.length, ref), Parse.Ok);
  return [buf, ref];
}
