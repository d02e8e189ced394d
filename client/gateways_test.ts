import { assertEquals } from "@std/assert";
import { ip, PacketRef, parsePacket } from "@firezone/core/ip";
import type { FlowCreated } from "@firezone/core/portal";
import type { Millis } from "@firezone/core/units";
import { makePacket } from "../core/ip/packet_fixtures.ts";
import { Gateways } from "./gateways.ts";

const T0 = 0 as Millis;

Deno.test("the gateway that was connected last is asked for first, after the one that is wished for", () => {
  const gateways = new Gateways();
  assertEquals(gateways.preferred(), []);
  for (const id of ["a", "b", "c", "b"]) gateways.noteConnected(id);
  assertEquals(gateways.preferred(), ["b", "c", "a"]);
  assertEquals(gateways.preferred("a"), ["a", "b", "c"]);
  assertEquals(gateways.preferred("x"), ["x", "b", "c", "a"]);
  gateways.clear();
  assertEquals(gateways.preferred(), ["b", "c", "a"]);
  gateways.lose("c");
  assertEquals(gateways.preferred(), ["b", "a"]);
  for (let i = 0; i < 200; i++) gateways.noteConnected(`gateway ${i}`);
  assertEquals(gateways.preferred().length, 100);
});

Deno.test("a site is online while one of its gateways carries something", () => {
  const gateways = new Gateways();
  gateways.add(flow("a", "site", 1), false);
  assertEquals(gateways.siteStatus(["site"]), "unknown");
  gateways.noteConnected("a");
  gateways.add(flow("b", "site", 2), true);
  assertEquals(gateways.siteStatus(["other", "site"]), "online");
  gateways.forget("a");
  assertEquals(gateways.siteStatus(["site"]), "online");
  gateways.lose("b");
  assertEquals(gateways.siteStatus(["site"]), "unknown");
  gateways.noteOffline(T0, ["site"]);
  assertEquals(gateways.siteStatus(["site"]), "offline");
  gateways.handleTimeout(gateways.pollTimeout());
  assertEquals(gateways.siteStatus(["site"]), "unknown");
});

Deno.test("a gateway is found by its addresses of either family", () => {
  const gateways = new Gateways();
  gateways.add(flow("a", "site", 1), true);
  gateways.add(flow("b", "site", 2), true);
  gateways.add({ ...flow("c", "site", 3), gatewayIps: undefined }, true);
  const at = (destination: string) => {
    const isV6 = destination.includes(":");
    const source = isV6 ? "fd00:2021:1111::9" : "100.64.0.9";
    const payload = new Uint8Array(1);
    const bytes = makePacket({ version: isV6 ? 6 : 4, source, destination, payload });
    const packet = new PacketRef();
    parsePacket(bytes, 0, bytes.length, packet);
    return gateways.at(bytes, packet, packet.destinationOffset);
  };
  assertEquals(["100.64.0.1", "100.64.0.2", "100.64.0.3"].map(at), ["a", "b", undefined]);
  assertEquals(["fd00:2021:1111::2", "10.0.0.1"].map(at), ["b", undefined]);
  assertEquals(gateways.ipv4Of("b")?.text, "100.64.0.2");
  assertEquals(gateways.ipv4Of("c"), undefined);
});

function flow(gatewayId: string, siteId: string, host: number): FlowCreated {
  const gatewayIps = { ipv4: ip(`100.64.0.${host}`), ipv6: ip(`fd00:2021:1111::${host}`) };
  return { gatewayId, siteId, gatewayIps } as FlowCreated;
}
