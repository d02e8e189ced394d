/**
 * What a packet costs a gateway with few clients and with many:
 * `deno run -A tools/bench/gateway_packets.ts [CLIENTS …]`.
 *
 * The real machines connect on the wire of `tunnel_clients.ts`. Then every client in turn sends a
 * burst to a resource and gets one back: sixteen packets, as the kernel hands over what a client sent
 * at once, and to see the worst a single one, for which everything about a client has to be fetched
 * from memory. Only the gateway's machine is on the clock: a datagram until its packet is there for TUN,
 * and a packet from TUN until its datagram is in the batch.
 * @module
 */

import { ip, type IpAddress, SocketAddress } from "@firezone/core/ip";
import type { DatagramBatch, InboundPackets } from "@firezone/core/transmit";
import { udpPacket } from "@firezone/tests/simulation";
import { quantile } from "./tunnel_measures.ts";
import { GATEWAY_ADDRESS, innerAddresses, PORT, SERVER, World } from "./tunnel_clients.ts";

/** Microseconds per packet, in the quickest tenth of all rounds: the rest is what else the machine did. */
export interface PacketCost {
  /** Clients that took part. */
  readonly clients: number;
  /** Packets of one client in a row. */
  readonly burst: number;
  /** From the network to TUN. */
  readonly inboundUs: number;
  /** From TUN to the network. */
  readonly outboundUs: number;
}

const CONNECT_AT_ONCE = 20;
const STEP_MS = 100;
/** What a turn of the data plane's loop may bring. */
const PACKETS_PER_TURN = 64;
const TURNS_PER_ROUND = 16;
const PACKETS_PER_ROUND = PACKETS_PER_TURN * TURNS_PER_ROUND;
const PACKET_LENGTH = 1200;
const SLOT = 2048;

/** Counts what came out of the tunnel. */
class Counter implements InboundPackets {
  packets = 0;

  push(): void {
    this.packets++;
  }
}

/** Seals into one place and counts what was sealed. */
class Sink implements DatagramBatch {
  readonly buffer = new Uint8Array(65_536);
  datagrams = 0;

  reserve(): number {
    return 0;
  }

  commit(): void {
    this.datagrams++;
  }
}

/** A gateway with connected clients, ready to be measured. */
export class PacketBench {
  readonly #world = new World();
  readonly #clients: number;
  readonly #burst: number;
  readonly #inboundMs: number[] = [];
  readonly #outboundMs: number[] = [];
  readonly #got = new Counter();
  readonly #sent = new Sink();
  /** As a socket's receive slots and the loop's buffer for a packet are: made once. */
  readonly #slots = new Uint8Array(PACKETS_PER_TURN * SLOT);
  readonly #packet = new Uint8Array(65_536);
  readonly #froms: SocketAddress[] = [];
  readonly #lengths: number[] = [];
  readonly #local = new SocketAddress(ip(GATEWAY_ADDRESS), PORT);
  #next = 0;

  /** Connects so many clients, each of which will send so many packets in a row. */
  constructor(clients: number, burst: number) {
    this.#clients = clients;
    this.#burst = burst;
    for (let i = 0; i < clients; i++) this.#world.addClient(i);
    this.#world.wire.runFor(STEP_MS);
    for (let i = 0; i < clients; i++) {
      this.#world.connect(i);
      if (i % CONNECT_AT_ONCE === 0) this.#world.wire.runFor(STEP_MS);
    }
    this.#world.wire.runFor(3_000);
  }

  /** Times {@link PACKETS_PER_ROUND} packets each way; the network's time stands still meanwhile. */
  round(): void {
    let [inboundMs, outboundMs] = [0, 0];
    for (let turn = 0; turn < TURNS_PER_ROUND; turn++) {
      const first = this.#next;
      this.#next += PACKETS_PER_TURN;
      this.#fillSlots(first);
      inboundMs += this.#timed(() => this.#receive());
      const replies = Array.from(
        { length: PACKETS_PER_TURN },
        (_, i) => longPacket(SERVER, innerAddresses(this.#clientOf(first + i)).ipv4),
      );
      outboundMs += this.#timed(() => this.#send(replies));
    }
    this.#inboundMs.push(inboundMs);
    this.#outboundMs.push(outboundMs);
    this.#world.wire.settle(this.#world.gateway);
  }

  #fillSlots(first: number): void {
    const payloads: Uint8Array[] = [];
    for (let i = 0; i < PACKETS_PER_TURN; i++) {
      const client = this.#clientOf(first + i);
      const packet = longPacket(innerAddresses(client).ipv4, SERVER);
      const { from, payload } = this.#world.sealed(client, packet);
      payloads.push(payload);
      this.#froms[i] = from;
      this.#lengths[i] = payload.length;
    }
    // At last, as the kernel copies them just before they are read.
    for (const [i, payload] of payloads.entries()) this.#slots.set(payload, i * SLOT);
  }

  #clientOf(n: number): number {
    return Math.floor(n / this.#burst) % this.#clients;
  }

  #receive(): void {
    const { machine } = this.#world.gateway;
    const { now } = this.#world.wire;
    for (let i = 0; i < PACKETS_PER_TURN; i++) {
      const start = i * SLOT;
      const end = start + this.#lengths[i]!;
      const from = this.#froms[i]!;
      machine.handleDatagram(now, this.#local, from, this.#slots, start, end, this.#got);
    }
  }

  #send(packets: readonly Uint8Array[]): void {
    const { machine } = this.#world.gateway;
    const { now } = this.#world.wire;
    for (let i = 0; i < PACKETS_PER_TURN; i++) {
      this.#packet.set(packets[i]!);
      machine.handleTunPacket(now, this.#packet, 0, PACKET_LENGTH, this.#sent);
    }
  }

  /** Includes what the loop asks the machine at the end of a turn. */
  #timed(turn: () => void): number {
    const { machine } = this.#world.gateway;
    const start = performance.now();
    turn();
    machine.pollEvent();
    machine.pollTransmit();
    machine.pollTimeout();
    return performance.now() - start;
  }

  /** What the rounds came to. @throws Error when packets did not pass */
  cost(): PacketCost {
    const expected = this.#inboundMs.length * PACKETS_PER_ROUND;
    if (this.#got.packets !== expected || this.#sent.datagrams !== expected) {
      throw new Error(`${this.#got.packets} and ${this.#sent.datagrams} of ${expected} passed`);
    }
    const us = (times: number[]) => 1000 * quantile(times, 0.1) / PACKETS_PER_ROUND;
    return {
      clients: this.#clients,
      burst: this.#burst,
      inboundUs: us(this.#inboundMs),
      outboundUs: us(this.#outboundMs),
    };
  }
}

function longPacket(from: IpAddress, to: IpAddress): Uint8Array {
  const packet = new Uint8Array(PACKET_LENGTH);
  packet.set(udpPacket(from, to, 1));
  packet.set([PACKET_LENGTH >> 8, PACKET_LENGTH & 0xff], 2);
  return packet;
}

/** Measures several crowds by turns, so that what else the machine does falls on all of them. */
export function measurePackets(
  crowds: readonly number[],
  burst: number,
  rounds: number,
): PacketCost[] {
  const benches = crowds.map((clients) => new PacketBench(clients, burst));
  for (let round = 0; round < rounds; round++) for (const bench of benches) bench.round();
  return benches.map((bench) => bench.cost());
}

if (import.meta.main) {
  const crowds = Deno.args.length > 0 ? Deno.args.map(Number) : [10, 1000];
  for (const burst of [16, 1]) {
    const costs = measurePackets(crowds, burst, 101);
    for (const { clients, inboundUs, outboundUs } of costs) {
      const first = costs[0]!;
      console.log(
        `${clients} clients, ${burst} in a row: ${inboundUs.toFixed(2)} µs per packet in ` +
          `(${(inboundUs / first.inboundUs).toFixed(2)} times the first), ` +
          `${outboundUs.toFixed(2)} µs out (${(outboundUs / first.outboundUs).toFixed(2)} times)`,
      );
    }
  }
}
