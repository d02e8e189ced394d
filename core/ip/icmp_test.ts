import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { writeU16 } from "../bytes/fields.ts";
import { finishChecksum, sumBytes, sumPseudoHeader } from "./checksum.ts";
import { icmpUnreachable, isIcmpProhibited, parseQuote, type UnreachableReason } from "./icmp.ts";
import { makePacket, type PacketFields } from "./packet_fixtures.ts";
import { isIcmpError, PacketRef, Parse, parsePacket } from "./packet.ts";

Deno.test("icmpUnreachable says 'prohibited' with type 3 code 13 in IPv4, quoting the packet", () => {
  const packet = makePacket({ payload: new Uint8Array(10).fill(7) });
  const error = answer("prohibited", packet)!;
  const ref = parsed(error);
  assertEquals([ref.icmpType, ref.icmpCode, isIcmpError(ref)], [3, 13, true]);
  assertEquals(error.slice(12, 16), packet.slice(16, 20));
  assertEquals(error.slice(16, 20), packet.slice(12, 16));
  assertEquals(error.slice(28), packet);
  assertEquals(finishChecksum(sumBytes(error, 0, 20)), 0);
  assertEquals(finishChecksum(sumBytes(error, 20, error.length)), 0);
});

Deno.test("icmpUnreachable says 'prohibited' with type 1 code 1 in IPv6, under the pseudo header", () => {
  const packet = makePacket({ version: 6, payload: new Uint8Array(11).fill(7) });
  const error = answer("prohibited", packet)!;
  const ref = parsed(error);
  assertEquals([ref.icmpType, ref.icmpCode, isIcmpError(ref)], [1, 1, true]);
  assertEquals(error.slice(8, 24), packet.slice(24, 40));
  assertEquals(error.slice(24, 40), packet.slice(8, 24));
  assertEquals(error.slice(48), packet);
  const pseudo = sumPseudoHeader(error, 0, 58, error.length - 40);
  assertEquals(finishChecksum(pseudo + sumBytes(error, 40, error.length)), 0);
});

Deno.test("icmpUnreachable says 'network' with code 0 in both versions", () => {
  for (const version of [4, 6] as const) {
    const error = answer(
      "network",
      makePacket({ version, payload: new Uint8Array(1) }),
    );
    assertEquals(parsed(error!).icmpCode, 0);
  }
});

Deno.test("an error is read back: what it says, and the packet that it quotes", () => {
  for (const version of [4, 6] as const) {
    for (const length of [0, 9, 1400]) {
      const packet = makePacket({ version, payload: new Uint8Array(length), destinationPort: 53 });
      const error = answer("prohibited", packet)!;
      assert(isIcmpProhibited(parsed(error)));
      assert(!isIcmpProhibited(parsed(answer("network", packet)!)));
      const [quote, original] = [new PacketRef(), parsed(packet)];
      assert(parseQuote(error, parsed(error), quote));
      const shift = error.length -
        Math.min(packet.length, error.length - (version === 4 ? 28 : 48));
      assertEquals([quote.start, quote.end], [shift, error.length]);
      assertEquals(quote.sourceOffset, original.sourceOffset + shift);
      assertEquals(quote.destinationOffset, original.destinationOffset + shift);
      assertEquals(quote.transportOffset, original.transportOffset + shift);
      assertEquals([quote.protocol, quote.sourcePort, quote.destinationPort], [6, 40_000, 53]);
    }
  }
});

Deno.test("what quotes too little, a later fragment or nonsense is refused, whatever its bytes", () => {
  const error = answer("prohibited", makePacket({ payload: new Uint8Array(0) }))!;
  const quoting = (change: (bytes: Uint8Array) => void, end = error.length) => {
    const bytes = error.slice(0, end);
    change(bytes);
    writeU16(bytes, 2, end);
    return parseQuote(bytes, parsed(bytes), new PacketRef());
  };
  assert(quoting(() => {}, 28 + 28), "eight bytes behind the header are enough");
  assert(!quoting(() => {}, 28 + 27));
  assert(!quoting(() => {}, 28));
  assert(!quoting((bytes) => bytes[28] = 0x44));
  assert(!quoting((bytes) => bytes[28] = 0x65));
  assert(!quoting((bytes) => bytes[35] = 1), "a later fragment");
  fc.assert(fc.property(fc.uint8Array({ minLength: 1, maxLength: 60 }), (quoted) => {
    const bytes = new Uint8Array(28 + quoted.length);
    bytes.set(error.subarray(0, 28));
    bytes.set(quoted, 28);
    writeU16(bytes, 2, bytes.length);
    const quote = new PacketRef();
    if (parseQuote(bytes, parsed(bytes), quote)) assert(quote.transportOffset + 8 <= bytes.length);
  }));
});

Deno.test("errors are no longer than 576 bytes in IPv4 and 1280 in IPv6", () => {
  for (const [version, limit] of [[4, 576], [6, 1280]] as const) {
    const packet = makePacket({ version, payload: new Uint8Array(1400).map((_, i) => i) });
    const error = answer("prohibited", packet)!;
    assertEquals(error.length, limit);
    const quoted = error.slice(version === 4 ? 28 : 48);
    assertEquals(quoted, packet.slice(0, quoted.length));
  }
});

Deno.test("padding behind the packet is not quoted, and the packet may lie anywhere", () => {
  const packet = makePacket({ payload: new Uint8Array(5) });
  const buf = new Uint8Array(packet.length + 30).fill(0xee);
  buf.set(packet, 13);
  const ref = new PacketRef();
  assertEquals(parsePacket(buf, 13, buf.length, ref), Parse.Ok);
  assertEquals(icmpUnreachable(buf, ref, "prohibited"), answer("prohibited", packet));
});

Deno.test("no error answers an error, a later fragment, a group, or what is not one host", () => {
  const packet = makePacket({ payload: new Uint8Array(5) });
  for (const version of [4, 6] as const) {
    const error = answer("prohibited", makePacket({ version, payload: new Uint8Array(5) }))!;
    assertEquals(answer("prohibited", error), undefined);
  }
  const fragment = packet.slice();
  writeU16(fragment, 6, 0x2001);
  assertEquals(answer("prohibited", fragment), undefined);
  const silent: Partial<PacketFields>[] = [
    { destination: "224.0.0.1" },
    { destination: "255.255.255.255" },
    { source: "0.0.0.0" },
    { source: "127.0.0.1" },
    { source: "230.1.1.1" },
    { version: 6, destination: "ff02::1" },
    { version: 6, source: "::" },
    { version: 6, source: "::1" },
    { version: 6, source: "ff02::1" },
  ];
  for (const fields of silent) {
    const silenced = makePacket({ ...fields, payload: new Uint8Array(5) });
    assertEquals(answer("prohibited", silenced), undefined, JSON.stringify(fields));
  }
  assert(answer("prohibited", packet) !== undefined);
});

function parsed(packet: Uint8Array): PacketRef {
  const ref = new PacketRef();
  assertEquals(parsePacket(packet, 0, packet.length, ref), Parse.Ok);
  return ref;
}

function answer(reason: UnreachableReason, packet: Uint8Array): Uint8Array | undefined {
  return icmpUnreachable(packet, parsed(packet), reason);
}
