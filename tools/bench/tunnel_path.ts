/**
 * What the packet path costs without system calls, in nanoseconds and bytes of garbage per packet:
 *
 *     super-packet ─► Segmenter ─► ClientState ─► SendBatch ─┐  "send"
 *                                                            │ (a copy, not measured)
 *     super-packet ◄─ Coalescer ◄─ GatewayState ◄────────────┘  "receive"
 *
 * The two machines are the real ones, joined in simulation. Times are the best of many rounds, since
 * whatever else the machine does can only add to them.
 *
 * Run it alone: `deno run -A tools/bench/tunnel_path.ts`.
 * @module
 */

import { type AeadName, loadAead, selectAead } from "@firezone/core/crypto";
import { Coalescer, ip, packetMemory, Segmenter, type SocketAddress } from "@firezone/core/ip";
import { type DatagramSink, SendBatch, SinkResult } from "@firezone/core/runtime";
import type { InboundPackets } from "@firezone/core/transmit";
import { ADDRESSES, TunnelWorld, udpPacket } from "@firezone/tests/simulation";

/** What one side of the path costs, per packet. */
export interface PathCost {
  /** Best time in nanoseconds. */
  readonly nanoseconds: number;
  /** Median growth of the heap in bytes. */
  readonly heapBytes: number;
}

/** What both sides cost. */
export interface PathCosts {
  /** From TUN to the socket. */
  readonly send: PathCost;
  /** From the socket to TUN. */
  readonly receive: PathCost;
}

const SERVER = ip("10.0.0.7");
/** As many as one GSO send can take. */
const SEGMENTS = 49;
/** An MTU of 1280 less the headers of IPv4 and of TCP with a timestamp. */
const PAYLOAD = 1228;
const BURSTS_PER_ROUND = 40;
const PACKETS_PER_ROUND = SEGMENTS * BURSTS_PER_ROUND;
const WARM_UP_ROUNDS = 30;

/** Measures both sides. */
export function measurePath(rounds = 150, aead: AeadName = selectAead().name): PathCosts {
  const path = new TunnelPath(aead);
  for (let i = 0; i < WARM_UP_ROUNDS; i++) path.round();
  const send: Sample[] = [];
  const receive: Sample[] = [];
  for (let i = 0; i < rounds; i++) {
    path.round();
    send.push(path.sent);
    receive.push(path.received);
  }
  return { send: best(send), receive: best(receive) };
}

interface Sample {
  readonly ms: number;
  readonly heapBytes: number;
}

function best(samples: readonly Sample[]): PathCost {
  const growth = samples.map(({ heapBytes }) => heapBytes).sort((a, b) => a - b);
  return {
    nanoseconds: Math.min(...samples.map(({ ms }) => ms)) * 1e6 / PACKETS_PER_ROUND,
    heapBytes: growth[growth.length >> 1]! / PACKETS_PER_ROUND,
  };
}

/** A connected client and gateway with buffers like those of `DataPlane`. */
class TunnelPath implements DatagramSink, InboundPackets {
  accepted = 0;
  sent: Sample = { ms: 0, heapBytes: 0 };
  received: Sample = { ms: 0, heapBytes: 0 };
  readonly #world: TunnelWorld;
  readonly #segmenter = new Segmenter();
  readonly #batch = new SendBatch(this);
  readonly #coalescer = new Coalescer({ allocate: packetMemory });
  readonly #read: Uint8Array;
  readonly #packet = packetMemory(65_536);
  readonly #network = new Uint8Array(BURSTS_PER_ROUND * 2 * 65_536);
  // One entry per send: where it lies in #network, its length and its segment size.
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  readonly #sizes: number[] = [];
  #networkEnd = 0;
  #cameOut = 0;
  #from: SocketAddress | undefined;
  #to: SocketAddress | undefined;

  constructor(aeadName: AeadName) {
    const aead = loadAead(aeadName);
    if (aead === undefined) throw new Error(`There is no ${aeadName}`);
    this.#world = new TunnelWorld({
      aead,
      client: () => ({ addresses: ["192.0.2.1"] }),
      gateway: () => ({ addresses: ["192.0.2.2"] }),
    });
    this.#world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, SERVER, 1));
    if (!this.#world.runUntilGatewayGot(1)) throw new Error("the simulated tunnel does not stand");
    this.#world.network.runFor(2_000);
    this.#read = superPacket();
  }

  /** Carries some bursts from one end to the other, one side after the other. */
  round(): void {
    this.#networkEnd = this.#cameOut = 0;
    this.#starts.length = this.#lengths.length = this.#sizes.length = 0;
    this.sent = measured(() => this.#send());
    this.received = measured(() => this.#receive());
    if (this.#cameOut !== BURSTS_PER_ROUND * superPacketLength()) {
      throw new Error(`${this.#cameOut} bytes came out`);
    }
  }

  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
  ): SinkResult {
    this.#network.set(buf.subarray(start, start + length), this.#networkEnd);
    this.#from = source;
    this.#to = destination;
    this.#starts.push(this.#networkEnd);
    this.#lengths.push(length);
    this.#sizes.push(segmentSize || length);
    this.#networkEnd += length;
    return SinkResult.Sent;
  }

  push(buf: Uint8Array, start: number, end: number): void {
    if (this.#coalescer.push(buf, start, end)) return;
    this.#coalescer.flush(this);
    this.#coalescer.push(buf, start, end);
  }

  write(_buf: Uint8Array, _start: number, length: number): void {
    this.#cameOut += length;
  }

  #send(): void {
    const { client: { machine }, network } = this.#world;
    for (let i = 0; i < BURSTS_PER_ROUND; i++) {
      this.#segmenter.begin(this.#read, 0, this.#read.length);
      for (let n; (n = this.#segmenter.next(this.#packet, 0)) > 0;) {
        machine.handleTunPacket(network.now, this.#packet, 0, n, this.#batch);
      }
      this.#batch.flush();
    }
  }

  #receive(): void {
    const { gateway: { machine }, network } = this.#world;
    const buf = this.#network;
    for (let i = 0; i < this.#starts.length; i++) {
      const end = this.#starts[i]! + this.#lengths[i]!;
      const step = this.#sizes[i]!;
      for (let at = this.#starts[i]!; at < end; at += step) {
        const until = Math.min(at + step, end);
        machine.handleDatagram(network.now, this.#to!, this.#from!, buf, at, until, this);
      }
      this.#coalescer.flush(this);
    }
  }
}

function measured(work: () => void): Sample {
  const heap = Deno.memoryUsage().heapUsed;
  const start = performance.now();
  work();
  const ms = performance.now() - start;
  return { ms, heapBytes: Deno.memoryUsage().heapUsed - heap };
}

/** What comes out of TUN at the far end for each super-packet: it is one again. */
function superPacketLength(): number {
  return 10 + 52 + SEGMENTS * PAYLOAD;
}

/** A read from TUN: `struct virtio_net_hdr`, IPv4, TCP with a timestamp, many segments' payload. */
function superPacket(): Uint8Array {
  const read = packetMemory(superPacketLength());
  const view = new DataView(read.buffer, read.byteOffset, read.length);
  read.set([1, 1]); // checksum to be completed, TCP over IPv4
  view.setUint16(4, PAYLOAD, true);
  view.setUint16(6, 20, true);
  view.setUint16(8, 16, true);
  read.set([0x45, 0], 10);
  view.setUint16(12, read.length - 10);
  read.set([0x40, 0, 64, 6], 16); // not to be fragmented
  read.set(ADDRESSES.client.ipv4.bytes, 22);
  read.set(SERVER.bytes, 26);
  view.setUint16(30, 40_000);
  view.setUint16(32, 443);
  view.setUint32(34, 1);
  read.set([0x80, 0x10, 0x13, 0x88], 42); // 32 bytes of header, ACK, window
  read.set([1, 1, 8, 10], 50);
  for (let i = 62; i < read.length; i++) read[i] = i * 31;
  return read;
}

if (import.meta.main) {
  const { send, receive } = measurePath();
  for (const [side, cost] of [["send", send], ["receive", receive]] as const) {
    console.log(
      `${side.padEnd(8)} ${cost.nanoseconds.toFixed(0).padStart(6)} ns ` +
        `${cost.heapBytes.toFixed(1).padStart(6)} bytes per packet`,
    );
  }
}
