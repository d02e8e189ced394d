import { assertEquals } from "@std/assert";
import { TCP_FLAG } from "./packet.ts";
import { makePacket, type PacketFields } from "./packet_fixtures.ts";
import { WaitingPackets } from "./waiting_packets.ts";

const LIMIT = 4;

Deno.test("WaitingPackets gives packets back in order, as copies, once", () => {
  const waiting = new WaitingPackets(LIMIT);
  const buf = new Uint8Array([0, 1, 2, 3]);
  waiting.add(buf, 1, 3);
  waiting.add(buf, 3, 4);
  buf.fill(9);
  assertEquals(waiting.take(), [new Uint8Array([1, 2]), new Uint8Array([3])]);
  assertEquals(waiting.take(), []);
});

Deno.test("WaitingPackets keeps the newest when there are too many", () => {
  const waiting = new WaitingPackets(LIMIT);
  for (let n = 0; n < LIMIT + 2; n++) waiting.add(new Uint8Array([n]), 0, 1);
  assertEquals(waiting.take().map(([n]) => n), [2, 3, 4, 5]);
});

Deno.test("WaitingPackets keeps no exact copy", () => {
  const kept = keep(udp({ id: 1 }), udp({ id: 1 }), udp({ id: 2 }));
  assertEquals(kept, [udp({ id: 1 }), udp({ id: 2 })]);
});

Deno.test("WaitingPackets lets a repeated SYN take the place of the first, in either version", () => {
  for (const version of [4, 6] as const) {
    const [first, between, again] = [
      syn({ version, options: timestamp(1) }),
      udp({ version }),
      syn({ version, options: timestamp(2) }),
    ];
    assertEquals(keep(first, between, again), [again, between]);
  }
});

Deno.test("WaitingPackets keeps SYNs of other flows, and answers to SYNs", () => {
  const flows: PacketFields[] = [
    syn.fields({}),
    syn.fields({ sourcePort: 1 }),
    syn.fields({ destinationPort: 1 }),
    syn.fields({ destination: "10.0.0.99" }),
  ];
  assertEquals(keep(...flows.map(makePacket)).length, flows.length);
  const synAck = TCP_FLAG.syn | TCP_FLAG.ack;
  assertEquals(keep(syn({ flags: synAck, id: 1 }), syn({ flags: synAck, id: 2 })).length, 2);
});

function keep(...packets: Uint8Array[]): Uint8Array[] {
  const waiting = new WaitingPackets(LIMIT);
  for (const packet of packets) waiting.add(packet, 0, packet.length);
  return waiting.take();
}

function udp(fields: Partial<PacketFields>): Uint8Array {
  return makePacket({ protocol: "udp", payload: new Uint8Array(3), ...withAddresses(fields) });
}

function syn(fields: Partial<PacketFields>): Uint8Array {
  return makePacket(syn.fields(fields));
}

syn.fields = (fields: Partial<PacketFields>): PacketFields => ({
  flags: TCP_FLAG.syn,
  payload: new Uint8Array(0),
  ...withAddresses(fields),
});

function withAddresses(fields: Partial<PacketFields>): Partial<PacketFields> {
  if (fields.version !== 6) return fields;
  return { source: "2001:db8::1", destination: "2001:db8::2", ...fields };
}

/** RFC 7323 §3, padded to twelve bytes. */
function timestamp(value: number): Uint8Array {
  return new Uint8Array([1, 1, 8, 10, 0, 0, 0, value, 0, 0, 0, 0]);
}
