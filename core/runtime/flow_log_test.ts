import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { TCP_FLAG } from "../ip/mod.ts";
import { makePacket, type PacketFields } from "../ip/packet_fixtures.ts";
import type { Millis } from "../units.ts";
import { FLOW_IDLE_MS, FlowLog, type FlowRecord, MAX_FLOWS } from "./flow_log.ts";

const CLIENT = { source: "100.64.0.1", destination: "10.0.0.5", sourcePort: 5000 } as const;
const SERVER = {
  source: CLIENT.destination,
  destination: CLIENT.source,
  sourcePort: 443,
  destinationPort: 5000,
} as const;
const { syn, ack, fin, rst } = TCP_FLAG;
const NONE = new Uint8Array(0);

Deno.test("a TCP flow is one record, told from the view of who opened it", () => {
  const log = new FlowLog();
  tcp(log, 1, CLIENT, syn, 7);
  tcp(log, 2, SERVER, syn | ack, 9);
  tcp(log, 3, CLIENT, ack, 8);
  tcp(log, 4, CLIENT, ack, 8, 100);
  tcp(log, 5, SERVER, ack, 10, 1000);
  tcp(log, 6, SERVER, ack | fin, 1010);
  assertEquals(records(log), []);
  tcp(log, 7, CLIENT, ack | fin, 108);
  tcp(log, 8, SERVER, ack, 1011);
  const [record, ...more] = records(log);
  assertEquals([more, log.size], [[], 0]);
  const { source, destination, ...rest } = record!;
  assertEquals([source.text, destination.text], ["100.64.0.1", "10.0.0.5"]);
  assertEquals(rest as unknown, {
    protocol: "tcp",
    sourcePort: 5000,
    destinationPort: 443,
    startedAt: 1,
    lastPacketAt: 7,
    endedAt: 7,
    reason: "finished",
    txPackets: 4,
    rxPackets: 3,
    txBytes: 4 * 40 + 100,
    rxBytes: 3 * 40 + 1000,
  });
});

Deno.test("a SYN that is sent again begins nothing, one with another number does", () => {
  const log = new FlowLog();
  tcp(log, 1, CLIENT, syn, 7);
  tcp(log, 2, CLIENT, syn, 7);
  tcp(log, 3, SERVER, syn | ack, 9);
  tcp(log, 4, CLIENT, syn, 7);
  assertEquals([records(log), log.size], [[], 1]);
  tcp(log, 5, CLIENT, syn, 70_000);
  assertEquals(records(log).map(({ reason, txPackets }) => [reason, txPackets]), [
    ["new-connection", 3],
  ]);
  tcp(log, 6, SERVER, rst, 1);
  assertEquals(records(log).map(({ reason, startedAt }) => [reason, startedAt]), [["reset", 5]]);
  tcp(log, 7, SERVER, rst, 1);
  tcp(log, 8, CLIENT, ack, 9);
  assertEquals([records(log), log.size], [[], 0]);
});

Deno.test("UDP flows end when they are silent, and with the tunnel", () => {
  const log = new FlowLog();
  for (const version of [4, 6] as const) {
    const ends = version === 4
      ? CLIENT
      : { source: "fd00:2021:1111::1", destination: "fd00::5", sourcePort: 5000 };
    send(log, 10, { ...ends, version, protocol: "udp", payload: new Uint8Array(3) });
  }
  log.handleTimeout((FLOW_IDLE_MS - 1) as Millis);
  send(log, FLOW_IDLE_MS, { ...SERVER, protocol: "udp", payload: NONE });
  log.handleTimeout((FLOW_IDLE_MS + 10_000) as Millis);
  assertEquals(records(log).map((r) => [r.source.text, r.reason, r.lastPacketAt]), [
    ["fd00:2021:1111::1", "idle", 10],
  ]);
  log.shutDown(200_000 as Millis);
  assertEquals(records(log).map((r) => [r.reason, r.txPackets, r.rxPackets]), [
    ["shutdown", 1, 1],
  ]);
});

Deno.test("more flows than there is room for push the oldest out", () => {
  const log = new FlowLog();
  const packet = makePacket({ ...CLIENT, protocol: "udp", payload: NONE });
  for (let i = 0; i <= MAX_FLOWS; i++) {
    packet[17] = i >> 16;
    packet[18] = i >> 8;
    packet[19] = i;
    log.handlePacket(i as Millis, packet, 0, packet.length);
  }
  assertEquals(log.size, MAX_FLOWS);
  assertEquals(records(log).map((r) => [r.reason, r.startedAt]), [["evicted", 0]]);
});

Deno.test("FlowLog takes any bytes", () => {
  const log = new FlowLog();
  const packet = makePacket({ ...CLIENT, payload: new Uint8Array(80) });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), fc.nat(60), (bytes, at) => {
    const mixed = packet.slice();
    mixed.set(bytes, at);
    log.handlePacket(0 as Millis, mixed, 0, mixed.length);
    log.handlePacket(0 as Millis, bytes, 0, bytes.length);
  }));
  log.shutDown(0 as Millis);
  records(log);
  assertEquals(log.size, 0);
});

function tcp(
  log: FlowLog,
  now: number,
  ends: Partial<PacketFields>,
  flags: number,
  sequence: number,
  length = 0,
): void {
  send(log, now, { ...ends, flags, sequence, payload: new Uint8Array(length) });
}

function send(log: FlowLog, now: number, fields: PacketFields): void {
  const packet = makePacket(fields);
  log.handlePacket(now as Millis, packet, 0, packet.length);
}

function records(log: FlowLog): FlowRecord[] {
  const all: FlowRecord[] = [];
  for (let record; (record = log.pollRecord()) !== undefined;) all.push(record);
  return all;
}
