import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { readU16, writeU16 } from "../bytes/fields.ts";
import { makePacket, type PacketFields, transportChecksum } from "./packet_fixtures.ts";
import { packetMemory } from "./packet_memory.ts";
import { Segmenter } from "./segmentation.ts";
import {
  VIRTIO_HEADER_LENGTH,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_ECN,
  VIRTIO_NET_HDR_GSO_NONE,
  VIRTIO_NET_HDR_GSO_TCPV4,
  VIRTIO_NET_HDR_GSO_TCPV6,
  VIRTIO_NET_HDR_GSO_UDP_L4,
  writeVirtioHeader,
} from "./virtio_header.ts";

const FIN = 0x01, PSH = 0x08, ACK = 0x10, CWR = 0x80;

Deno.test("a TCP super-packet becomes the packets that its sender would have made", () => {
  for (const version of [4, 6] as const) {
    const payload = new Uint8Array(3000).map((_, i) => i * 7);
    const fields = {
      version,
      sequence: 0xffff_fc00,
      id: 0xffff,
      options: new Uint8Array(12).fill(1),
    };
    const packets = segment(superPacket({ ...fields, flags: ACK | PSH | FIN, payload }, 1228));
    const make = (index: number, flags: number) =>
      makePacket({
        ...fields,
        flags,
        id: (0xffff + index) & 0xffff,
        sequence: (0xffff_fc00 + 1228 * index) % 2 ** 32,
        payload: payload.slice(1228 * index, 1228 * (index + 1)),
      });
    assertEquals(packets, [make(0, ACK), make(1, ACK), make(2, ACK | PSH | FIN)]);
  }
});

Deno.test("CWR stays with the first segment, whether or not the kernel tells of ECN", () => {
  const read = superPacket({ flags: ACK | CWR, payload: new Uint8Array(300) }, 100);
  for (const ecn of [0, VIRTIO_NET_HDR_GSO_ECN]) {
    read[1] = VIRTIO_NET_HDR_GSO_TCPV4 | ecn;
    assertEquals(segment(read).map((packet) => packet[33]), [ACK | CWR, ACK, ACK]);
  }
});

Deno.test("a UDP super-packet becomes datagrams with lengths and checksums of their own", () => {
  for (const version of [4, 6] as const) {
    const payload = new Uint8Array(2500).map((_, i) => i * 3);
    const packets = segment(superPacket({ version, protocol: "udp", id: 9, payload }, 1200));
    const make = (index: number) =>
      makePacket({
        version,
        protocol: "udp",
        id: 9 + index,
        payload: payload.slice(1200 * index, 1200 * (index + 1)),
      });
    assertEquals(packets, [make(0), make(1), make(2)]);
  }
});

Deno.test("a UDP checksum that comes to zero is sent as ones, segmented or single", () => {
  // One word of payload, chosen so that everything sums to 0xffff.
  const zero = makePacket({ protocol: "udp", payload: new Uint8Array([0, 0]) });
  const checksum = readU16(zero, 26);
  const payload = new Uint8Array([checksum >> 8, checksum]);
  const twice = segment(superPacket({ protocol: "udp", payload: pair(payload) }, 2));
  const single = segment(singlePacket({ protocol: "udp", payload }));
  for (const packet of [twice[0]!, single[0]!]) assertEquals(readU16(packet, 26), 0xffff);
});

Deno.test("a single packet passes as it is, or with the checksum that the kernel left to us", () => {
  for (const protocol of ["tcp", "udp"] as const) {
    for (const version of [4, 6] as const) {
      const fields = { version, protocol, payload: new Uint8Array(333).map((_, i) => i) };
      const complete = makePacket(fields);
      const plain = new Uint8Array(VIRTIO_HEADER_LENGTH + complete.length);
      plain.set(complete, VIRTIO_HEADER_LENGTH);
      assertEquals(segment(plain), [complete]);
      assertEquals(segment(singlePacket(fields)), [complete]);
      assertEquals(segment(singlePacket(fields), packetMemory), [complete]);
    }
  }
});

Deno.test("Segmenter tells count and size before the first segment", () => {
  const segmenter = new Segmenter();
  const read = superPacket({ payload: new Uint8Array(1001) }, 500);
  assertEquals(segmenter.begin(read, 0, read.length), 3);
  assertEquals([segmenter.count, segmenter.segmentLength], [3, 540]);
  const dst = new Uint8Array(600);
  assertEquals([0, 1, 2, 3].map(() => segmenter.next(dst, 7)), [540, 540, 41, 0]);
  const short = superPacket({ payload: new Uint8Array(10) }, 500);
  assertEquals(segmenter.begin(short, 0, short.length), 1);
  assertEquals(segmenter.segmentLength, 50);
});

Deno.test("Segmenter refuses headers that contradict their packet", () => {
  const good = superPacket({ payload: new Uint8Array(300) }, 100);
  const cases: ((read: Uint8Array) => void)[] = [
    (read) => read[0] = 0, // a super-packet with complete checksums
    (read) => read[1] = VIRTIO_NET_HDR_GSO_TCPV6,
    (read) => read[1] = 3, // UFO
    (read) => read[4] = 0, // gso_size
    (read) => read[6] = 24, // csum_start
    (read) => read[10] = 0x55,
    (read) => read[42] = 0x40, // TCP header length
    (read) => read[42] = 0xf0,
    (read) => writeU16(read, 12, 40),
  ];
  for (const [i, change] of cases.entries()) {
    const read = good.slice();
    change(read);
    if (i === 7) writeU16(read, 12, 70);
    assertEquals(new Segmenter().begin(read, 0, read.length), 0, `case ${i}`);
  }
  assertEquals(new Segmenter().begin(good, 0, 9), 0);
  assertEquals(new Segmenter().begin(good, 0, 40), 0);
});

Deno.test("any bytes are segmented or refused, within the room that was announced", () => {
  const any = fc.tuple(
    fc.uint8Array({ minLength: 10, maxLength: 10 }),
    fc.constantFrom(undefined, 4, 6),
    fc.uint8Array({ maxLength: 300 }),
    fc.boolean(),
  );
  const segmenter = new Segmenter();
  fc.assert(
    fc.property(any, ([header, version, packet, isPlausible]) => {
      if (version !== undefined && packet.length > 40) {
        packet[0] = version === 4 ? 0x45 : 0x60;
        writeU16(packet, version === 4 ? 2 : 4, packet.length - (version === 4 ? 0 : 40));
        if (isPlausible) {
          const type = [
            VIRTIO_NET_HDR_GSO_NONE,
            version === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6,
            VIRTIO_NET_HDR_GSO_UDP_L4,
          ][header[0]! % 3]!;
          writeVirtioHeader(header, 0, type, 0, header[4]!, version === 4 ? 20 : 40, 16);
        }
      }
      const read = new Uint8Array([...header, ...packet]);
      const count = segmenter.begin(read, 0, read.length);
      const dst = new Uint8Array(segmenter.segmentLength);
      let segments = 0;
      for (let n; (n = segmenter.next(dst, 0)) > 0; segments++) {
        assertEquals(n <= segmenter.segmentLength, true);
      }
      assertEquals(segments, count);
    }),
    { numRuns: 2000 },
  );
});

/** What TUN's read returns for a packet that the kernel's stack did not cut. */
function superPacket(fields: PacketFields, gsoSize: number): Uint8Array {
  const read = singlePacket(fields);
  const isIpv4 = (fields.version ?? 4) === 4;
  const header = isIpv4 ? 20 : 40;
  const isUdp = fields.protocol === "udp";
  const type = isUdp
    ? VIRTIO_NET_HDR_GSO_UDP_L4
    : isIpv4
    ? VIRTIO_NET_HDR_GSO_TCPV4
    : VIRTIO_NET_HDR_GSO_TCPV6;
  writeVirtioHeader(read, 0, type, 0, gsoSize, header, isUdp ? 6 : 16);
  return read;
}

/** A read of one packet whose transport checksum is the pseudo header's alone. */
function singlePacket(fields: PacketFields): Uint8Array {
  const packet = makePacket(fields);
  const header = (fields.version ?? 4) === 4 ? 20 : 40;
  const checksum = fields.protocol === "udp" ? 6 : 16;
  const read = new Uint8Array(VIRTIO_HEADER_LENGTH + packet.length);
  const headerOnly = packet.slice();
  headerOnly.fill(0, header); // sums to the pseudo header, complemented
  writeU16(packet, header + checksum, ~transportChecksum(headerOnly) & 0xffff);
  read.set(packet, VIRTIO_HEADER_LENGTH);
  writeVirtioHeader(read, 0, VIRTIO_NET_HDR_GSO_NONE, 0, 0, header, checksum);
  assertEquals(read[0], VIRTIO_NET_HDR_F_NEEDS_CSUM);
  return read;
}

function segment(
  bytes: Uint8Array,
  allocate = (length: number) => new Uint8Array(length),
): Uint8Array[] {
  const segmenter = new Segmenter();
  const read = allocate(bytes.length);
  read.set(bytes);
  const dst = allocate(70_000).fill(0xaa);
  const packets: Uint8Array[] = [];
  segmenter.begin(read, 0, read.length);
  for (let n; (n = segmenter.next(dst, 5)) > 0;) packets.push(dst.slice(5, 5 + n));
  return packets;
}

function pair(bytes: Uint8Array): Uint8Array {
  return new Uint8Array([...bytes, ...bytes]);
}
