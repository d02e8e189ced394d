import { assertEquals } from "@std/assert";
import { ip, PacketRef } from "@firezone/core/ip";
import { CLIENT_ROUTES, isInProxyRange, isInTunnelRange, TUNNEL_RANGES } from "./address_plan.ts";

Deno.test("isInTunnelRange agrees with the prefixes, at their edges too", () => {
  const addresses = [
    ["100.64.0.0", "100.95.255.255", "100.96.0.0", "100.63.255.255", "10.64.0.0"],
    ["fd00:2021:1111::", "fd00:2021:1111::1f:ffff", "fd00:2021:1111::20:0", "fd00:2021:1112::"],
  ];
  for (const [i, texts] of addresses.entries()) {
    for (const text of texts) {
      const packet = new PacketRef();
      packet.version = i === 0 ? 4 : 6;
      const buf = new Uint8Array([0, ...ip(text).bytes]);
      assertEquals(isInTunnelRange(buf, packet, 1), TUNNEL_RANGES[i]!.contains(ip(text)), text);
    }
  }
});

Deno.test("isInProxyRange takes the rest of what is always routed into the tunnel", () => {
  const texts = [
    ...["100.96.0.0", "100.100.111.255", "100.127.255.255", "100.128.0.0", "100.95.255.255"],
    ...["fd00:2021:1111:8000::", "fd00:2021:1111:8000::1f:ffff", "fd00:2021:1111:8000::20:0"],
    ...["fd00:2021:1111:8000:100:100:111:0", "fd00:2021:1111:8000:100:100:111:ff"],
    ...["fd00:2021:1111:8000:100:100:111:100", "fd00:2021:1111::1", "100.64.0.1", "192.0.2.1"],
  ];
  for (const text of texts) {
    const address = ip(text);
    const packet = new PacketRef();
    packet.version = address.family;
    const isRouted = CLIENT_ROUTES.some((route) => route.contains(address));
    const isOfTunnel = isInTunnelRange(address.bytes, packet, 0);
    assertEquals(isInProxyRange(address.bytes, packet, 0), isRouted && !isOfTunnel, text);
  }
});
