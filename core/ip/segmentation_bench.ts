import { Coalescer } from "./coalescing.ts";
import { makePacket } from "./packet_fixtures.ts";
import { Segmenter } from "./segmentation.ts";

const PACKETS = 46; // about what one 64 KiB read holds at an MTU of 1280

for (const version of [4, 6] as const) {
  for (const protocol of ["tcp", "udp"] as const) {
    const group = `${protocol} over IPv${version}, ${PACKETS} packets of 1280 bytes`;
    const packets = stream(version, protocol);
    const read = coalesced(packets);

    const segmenter = new Segmenter();
    const dst = new Uint8Array(2048);
    Deno.bench(`segment ${group}`, () => {
      segmenter.begin(read, 0, read.length);
      while (segmenter.next(dst, 0) > 0);
    });

    const joined = new Uint8Array(PACKETS * 1280);
    for (const [i, packet] of packets.entries()) joined.set(packet, 1280 * i);
    const coalescer = new Coalescer();
    const sink = { write: () => {} };
    Deno.bench(`coalesce ${group}`, () => {
      for (let i = 0; i < PACKETS; i++) coalescer.push(joined, 1280 * i, 1280 * (i + 1));
      coalescer.flush(sink);
    });
  }
}

function stream(version: 4 | 6, protocol: "tcp" | "udp"): Uint8Array[] {
  const headers = (version === 4 ? 20 : 40) + (protocol === "tcp" ? 32 : 8);
  const payload = new Uint8Array(1280 - headers).map((_, i) => i * 31);
  return Array.from({ length: PACKETS }, (_, i) =>
    makePacket({
      version,
      protocol,
      id: i,
      sequence: 1 + i * payload.length,
      options: new Uint8Array(12).fill(1),
      payload,
    }));
}

function coalesced(packets: Uint8Array[]): Uint8Array {
  const coalescer = new Coalescer();
  let read = new Uint8Array(0);
  for (const packet of packets) coalescer.push(packet, 0, packet.length);
  coalescer.flush({ write: (buf, start, length) => read = buf.slice(start, start + length) });
  return read;
}
