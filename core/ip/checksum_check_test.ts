import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { wrongChecksum } from "./checksum_check.ts";
import { makePacket } from "./packet_fixtures.ts";

const PAYLOAD = new Uint8Array(33).fill(7);

Deno.test("wrongChecksum finds nothing in right packets, and names the layer of a damaged byte", () => {
  for (const version of [4, 6] as const) {
    for (const protocol of ["tcp", "udp"] as const) {
      const packet = makePacket({ version, protocol, payload: PAYLOAD });
      assertEquals(wrongChecksum(packet, 0, packet.length), undefined);
      packet[packet.length - 1]! ^= 1;
      const layer = protocol === "tcp" ? "TCP" : "UDP";
      assertEquals(wrongChecksum(packet, 0, packet.length), layer);
    }
  }
  const header = makePacket({ payload: PAYLOAD });
  header[8]!--;
  assertEquals(wrongChecksum(header, 0, header.length), "IPv4");
});

Deno.test("wrongChecksum takes a UDP packet over IPv4 without a checksum, and padding behind it", () => {
  const packet = makePacket({ protocol: "udp", payload: PAYLOAD });
  packet[26] = packet[27] = 0;
  assertEquals(wrongChecksum(packet, 0, packet.length), undefined);
  const bare = makePacket({ payload: PAYLOAD });
  const padded = new Uint8Array(bare.length + 5).fill(1);
  padded.set(bare);
  assertEquals(wrongChecksum(padded, 0, padded.length), undefined);
});

Deno.test("wrongChecksum takes any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
    wrongChecksum(bytes, 0, bytes.length);
  }));
});
