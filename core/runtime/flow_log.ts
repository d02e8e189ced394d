/**
 * Which TCP and UDP flows go through a tunnel: a record of each, once it is over.
 *
 * A flow is what has the same protocol, addresses and ports. It ends with a FIN of both sides, a RST,
 * two minutes of silence, a SYN that begins another (one that is sent again does not), or with the
 * tunnel. What is sent and received is told from the view of who sent the first packet.
 *
 * Pure: takes packets and when, gives records. Owns: the flows. Does not own: where they are told.
 * Cost: nothing is allocated for packets of a flow that is known. At most {@link MAX_FLOWS} are kept:
 * beyond that the oldest is over early.
 * @module
 */

import { readU32 } from "../bytes/fields.ts";
import { IpAddress, PacketRef, Parse, parsePacket, PROTOCOL, TCP_FLAG } from "../ip/mod.ts";
import { after, type Millis } from "../units.ts";

/** A flow that is silent for so long is over. */
export const FLOW_IDLE_MS = 120_000;

/** Flows kept at a time. */
export const MAX_FLOWS = 65_536;

/** Silent flows are looked for so often. */
const SWEEP_MS = 10_000;

/** Why a flow is over. */
export type FlowEnd = "finished" | "reset" | "idle" | "new-connection" | "evicted" | "shutdown";

/** A flow that is over. Times are monotonic. */
export interface FlowRecord {
  /** Of the flow. */
  readonly protocol: "tcp" | "udp";
  /** Who sent the first packet. */
  readonly source: IpAddress;
  /** Its port. */
  readonly sourcePort: number;
  /** Whom it was for. */
  readonly destination: IpAddress;
  /** Its port. */
  readonly destinationPort: number;
  /** The first packet. */
  readonly startedAt: Millis;
  /** The last one. */
  readonly lastPacketAt: Millis;
  /** When the flow counted as over. */
  readonly endedAt: Millis;
  /** Why it does. */
  readonly reason: FlowEnd;
  /** Packets of who sent the first. */
  readonly txPackets: number;
  /** Packets of the other side. */
  readonly rxPackets: number;
  /** Bytes of those packets, IP headers included. */
  readonly txBytes: number;
  /** Bytes of the other side's. */
  readonly rxBytes: number;
}

interface Flow {
  readonly key: number;
  readonly protocol: number;
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Sequence number of the SYN; undefined if it was not seen. */
  readonly firstSequence: number | undefined;
  readonly startedAt: Millis;
  lastPacketAt: Millis;
  hasSourceEnded: boolean;
  hasDestinationEnded: boolean;
  txPackets: number;
  rxPackets: number;
  txBytes: number;
  rxBytes: number;
}

/** See the head of this file. */
export class FlowLog {
  /** By a number that both directions of a flow have in common, with others if chance wants it. */
  readonly #flows = new Map<number, Flow[]>();
  readonly #records: FlowRecord[] = [];
  readonly #packet = new PacketRef();
  #count = 0;
  #sweepAt: Millis = 0 as Millis;

  /** Nothing flows yet. */
  constructor() {}

  /** How many flows there are. */
  get size(): number {
    return this.#count;
  }

  /** Takes a packet of either direction, whatever its bytes. */
  handlePacket(now: Millis, buf: Uint8Array, start: number, end: number): void {
    const packet = this.#packet;
    if (parsePacket(buf, start, end, packet) !== Parse.Ok || packet.isLaterFragment) return;
    const { protocol } = packet;
    if (protocol !== PROTOCOL.tcp && protocol !== PROTOCOL.udp) return;
    const key = keyOf(buf, packet);
    const isTcp = protocol === PROTOCOL.tcp;
    const flags = isTcp ? buf[packet.transportOffset + 13]! : 0;
    const opens = (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
    let flow = this.#find(key, buf, packet);
    let isForward = flow !== undefined && isFrom(flow.source, flow.sourcePort, buf, packet);
    if (flow !== undefined && opens) {
      const isRepeated = isForward && flow.firstSequence === sequenceOf(buf, packet);
      if (!isRepeated) {
        this.#end(now, flow, "new-connection");
        flow = undefined;
      }
    }
    if (flow === undefined) {
      // What closes a flow comes with stragglers, which begin none.
      if (isTcp && !opens && !carriesData(buf, packet)) return;
      flow = this.#begin(now, key, buf, packet, opens);
      isForward = true;
    }
    this.#note(now, flow, isForward, packet.end - packet.start);
    if ((flags & TCP_FLAG.rst) !== 0) return this.#end(now, flow, "reset");
    if ((flags & TCP_FLAG.fin) !== 0) {
      if (isForward) flow.hasSourceEnded = true;
      else flow.hasDestinationEnded = true;
      if (flow.hasSourceEnded && flow.hasDestinationEnded) this.#end(now, flow, "finished");
    }
  }

  /** Ends flows that are silent, now and then. */
  handleTimeout(now: Millis): void {
    if (now < this.#sweepAt) return;
    this.#sweepAt = after(now, SWEEP_MS);
    for (const flows of this.#flows.values()) {
      for (const flow of [...flows]) {
        if (now - flow.lastPacketAt >= FLOW_IDLE_MS) this.#end(now, flow, "idle");
      }
    }
  }

  /** The tunnel ends, and all flows with it. */
  shutDown(now: Millis): void {
    for (const flows of [...this.#flows.values()]) {
      for (const flow of [...flows]) this.#end(now, flow, "shutdown");
    }
  }

  /** The next flow that is over. */
  pollRecord(): FlowRecord | undefined {
    return this.#records.shift();
  }

  #find(key: number, buf: Uint8Array, packet: PacketRef): Flow | undefined {
    const flows = this.#flows.get(key);
    if (flows === undefined) return undefined;
    for (let i = 0; i < flows.length; i++) {
      const flow = flows[i]!;
      if (flow.protocol !== packet.protocol) continue;
      const { source, sourcePort, destination, destinationPort } = flow;
      const isForward = isFrom(source, sourcePort, buf, packet) &&
        isTo(destination, destinationPort, buf, packet);
      const isBackward = isFrom(destination, destinationPort, buf, packet) &&
        isTo(source, sourcePort, buf, packet);
      if (isForward || isBackward) return flow;
    }
    return undefined;
  }

  #begin(now: Millis, key: number, buf: Uint8Array, packet: PacketRef, opens: boolean): Flow {
    if (this.#count >= MAX_FLOWS) {
      const [oldest] = this.#flows.values().next().value!;
      this.#end(now, oldest!, "evicted");
    }
    const { sourceOffset, destinationOffset, addressLength } = packet;
    const flow: Flow = {
      key,
      protocol: packet.protocol,
      source: buf.slice(sourceOffset, sourceOffset + addressLength),
      destination: buf.slice(destinationOffset, destinationOffset + addressLength),
      sourcePort: packet.sourcePort,
      destinationPort: packet.destinationPort,
      firstSequence: opens ? sequenceOf(buf, packet) : undefined,
      startedAt: now,
      lastPacketAt: now,
      hasSourceEnded: false,
      hasDestinationEnded: false,
      txPackets: 0,
      rxPackets: 0,
      txBytes: 0,
      rxBytes: 0,
    };
    const others = this.#flows.get(key);
    if (others === undefined) this.#flows.set(key, [flow]);
    else others.push(flow);
    this.#count++;
    return flow;
  }

  #note(now: Millis, flow: Flow, isForward: boolean, length: number): void {
    flow.lastPacketAt = now;
    if (isForward) {
      flow.txPackets++;
      flow.txBytes += length;
    } else {
      flow.rxPackets++;
      flow.rxBytes += length;
    }
  }

  #end(now: Millis, flow: Flow, reason: FlowEnd): void {
    const rest = this.#flows.get(flow.key)!.filter((other) => other !== flow);
    if (rest.length > 0) this.#flows.set(flow.key, rest);
    else this.#flows.delete(flow.key);
    this.#count--;
    const { startedAt, lastPacketAt, txPackets, rxPackets, txBytes, rxBytes } = flow;
    this.#records.push({
      protocol: flow.protocol === PROTOCOL.tcp ? "tcp" : "udp",
      source: new IpAddress(flow.source),
      sourcePort: flow.sourcePort,
      destination: new IpAddress(flow.destination),
      destinationPort: flow.destinationPort,
      startedAt,
      lastPacketAt,
      endedAt: now,
      reason,
      txPackets,
      rxPackets,
      txBytes,
      rxBytes,
    });
  }
}

function isFrom(address: Uint8Array, port: number, buf: Uint8Array, packet: PacketRef): boolean {
  return packet.sourcePort === port && isAt(address, buf, packet.sourceOffset, packet);
}

function isTo(address: Uint8Array, port: number, buf: Uint8Array, packet: PacketRef): boolean {
  return packet.destinationPort === port && isAt(address, buf, packet.destinationOffset, packet);
}

function isAt(address: Uint8Array, buf: Uint8Array, offset: number, packet: PacketRef): boolean {
  if (address.length !== packet.addressLength) return false;
  for (let i = 0; i < address.length; i++) if (address[i] !== buf[offset + i]) return false;
  return true;
}

/** The same for both directions: a sum of what both ends are. */
function keyOf(buf: Uint8Array, packet: PacketRef): number {
  const { protocol, sourceOffset, destinationOffset, addressLength } = packet;
  const source = mix(buf, sourceOffset, addressLength, packet.sourcePort);
  const destination = mix(buf, destinationOffset, addressLength, packet.destinationPort);
  return (source + destination + protocol) | 0;
}

function mix(buf: Uint8Array, offset: number, length: number, port: number): number {
  let hash = port + 0x9e3779b9 | 0;
  for (let i = 0; i < length; i += 4) {
    hash = Math.imul(hash ^ readU32(buf, offset + i), 0x85ebca6b);
    hash ^= hash >>> 13;
  }
  return hash;
}

function sequenceOf(buf: Uint8Array, packet: PacketRef): number {
  return readU32(buf, packet.transportOffset + 4);
}

function carriesData(buf: Uint8Array, { transportOffset, end }: PacketRef): boolean {
  return transportOffset + (buf[transportOffset + 12]! >> 4) * 4 < end;
}
