import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { readU16, writeU16 } from "../bytes/fields.ts";
import { Coalescer } from "./coalescing.ts";
import { makePacket, type PacketFields } from "./packet_fixtures.ts";
import { packetMemory } from "./packet_memory.ts";
import { Segmenter } from "./segmentation.ts";
import {
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  virtioGsoSize,
} from "./virtio_header.ts";

const SYN = 0x02,
  FIN = 0x01,
  RST = 0x04,
  PSH = 0x08,
  ACK = 0x10,
  URG = 0x20,
  ECE = 0x40,
  CWR = 0x80;

Deno.test("packets in sequence become one super-packet, in either version", () => {
  for (const version of [4, 6] as const) {
    const writes = coalesce(stream({ version }, [100, 100, 100, 30]));
    assertEquals(writes.length, 1);
    const type = version === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    assertEquals([writes[0]![1], virtioGsoSize(writes[0]!, 0)], [type, 100]);
    assertEquals(cut(writes), stream({ version }, [100, 100, 100, 30]));
  }
});

Deno.test("UDP datagrams of one size become one super-packet, 64 at most", () => {
  for (const version of [4, 6] as const) {
    const sizes = new Array(70).fill(50);
    const packets = stream({ version, protocol: "udp" }, sizes);
    const writes = coalesce(packets);
    assertEquals(writes.map((write) => write[1]), [
      VIRTIO_NET_HDR_GSO_UDP_L4,
      VIRTIO_NET_HDR_GSO_UDP_L4,
    ]);
    assertEquals(cut(writes), packets);
    assertEquals(cut(writes.slice(0, 1)).length, 64);
  }
});

Deno.test("UDP passes alone where TUN does not take its super-packets", () => {
  const packets = stream({ protocol: "udp" }, [50, 50, 50]);
  const writes = coalesce(packets, new Coalescer({ udp: false }));
  assertEquals(writes.map((write) => write[1]), [0, 0, 0]);
  assertEquals(cut(writes), packets);
});

Deno.test("a super-packet never exceeds 65535 bytes", () => {
  const packets = stream({}, new Array(100).fill(1240));
  const writes = coalesce(packets);
  assertEquals(writes.length, 2);
  assert(writes.every((write) => write.length <= 10 + 65_535));
  assert(writes[0]!.length > 10 + 65_535 - 1240);
  assertEquals(cut(writes), packets);
});

Deno.test("PSH and a shorter segment end a super-packet", () => {
  const short = stream({}, [100, 60, 100, 100]);
  assertEquals(shape(coalesce(short)), [2, 2]);
  const pushed = stream({}, [100, 100, 100, 100]);
  pushed[1] = makePacket({ sequence: 101, id: 101, flags: ACK | PSH, payload: data(101, 100) });
  assertEquals(shape(coalesce(pushed)), [2, 2]);
  assertEquals(cut(coalesce(pushed)), pushed);
});

Deno.test("a longer segment starts anew", () => {
  const packets = stream({}, [60, 100, 100]);
  assertEquals(shape(coalesce(packets)), [1, 2]);
});

Deno.test("whatever differs in the headers keeps packets apart", () => {
  const first = { sequence: 1, id: 100, payload: data(1, 100) };
  const second = { sequence: 101, id: 101, payload: data(101, 100) };
  const mergeable = (change: Partial<PacketFields>, both: Partial<PacketFields> = {}) =>
    coalesce([
      makePacket({ ...first, ...both }),
      makePacket({ ...second, ...both, ...change }),
    ]).length === 1;
  assert(mergeable({}));
  assert(mergeable({ flags: ACK | ECE }, { flags: ACK | ECE }));
  assert(mergeable({}, { version: 6, flowLabel: 5, trafficClass: 2 }));
  const differences: Partial<PacketFields>[] = [
    { sequence: 102 },
    { sequence: 1 },
    { acknowledgement: 8 },
    { window: 5001 },
    { options: new Uint8Array(4) },
    { trafficClass: 1 },
    { trafficClass: 0xb8 },
    { ttl: 63 },
    { dontFragment: false },
    { destinationPort: 444 },
    { sourcePort: 2 },
    { source: "100.64.0.2" },
    { destination: "10.0.0.2" },
    ...[SYN, FIN, RST, URG, ECE, CWR].map((flag) => ({ flags: ACK | flag })),
    { flags: 0 },
    { flags: PSH },
  ];
  for (const difference of differences) {
    assert(!mergeable(difference), JSON.stringify(difference));
  }
  const version = 6;
  for (const difference of [{ flowLabel: 6 }, { trafficClass: 3 }, { ttl: 63 }]) {
    assert(!mergeable(difference, { version, flowLabel: 5, trafficClass: 2 }));
  }
  const timestamps = (value: number) => ({ options: new Uint8Array(12).fill(value) });
  assert(mergeable(timestamps(1), timestamps(1)));
  assert(!mergeable(timestamps(2), timestamps(1)));
  assert(!mergeable({ protocol: "udp" }));
});

Deno.test("IPv4 ids must count up where they mean something", () => {
  const merges = (dontFragment: boolean, id: number) =>
    coalesce([
      makePacket({ dontFragment, id: 0xffff, sequence: 1, payload: data(1, 50) }),
      makePacket({ dontFragment, id, sequence: 51, payload: data(51, 50) }),
    ]).length === 1;
  assertEquals([merges(false, 0), merges(false, 0xffff), merges(false, 7)], [true, false, false]);
  assertEquals([merges(true, 0), merges(true, 0xffff), merges(true, 7)], [true, true, true]);
});

Deno.test("wrong checksums stay wrong: such a packet passes alone, as it came", () => {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const version of [4, 6] as const) {
      for (let broken = 0; broken < 3; broken++) {
        const packets = stream({ protocol, version }, [100, 100, 100]);
        packets[broken]![packets[broken]!.length - 1]! ^= 1;
        const writes = coalesce(packets);
        assertEquals(cut(writes), packets);
        assertEquals(
          shape(writes).length,
          broken === 1 ? 3 : 2,
          `${protocol} ${version} ${broken}`,
        );
      }
    }
  }
  const header = stream({}, [100, 100]);
  header[1]![8] = 63; // TTL without its checksum
  header[0]![8] = 63;
  assertEquals(shape(coalesce(header)), [1, 1]);
});

Deno.test("UDP without a checksum is left alone", () => {
  const packets = stream({ protocol: "udp" }, [100, 100]);
  for (const packet of packets) writeU16(packet, 26, 0);
  assertEquals(shape(coalesce(packets)), [1, 1]);
});

Deno.test("IPv4 options, fragments and extension headers pass alone and nothing overtakes them", () => {
  const fragment = makePacket({ payload: data(1, 40) });
  writeU16(fragment, 6, 0x2000);
  const options = new Uint8Array(64);
  options.set(makePacket({ payload: data(1, 24) }));
  options[0] = 0x46;
  const extension = makePacket({ version: 6, payload: data(1, 40) });
  extension[6] = 0;
  for (const barrier of [fragment, options, extension]) {
    const [first, second, third] = stream({}, [100, 100, 100]);
    const writes = coalesce([first!, second!, barrier, third!]);
    assertEquals(shape(writes), [2, 1, 1]);
    assertEquals(writes[1]!.slice(10), barrier);
  }
});

Deno.test("ICMP between segments does not part them", () => {
  const echo = makePacket({ protocol: "udp", payload: data(1, 20) });
  echo[9] = 1;
  const [first, second] = stream({}, [100, 100]);
  assertEquals(shape(coalesce([first!, echo, second!])), [2, 1]);
});

Deno.test("interleaved flows are gathered each on their own", () => {
  const flows = [stream({ sourcePort: 1 }, [80, 80, 80]), stream({ sourcePort: 2 }, [90, 90, 90])];
  const mixed = flows[0]!.flatMap((packet, i) => [packet, flows[1]![i]!]);
  assertEquals(shape(coalesce(mixed)), [3, 3]);
});

Deno.test("padding is dropped, and so is what is no packet", () => {
  const coalescer = new Coalescer();
  const packet = makePacket({ payload: data(1, 5) });
  const padded = new Uint8Array(packet.length + 11).fill(0xee);
  padded.set(packet);
  assert(coalescer.push(padded, 0, padded.length));
  assert(coalescer.push(new Uint8Array(64), 0, 64));
  assert(coalescer.push(padded, 0, packet.length - 1));
  assert(!coalescer.isEmpty);
  const writes = flush(coalescer);
  assertEquals(writes.map((write) => write.slice(10)), [packet]);
  assert(coalescer.isEmpty);
  assertEquals(flush(coalescer), []);
});

Deno.test("when full, push takes nothing; after a flush it goes on in order", () => {
  for (const count of [40, 3000]) {
    const isMany = count > 1000; // many small ones exhaust the items, few flows the slots
    const packets = Array.from(
      { length: count },
      (_, i) =>
        makePacket({ sourcePort: 1 + i, flags: isMany ? ACK | FIN : ACK, payload: data(i, 9) }),
    );
    const coalescer = new Coalescer();
    const writes = coalesce(packets, coalescer);
    assertEquals(writes.map((write) => write.slice(10)), packets);
  }
});

// A few flows, mostly well-behaved; now and then something that must not be merged.
const anyStep = fc.record({
  flow: fc.nat(3),
  length: fc.constantFrom(0, 1, 7, 100, 100, 100, 100, 99),
  odd: fc.constantFrom(
    ...["none", "none", "none", "none", "push", "fin", "gap", "window", "bad", "ecn"] as const,
  ),
});
const FLOWS = [
  { version: 4, protocol: "tcp", dontFragment: true },
  { version: 6, protocol: "tcp", options: new Uint8Array(12).fill(3) },
  { version: 4, protocol: "udp", dontFragment: false },
  { version: 6, protocol: "udp" },
] as const satisfies Partial<PacketFields>[];

Deno.test("segment(coalesce(packets)) gives every flow's packets in their order", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 80 }), (steps) => {
      const packets = traffic(steps);
      const writes = coalesce(packets);
      const result = cut(writes);
      assertEquals(result.length, packets.length);
      for (const flow of FLOWS) {
        assertEquals(result.filter((p) => isOf(flow, p)), packets.filter((p) => isOf(flow, p)));
      }
    }),
    { numRuns: 500 },
  );
});

Deno.test("packet memory changes nothing: same writes, same packets when cut again", () => {
  const inbox = packetMemory(70_000);
  const coalescer = new Coalescer({ allocate: packetMemory });
  const read = packetMemory(70_000);
  const packet = packetMemory(70_000);
  const segmenter = new Segmenter();
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 80 }), (steps) => {
      const packets = traffic(steps);
      for (const [i, one] of packets.entries()) {
        inbox.set(one, i % 7);
        assert(coalescer.push(inbox, i % 7, i % 7 + one.length));
      }
      const writes = flush(coalescer);
      assertEquals(writes, coalesce(packets));
      const result: Uint8Array[] = [];
      for (const [i, write] of writes.entries()) {
        read.set(write, i % 5);
        assert(segmenter.begin(read, i % 5, i % 5 + write.length) > 0);
        for (let n; (n = segmenter.next(packet, i % 3)) > 0;) {
          result.push(packet.slice(i % 3, i % 3 + n));
        }
      }
      assertEquals(result, cut(writes));
    }),
    { numRuns: 300 },
  );
});

Deno.test("coalesce(segment(super-packet)) is the super-packet, virtio header included", () => {
  const any = fc.record({
    flow: fc.constantFrom(...FLOWS),
    size: fc.integer({ min: 1, max: 1240 }),
    count: fc.integer({ min: 2, max: 50 }),
    last: fc.integer({ min: 1, max: 1240 }),
  });
  fc.assert(
    fc.property(any, ({ flow, size, count, last }) => {
      const sizes = [...new Array(count - 1).fill(size), Math.min(last, size)];
      const [read] = coalesce(stream(flow, sizes));
      assertEquals(coalesce(cut([read!])), [read!]);
    }),
    { numRuns: 200 },
  );
});

Deno.test("any bytes are taken without a throw, and come out once", () => {
  const any = fc.array(fc.tuple(fc.constantFrom(0x45, 0x60, 0), fc.uint8Array({ maxLength: 90 })));
  fc.assert(
    fc.property(any, (inputs) => {
      const coalescer = new Coalescer();
      let expected = 0;
      for (const [first, bytes] of inputs) {
        if (bytes.length > 10 && first !== 0) {
          bytes[0] = first;
          writeU16(bytes, first === 0x45 ? 2 : 4, bytes.length - (first === 0x45 ? 0 : 40));
          bytes[first === 0x45 ? 9 : 6] = bytes.length % 2 ? 6 : 17;
          writeU16(bytes, 6, first === 0x45 ? 0x4000 : readU16(bytes, 6));
          if (bytes.length >= (first === 0x45 ? 20 : 40)) expected++;
        } else {
          bytes.fill(0, 0, 1);
        }
        coalescer.push(bytes, 0, bytes.length);
      }
      assertEquals(cut(flush(coalescer)).length, expected);
    }),
    { numRuns: 1000 },
  );
});

/** Payload that tells where in the stream it belongs. */
function data(at: number, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (at + i) * 31 >> 3);
}

/** Consecutive packets of one flow. */
function stream(fields: Partial<PacketFields>, sizes: number[]): Uint8Array[] {
  let sequence = 1;
  return sizes.map((length, i) => {
    const packet = makePacket({
      ...fields,
      sequence,
      id: 100 + i,
      payload: data(sequence, length),
    });
    sequence += length;
    return packet;
  });
}

type Step = {
  flow: number;
  length: number;
  odd: "none" | "push" | "fin" | "gap" | "window" | "bad" | "ecn";
};

function traffic(steps: Step[]): Uint8Array[] {
  const sequences = [1, 1, 1, 1];
  const ids = [100, 100, 100, 100];
  return steps.map(({ flow, length, odd }) => {
    const sequence = sequences[flow]! + (odd === "gap" ? 5 : 0);
    sequences[flow] = sequence + length;
    const packet = makePacket({
      ...FLOWS[flow]!,
      sequence,
      id: ids[flow]!++,
      flags: ACK | (odd === "push" ? PSH : 0) | (odd === "fin" ? FIN : 0),
      window: odd === "window" ? 1 : 5000,
      trafficClass: odd === "ecn" ? 3 : 0,
      payload: data(sequence, length),
    });
    if (odd === "bad") packet[packet.length - 1]! ^= 0x10;
    return packet;
  });
}

function isOf(flow: Partial<PacketFields>, packet: Uint8Array): boolean {
  const version = packet[0]! >> 4;
  const protocol = packet[version === 4 ? 9 : 6] === 17 ? "udp" : "tcp";
  return flow.version === version && flow.protocol === protocol;
}

function flush(coalescer: Coalescer): Uint8Array[] {
  const writes: Uint8Array[] = [];
  coalescer.flush({
    write: (buf, start, length) => void writes.push(buf.slice(start, start + length)),
  });
  return writes;
}

function coalesce(packets: Uint8Array[], coalescer = new Coalescer()): Uint8Array[] {
  const writes: Uint8Array[] = [];
  for (const packet of packets) {
    if (coalescer.push(packet, 0, packet.length)) continue;
    writes.push(...flush(coalescer));
    assert(coalescer.push(packet, 0, packet.length));
  }
  return [...writes, ...flush(coalescer)];
}

/** What the kernel makes of writes: segments, or the packet itself. */
function cut(writes: Uint8Array[]): Uint8Array[] {
  const segmenter = new Segmenter();
  const dst = new Uint8Array(66_000);
  return writes.flatMap((write) => {
    if (write[1] === VIRTIO_NET_HDR_GSO_NONE) return [write.slice(10)];
    const packets: Uint8Array[] = [];
    segmenter.begin(write, 0, write.length);
    for (let n; (n = segmenter.next(dst, 0)) > 0;) packets.push(dst.slice(0, n));
    return packets;
  });
}

/** How many packets each write holds. */
function shape(writes: Uint8Array[]): number[] {
  return writes.map((write) => cut([write]).length);
}
