import { assert, assertEquals } from "@std/assert";
import { readU16 } from "@firezone/core/bytes";
import { ip, PacketRef, Parse, parsePacket, PROTOCOL } from "@firezone/core/ip";
import fc from "fast-check";
import { queryBytes } from "../../core/testing/fake_dns.ts";
import { makeUdpPacket, transportChecksum } from "../../core/ip/packet_fixtures.ts";
import { llmnrReply, looksLikeLlmnrQuery, parseLlmnrQuery } from "./llmnr.ts";

const OURS = { 4: ip("100.64.0.1"), 6: ip("fd00:2021:1111::1") };
const GROUP = { 4: ip("224.0.0.252"), 6: ip("ff02::1:3") };
const RESPONDER = { 4: ip("100.100.111.0"), 6: ip("fd00:2021:1111:8000:100:100:111:0") };
/** Without the flag "recursion desired", which LLMNR does not have. */
const QUERY = queryBytes("intranet", "A", { flags: 0 });

Deno.test("an LLMNR query is recognised by its group and port", () => {
  for (const family of [4, 6] as const) {
    const query = makeUdpPacket(OURS[family], GROUP[family], 5355, QUERY);
    assertEquals(looksLike(query), true);
    assertEquals(parseLlmnrQuery(query), QUERY);
    assertEquals(looksLike(makeUdpPacket(OURS[family], GROUP[family], 5353, QUERY)), false);
    assertEquals(looksLike(makeUdpPacket(OURS[family], RESPONDER[family], 5355, QUERY)), false);
    for (const bit of [0x0400, 0x0200, 0x0100]) {
      const unusual = QUERY.slice();
      unusual[2]! |= bit >> 8;
      const packet = makeUdpPacket(OURS[family], GROUP[family], 5355, unusual);
      assertEquals(parseLlmnrQuery(packet), undefined);
    }
  }
});

Deno.test("an LLMNR answer comes from nobody's address, by unicast, and says no more than it may", () => {
  for (const family of [4, 6] as const) {
    const query = makeUdpPacket(OURS[family], GROUP[family], 5355, QUERY);
    const message = QUERY.slice();
    message.set([0x81, 0x80], 2);
    const reply = llmnrReply(query, message);
    const ref = new PacketRef();
    assertEquals(parsePacket(reply, 0, reply.length, ref), Parse.Ok);
    const at = (offset: number) => reply.slice(offset, offset + ref.addressLength);
    assertEquals(at(ref.sourceOffset), RESPONDER[family].bytes);
    assertEquals(at(ref.destinationOffset), OURS[family].bytes);
    assertEquals([ref.protocol, ref.sourcePort, ref.destinationPort], [PROTOCOL.udp, 5355, 1024]);
    assertEquals(reply[family === 4 ? 8 : 7], 255);
    assertEquals([...reply.subarray(ref.transportOffset + 8).subarray(2, 4)], [0x80, 0]);
    assertEquals(readU16(reply, ref.transportOffset + 6), transportChecksum(reply));
  }
});

Deno.test("parseLlmnrQuery takes any bytes", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
    const message = parseLlmnrQuery(bytes);
    assert(message === undefined || message.length >= 12);
  }));
});

function looksLike(packet: Uint8Array): boolean {
  const ref = new PacketRef();
  return parsePacket(packet, 0, packet.length, ref) === Parse.Ok &&
    looksLikeLlmnrQuery(packet, ref);
}
