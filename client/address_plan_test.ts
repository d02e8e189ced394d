import { assertEquals } from "@std/assert";
import { ip, PacketRef } from "@firezone/core/ip";
import { isInTunnelRange, TUNNEL_RANGES } from "./address_plan.ts";

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
