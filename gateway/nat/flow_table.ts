/**
 * The dynamic part of a client's NAT: which of its flows goes out as what.
 *
 *     inside                                       outside
 *     (kind, client's port, proxy address)  ◄───►  (kind, chosen port, real address)
 *
 * A flow is a place in flat arrays. `kind` is TCP, UDP or ICMP echo, whose identifier is its port.
 * The chosen port is the client's own if it is free, else the next one that is; where many in a row are
 * taken, the next free one behind the last that was found so, or a search would look at all of them.
 *
 *     (none) ──packet──► unconfirmed ──reply──► confirmed ──both FINs──► closing
 *                            │ 60 s                │ 2 h 4 min, 120 s       │ 5 s
 *                            └─────────────────────┴──────────┬─────────────┘   RST: at once
 *                                                             ▼
 *                                             buried: late replies are known as such
 *
 * An unconfirmed flow is not prolonged by more packets, so that one whose address does not answer
 * soon tries the addresses that the name has then.
 * Cost: nothing is allocated but when the arrays grow.
 * @module
 */

import { PROTOCOL, TCP_FLAG } from "@firezone/core/ip";
import { after, type Millis } from "@firezone/core/units";
import type { AddressSlots } from "./address_slots.ts";
import { PairTable } from "./pair_table.ts";

/** What a port is one of; each kind has ports of its own. */
export const FlowKind = { Tcp: 0, Udp: 1, Icmp: 2 } as const;

/** One of the values of {@link FlowKind}. */
export type FlowKind = typeof FlowKind[keyof typeof FlowKind];

/** What a lookup says when there is no flow; flows are numbers from zero. */
export const NoFlow = {
  /** Nothing is known of it. */
  Unknown: -1,
  /** There was one until a while ago. */
  Expired: -2,
  /** It cannot be made: ports or places are all taken. */
  Exhausted: -3,
} as const;

/** RFC 5382 §5, REQ-5: no less than this for established connections. */
export const TCP_TTL_MS = 7_440_000;
/** RFC 4787 §4.3, REQ-5: no less than this. */
export const UDP_TTL_MS = 120_000;
/** How long echo replies are waited for after the last packet. */
export const ICMP_TTL_MS = 120_000;
/** How long a first reply is waited for. */
export const UNCONFIRMED_TTL_MS = 60_000;
/** How long a TCP flow lives after both ends have finished. */
export const CLOSED_TTL_MS = 5_000;
/** How long late replies are told from packets that belong to no flow. */
export const BURIED_TTL_MS = 120_000;

const State = { Free: 0, Unconfirmed: 1, Confirmed: 2, Closing: 3, Buried: 4 } as const;
const FIN_OUT = 1;
const FIN_IN = 2;

const KINDS = 3;
/** Ports that are looked at behind the client's own before others are. */
const NEAR_PORTS = 64;

const SMALLEST = 32;
const SWEEP_PARTS = 64;
const FULL_SWEEP_INTERVAL_MS = 1_000;

/** What a flow table is made of. */
export interface FlowTableOptions {
  /** Most flows, buried ones included. */
  readonly maxFlows: number;
  /** 32 random bits. */
  readonly seed: number;
  /** Holds the real addresses; a flow refers to its own. */
  readonly reals: AddressSlots;
}

/** See the head of this file. */
export class FlowTable {
  readonly #maxFlows: number;
  readonly #reals: AddressSlots;
  readonly #byInside: PairTable;
  readonly #byOutside: PairTable;
  #capacity = 0;
  #used = 0; // places ever taken
  #free: number[] = [];
  #states = new Uint8Array(0);
  #fins = new Uint8Array(0);
  #proxies = new Int32Array(0);
  #insides = new Int32Array(0); // kind and port
  #realSlots = new Int32Array(0);
  #outsides = new Int32Array(0);
  #addressDeltas = new Uint16Array(0);
  #expiries = new Float64Array(0);
  /** Where a port was found last for an address and kind, when none was near. */
  readonly #farPorts = new Map<number, number>();
  #cursor = 0;
  #nextFullSweep = 0;

  /** No flows. */
  constructor({ maxFlows, seed, reals }: FlowTableOptions) {
    this.#maxFlows = maxFlows;
    this.#reals = reals;
    this.#byInside = new PairTable(seed);
    this.#byOutside = new PairTable(~seed);
  }

  /** Number of flows, without buried ones. */
  get size(): number {
    return this.#byInside.size;
  }

  /** Number of flows that are over but remembered. */
  get buried(): number {
    return this.#byOutside.size - this.#byInside.size;
  }

  /** The flow that a packet of the client belongs to; `Unknown` also for one that is over. */
  findInside(now: Millis, kind: FlowKind, port: number, proxy: number): number {
    const flow = this.#byInside.get(proxy, kind << 16 | port);
    if (flow < 0) return NoFlow.Unknown;
    if (this.#expiries[flow]! > now) return flow;
    this.#bury(now, flow);
    return NoFlow.Unknown;
  }

  /** The flow that a packet from a real address belongs to, by the port that it is sent to. */
  findOutside(now: Millis, kind: FlowKind, port: number, real: number): number {
    const flow = this.#byOutside.get(real, kind << 16 | port);
    if (flow < 0) return NoFlow.Unknown;
    const isOver = this.#expiries[flow]! <= now;
    if (this.#states[flow] === State.Buried) {
      if (!isOver) return NoFlow.Expired;
      this.#release(flow);
      return NoFlow.Unknown;
    }
    if (!isOver) return flow;
    this.#bury(now, flow);
    return NoFlow.Expired;
  }

  /**
   * Makes a flow, or answers `Exhausted`.
   *
   * @param addressDelta change of a checksum when the proxy address becomes the real one
   */
  create(
    now: Millis,
    kind: FlowKind,
    port: number,
    proxy: number,
    real: number,
    addressDelta: number,
  ): number {
    if (!this.#hasRoom(now)) return NoFlow.Exhausted;
    const chosen = this.#choosePort(now, kind, port, real);
    if (chosen < 0) return NoFlow.Exhausted;
    const flow = this.#takePlace();
    this.#states[flow] = State.Unconfirmed;
    this.#fins[flow] = 0;
    this.#proxies[flow] = proxy;
    this.#insides[flow] = kind << 16 | port;
    this.#realSlots[flow] = real;
    this.#outsides[flow] = kind << 16 | chosen;
    this.#addressDeltas[flow] = addressDelta;
    this.#expiries[flow] = after(now, UNCONFIRMED_TTL_MS);
    this.#reals.retain(real);
    this.#byInside.set(proxy, this.#insides[flow]!, flow);
    this.#byOutside.set(real, this.#outsides[flow]!, flow);
    return flow;
  }

  /** Notes a packet of the client. @param tcpFlags zero for other protocols */
  noteOutbound(now: Millis, flow: number, tcpFlags: number): void {
    if (this.#states[flow] === State.Confirmed) this.#expiries[flow] = after(now, this.#ttl(flow));
    if ((tcpFlags & (TCP_FLAG.rst | TCP_FLAG.fin)) !== 0) {
      this.#noteEnd(now, flow, tcpFlags, FIN_OUT);
    }
  }

  /** Notes a reply. @param tcpFlags zero for other protocols */
  noteInbound(now: Millis, flow: number, tcpFlags: number): void {
    const state = this.#states[flow];
    if (state === State.Unconfirmed) this.#states[flow] = State.Confirmed;
    if (state !== State.Closing) this.#expiries[flow] = after(now, this.#ttl(flow));
    if ((tcpFlags & (TCP_FLAG.rst | TCP_FLAG.fin)) !== 0) {
      this.#noteEnd(now, flow, tcpFlags, FIN_IN);
    }
  }

  /** Whether a TCP flow ended at both ends, so that another connection may take its ports. */
  isClosing(flow: number): boolean {
    return this.#states[flow] === State.Closing;
  }

  /** Ends a flow that lives; its replies are late ones from now on. */
  end(now: Millis, flow: number): void {
    this.#bury(now, flow);
  }

  /** Slot of the flow's proxy address. */
  proxy(flow: number): number {
    return this.#proxies[flow]!;
  }

  /** Slot of the flow's real address. */
  real(flow: number): number {
    return this.#realSlots[flow]!;
  }

  /** The client's port, or echo identifier. */
  insidePort(flow: number): number {
    return this.#insides[flow]! & 0xffff;
  }

  /** The port that the real address sees. */
  outsidePort(flow: number): number {
    return this.#outsides[flow]! & 0xffff;
  }

  /** See {@link create}. */
  addressDelta(flow: number): number {
    return this.#addressDeltas[flow]!;
  }

  /** Ends the flows of some proxy addresses. */
  endWhere(now: Millis, isOver: (proxy: number) => boolean): void {
    for (let flow = 0; flow < this.#used; flow++) {
      if (this.#lives(flow) && isOver(this.#proxies[flow]!)) this.#bury(now, flow);
    }
  }

  /** Looks at a part of the flows for what is over; all of them in {@link SWEEP_PARTS} calls. */
  sweep(now: Millis): void {
    const part = Math.ceil(this.#used / SWEEP_PARTS);
    for (let i = 0; i < part; i++) {
      if (this.#cursor >= this.#used) this.#cursor = 0;
      this.#sweepOne(now, this.#cursor++);
    }
  }

  /** Forgets everything. */
  clear(): void {
    for (let flow = 0; flow < this.#used; flow++) {
      if (this.#states[flow] !== State.Free) this.#reals.release(this.#realSlots[flow]!);
    }
    this.#byInside.clear();
    this.#byOutside.clear();
    this.#farPorts.clear();
    this.#free = [];
    this.#used = 0;
    this.#cursor = 0;
    this.#resize(0);
  }

  #noteEnd(now: Millis, flow: number, tcpFlags: number, fin: number): void {
    if ((tcpFlags & TCP_FLAG.rst) !== 0) return this.#bury(now, flow);
    this.#fins[flow]! |= fin;
    if (this.#fins[flow] !== (FIN_IN | FIN_OUT) || this.#states[flow] === State.Closing) return;
    this.#states[flow] = State.Closing;
    this.#expiries[flow] = after(now, CLOSED_TTL_MS);
  }

  #ttl(flow: number): number {
    switch (this.#insides[flow]! >> 16) {
      case FlowKind.Tcp:
        return TCP_TTL_MS;
      case FlowKind.Udp:
        return UDP_TTL_MS;
      default:
        return ICMP_TTL_MS;
    }
  }

  /** From the client's own port upwards, then from 1; -1 when all are taken. */
  #choosePort(now: Millis, kind: FlowKind, port: number, real: number): number {
    const near = this.#searchPort(now, kind, port, real, NEAR_PORTS);
    if (near >= 0) return near;
    const key = real * KINDS + kind;
    const far = this.#searchPort(now, kind, this.#farPorts.get(key) ?? port, real, 0xffff);
    if (far >= 0) this.#farPorts.set(key, far);
    return far;
  }

  #searchPort(now: Millis, kind: FlowKind, first: number, real: number, count: number): number {
    let candidate = first;
    for (let i = 0; i < count; i++) {
      if (this.#isFree(now, kind, candidate, real)) return candidate;
      candidate = candidate === 0xffff ? 1 : candidate + 1;
    }
    return -1;
  }

  /** Whether no flow lives there; one that is over makes way. */
  #isFree(now: Millis, kind: FlowKind, port: number, real: number): boolean {
    const flow = this.#byOutside.get(real, kind << 16 | port);
    if (flow < 0) return true;
    if (this.#lives(flow)) {
      if (this.#expiries[flow]! > now) return false;
      this.#bury(now, flow);
    }
    this.#release(flow);
    return true;
  }

  #lives(flow: number): boolean {
    const state = this.#states[flow];
    return state !== State.Free && state !== State.Buried;
  }

  #bury(now: Millis, flow: number): void {
    this.#byInside.delete(this.#proxies[flow]!, this.#insides[flow]!);
    this.#states[flow] = State.Buried;
    this.#expiries[flow] = after(now, BURIED_TTL_MS);
  }

  #release(flow: number): void {
    this.#byOutside.delete(this.#realSlots[flow]!, this.#outsides[flow]!);
    this.#reals.release(this.#realSlots[flow]!);
    this.#states[flow] = State.Free;
    this.#free.push(flow);
  }

  #sweepOne(now: Millis, flow: number): void {
    if (this.#states[flow] === State.Free || this.#expiries[flow]! > now) return;
    if (this.#states[flow] === State.Buried) this.#release(flow);
    else this.#bury(now, flow);
  }

  #hasRoom(now: Millis): boolean {
    if (this.#byOutside.size >= this.#maxFlows) this.#makeRoom(now);
    return this.#byOutside.size < this.#maxFlows;
  }

  #takePlace(): number {
    const free = this.#free.pop();
    if (free !== undefined) return free;
    if (this.#used === this.#capacity) this.#resize(Math.max(SMALLEST, 2 * this.#capacity));
    return this.#used++;
  }

  /** What is over makes way. Looking at everything takes time, so it is not done at every packet. */
  #makeRoom(now: Millis): void {
    if (now < this.#nextFullSweep) return;
    this.#nextFullSweep = after(now, FULL_SWEEP_INTERVAL_MS);
    for (let flow = 0; flow < this.#used; flow++) {
      this.#sweepOne(now, flow);
      if (this.#states[flow] === State.Buried) this.#release(flow);
    }
  }

  #resize(capacity: number): void {
    this.#capacity = capacity;
    this.#states = resized(this.#states, new Uint8Array(capacity));
    this.#fins = resized(this.#fins, new Uint8Array(capacity));
    this.#proxies = resized(this.#proxies, new Int32Array(capacity));
    this.#insides = resized(this.#insides, new Int32Array(capacity));
    this.#realSlots = resized(this.#realSlots, new Int32Array(capacity));
    this.#outsides = resized(this.#outsides, new Int32Array(capacity));
    this.#addressDeltas = resized(this.#addressDeltas, new Uint16Array(capacity));
    this.#expiries = resized(this.#expiries, new Float64Array(capacity));
  }
}

/** The kind of flow of a protocol; -1 for one that is not translated. */
export function flowKind(protocol: number): FlowKind | -1 {
  switch (protocol) {
    case PROTOCOL.tcp:
      return FlowKind.Tcp;
    case PROTOCOL.udp:
      return FlowKind.Udp;
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6:
      return FlowKind.Icmp;
    default:
      return -1;
  }
}

function resized<T extends Uint8Array | Uint16Array | Int32Array | Float64Array>(
  from: T,
  to: T,
): T {
  to.set(from.length > to.length ? from.subarray(0, to.length) : from);
  return to;
}
