import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { writeU16 } from "../bytes/fields.ts";
import { ip } from "./address.ts";
import { sumBytes } from "./checksum.ts";
import { makePacket } from "./packet_fixtures.ts";
import {
  applyOuterEcn,
  ecn,
  icmpIdentifier,
  isIcmpEcho,
  isIcmpError,
  isMulticast,
  packetLength,
  PacketRef,
  Parse,
  parsePacket,
  setEcn,
} from "./packet.ts";

Deno.test("parsePacket finds ports and ends of IPv4 and IPv6, padding left out", () => {
  for (const version of [4, 6] as const) {
    for (const protocol of ["tcp", "udp"] as const) {
      const packet = makePacket({
        version,
        protocol,
        sourcePort: 50_001,
        destinationPort: 53,
        payload: new Uint8Array(11),
      });
      const buf = new Uint8Array(packet.length + 25);
      buf.set(packet, 9);
      const out = new PacketRef();
      assertEquals(parsePacket(buf, 9, buf.length, out), Parse.Ok);
      assertEquals(out.version, version);
      assertEquals(out.protocol, protocol === "tcp" ? 6 : 17);
      assertEquals([out.start, out.end], [9, 9 + packet.length]);
      assertEquals(out.transportOffset, 9 + (version === 4 ? 20 : 40));
      assertEquals([out.sourcePort, out.destinationPort], [50_001, 53]);
      assertEquals([out.icmpType, out.isFragment, out.isLaterFragment], [-1, false, false]);
      assertEquals(out.addressLength, version === 4 ? 4 : 16);
      const destination = buf.slice(
        out.destinationOffset,
        out.destinationOffset + out.addressLength,
      );
      assertEquals(destination, ip(version === 4 ? "10.0.0.1" : "2001:db8::1").bytes);
      assertEquals(packetLength(buf, 9, buf.length), packet.length);
    }
  }
});

Deno.test("parsePacket walks hop-by-hop, destination and routing headers", () => {
  const extensions = [0, 60, 43];
  const packet = ipv6(extensions, 17, new Uint8Array([0x12, 0x34, 0, 53, 0, 8, 0, 0]));
  const out = parsed(packet);
  assertEquals([out.protocol, out.transportOffset], [17, 40 + 24]);
  assertEquals([out.sourcePort, out.destinationPort], [0x1234, 53]);
  assertEquals(out.isFragment, false);
});

Deno.test("parsePacket flags fragments; only the first has ports", () => {
  const udp = new Uint8Array([0x12, 0x34, 0, 53, 0, 8, 0, 0]);
  const first6 = parsed(ipv6([44], 17, udp, 0x0001));
  assertEquals([first6.isFragment, first6.isLaterFragment, first6.sourcePort], [
    true,
    false,
    0x1234,
  ]);
  const later6 = parsed(ipv6([44], 17, udp, 0x0008));
  assertEquals([later6.isFragment, later6.isLaterFragment, later6.sourcePort], [true, true, 0]);
  // RFC 6946: a fragment header without fragments.
  const atomic6 = parsed(ipv6([44], 17, udp, 0x0000));
  assertEquals([atomic6.isFragment, atomic6.sourcePort], [false, 0x1234]);
  // What stands behind a later fragment's header is data, whatever its "next header" says.
  assertEquals(parsed(ipv6([44, 0], 17, udp, 0x0008)).transportOffset, 48);

  const packet = makePacket({ payload: new Uint8Array(8) });
  writeU16(packet, 6, 0x2000);
  assertEquals([parsed(packet).isFragment, parsed(packet).sourcePort], [true, 40_000]);
  writeU16(packet, 6, 0x0001);
  const later = parsed(packet);
  assertEquals([later.isLaterFragment, later.sourcePort, later.icmpType], [true, 0, -1]);
});

Deno.test("parsePacket reads ICMP, told apart by version", () => {
  const echo = icmp(4, 1, [8, 0, 0, 0, 0xab, 0xcd, 0, 1]);
  assertEquals([echo.ref.icmpType, echo.ref.icmpCode, echo.ref.sourcePort], [8, 0, 0]);
  assertEquals([isIcmpEcho(echo.ref), isIcmpError(echo.ref)], [true, false]);
  assertEquals(icmpIdentifier(echo.packet, echo.ref), 0xabcd);
  assertEquals(isIcmpError(icmp(4, 1, [3, 13, 0, 0, 0, 0, 0, 0]).ref), true);
  assertEquals(isIcmpError(icmp(6, 58, [1, 1, 0, 0, 0, 0, 0, 0]).ref), true);
  assertEquals(isIcmpEcho(icmp(6, 58, [128, 0, 0, 0, 0, 1, 0, 1]).ref), true);
  assertEquals(isIcmpError(icmp(6, 58, [128, 0, 0, 0, 0, 1, 0, 1]).ref), false);
  // ICMP over IPv6 and ICMPv6 over IPv4 are nothing we know.
  assertEquals(icmp(6, 1, [3, 13, 0, 0, 0, 0, 0, 0]).ref.icmpType, -1);
  assertEquals(icmp(4, 58, [1, 1, 0, 0, 0, 0, 0, 0]).ref.icmpType, -1);
});

Deno.test("parsePacket says why it refuses, and leaves out alone", () => {
  const good = makePacket({ payload: new Uint8Array(4) });
  const changed = (change: (packet: Uint8Array) => void) => {
    const packet = good.slice();
    change(packet);
    return packet;
  };
  const cases: [Parse, Uint8Array][] = [
    [Parse.TooShort, good.subarray(0, 19)],
    [Parse.NotIp, changed((p) => p[0] = 0x55)],
    [Parse.BadHeaderLength, changed((p) => p[0] = 0x44)],
    [Parse.BadTotalLength, changed((p) => writeU16(p, 2, 19))],
    [Parse.BadTotalLength, changed((p) => writeU16(p, 2, p.length + 1))],
    [Parse.TransportTooShort, changed((p) => writeU16(p, 2, 39))],
    [Parse.TransportTooShort, changed((p) => p[32] = 0x40)],
    [Parse.TooShort, ipv6([], 17, new Uint8Array(8)).subarray(0, 39)],
    [Parse.BadTotalLength, ipv6([], 17, new Uint8Array(8)).subarray(0, 47)],
    [Parse.TransportTooShort, ipv6([], 17, new Uint8Array(7))],
    [Parse.BadExtensionHeader, ipv6([], 0, new Uint8Array([17, 1, 0, 0, 0, 0, 0, 0]))],
  ];
  for (const [code, packet] of cases) {
    const out = new PacketRef();
    assertEquals(parsePacket(packet, 0, packet.length, out), code);
    assertEquals(out, new PacketRef());
  }
});

Deno.test("parsePacket takes the tunnel's control packets for what they are", () => {
  const packet = ipv6([], 0xff, new Uint8Array(8));
  packet.fill(0, 8, 40);
  assertEquals([parsed(packet).protocol, parsed(packet).transportOffset], [0xff, 40]);
});

Deno.test("any bytes parse or are refused, and what parses lies within them", () => {
  const any = fc.tuple(fc.constantFrom(undefined, 0x45, 0x60), fc.uint8Array({ maxLength: 128 }));
  fc.assert(
    fc.property(any, ([first, bytes]) => {
      if (first !== undefined && bytes.length > 6) {
        bytes[0] = first;
        writeU16(bytes, first === 0x45 ? 2 : 4, bytes.length - (first === 0x45 ? 0 : 40));
      }
      const out = new PacketRef();
      if (parsePacket(bytes, 0, bytes.length, out) !== Parse.Ok) return;
      assertEquals(out.end, packetLength(bytes, 0, bytes.length));
      assertEquals(out.transportOffset <= out.end && out.end <= bytes.length, true);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("isMulticast knows groups and the limited broadcast", () => {
  const to = (destination: string) => {
    const version = destination.includes(":") ? 6 : 4;
    const packet = makePacket({ version, destination, payload: new Uint8Array(1) });
    return isMulticast(packet, parsed(packet));
  };
  for (const address of ["224.0.0.22", "239.255.255.255", "255.255.255.255", "ff02::2"]) {
    assertEquals(to(address), true, address);
  }
  for (const address of ["223.255.255.255", "240.0.0.1", "fe80::1"]) {
    assertEquals(to(address), false, address);
  }
});

Deno.test("setEcn changes the two bits and keeps the header checksum right", () => {
  for (const version of [4, 6] as const) {
    const packet = makePacket({ version, trafficClass: 0xb9, payload: new Uint8Array(1) });
    assertEquals(ecn(packet, 0), 1);
    setEcn(packet, 0, 3);
    assertEquals(packet, makePacket({ version, trafficClass: 0xbb, payload: new Uint8Array(1) }));
    assertEquals(ecn(packet, 0), 3);
    if (version === 4) assertEquals(sumBytes(packet, 0, 20) % 0xffff, 0);
  }
});

function parsed(packet: Uint8Array): PacketRef {
  const out = new PacketRef();
  assertEquals(parsePacket(packet, 0, packet.length, out), Parse.Ok);
  return out;
}

/** Eight bytes of each extension header, then the payload. */
function ipv6(extensions: number[], protocol: number, payload: Uint8Array, fragment = 0) {
  const packet = new Uint8Array(40 + 8 * extensions.length + payload.length);
  const chain = [...extensions, protocol];
  packet[0] = 0x60;
  writeU16(packet, 4, packet.length - 40);
  packet[6] = chain[0]!;
  packet[7] = 64;
  packet.set(ip("2001:db8::1").bytes, 8);
  packet.set(ip("2001:db8::2").bytes, 24);
  for (const [i, extension] of extensions.entries()) {
    packet[40 + 8 * i] = chain[i + 1]!;
    if (extension === 44) writeU16(packet, 40 + 8 * i + 2, fragment);
  }
  packet.set(payload, 40 + 8 * extensions.length);
  return packet;
}

function icmp(version: 4 | 6, protocol: number, message: number[]) {
  let packet: Uint8Array = ipv6([], protocol, new Uint8Array(message));
  if (version === 4) {
    packet = makePacket({ protocol: "udp", payload: new Uint8Array(0) });
    packet[9] = protocol;
    packet.set(message, 20);
  }
  return { packet, ref: parsed(packet) };
}

Deno.test("applyOuterEcn follows RFC 6040 §4.2, but drops nothing", () => {
  // By inner field, what the packet carries for each outer field from 0 to 3.
  const expected = [[0, 0, 0, 0], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];
  for (const version of [4, 6] as const) {
    for (const [inner, row] of expected.entries()) {
      for (const [outer, result] of row.entries()) {
        const packet = makePacket({
          version,
          trafficClass: 0xb8 | inner,
          payload: new Uint8Array(8),
        });
        applyOuterEcn(packet, 0, outer);
        const wanted = makePacket({
          version,
          trafficClass: 0xb8 | result,
          payload: new Uint8Array(8),
        });
        assertEquals(packet, wanted, `IPv${version}, inner ${inner}, outer ${outer}`);
      }
    }
  }
});
