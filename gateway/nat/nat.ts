/**
 * The NAT of one client for the names of DNS resources.
 *
 *     client ──► proxy address ──► real address, from a port that no other flow of the client uses
 *     client ◄── proxy address ◄── real address
 *
 * The client's own address stays: hiding it behind the gateway's is the operating system's task.
 * Flows keep the real address that they began with; new ones take what the name resolved to last.
 * Packets between families are not translated.
 *
 * Spec: RFC 4787 (mapping per client's port and proxy address), RFC 5382 §5, RFC 5508.
 * Owns: what stands for what, and rewriting packets. Does not own: whether access is granted.
 * Cost: allocates nothing for the packets of a flow that is there.
 * @module
 */

import { readU32 } from "@firezone/core/bytes";
import { icmpIdentifier, isIcmpEcho, type PacketRef, TCP_FLAG } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { Millis } from "@firezone/core/units";
import { AddressSlots } from "./address_slots.ts";
import { FlowKind, flowKind, FlowTable, NoFlow } from "./flow_table.ts";
import { type Assignment, ProxyTable } from "./proxy_table.ts";
import { ICMP_ERROR_HEADER, parseQuotedPacket, QuotedPacket } from "./quoted_packet.ts";
import {
  addressDelta,
  translateErrorToProxy,
  translateErrorToReal,
  translateToProxy,
  translateToReal,
} from "./translation.ts";

/** What became of a packet; unless it was translated it is as it was. */
export type Translation =
  | "translated"
  /** The name has no address of that family: "network unreachable". */
  | "no-target"
  /** Neither TCP, UDP nor an ICMP echo. */
  | "unsupported"
  /** Part of a packet; only the first part says whose it is. */
  | "fragment"
  /** No port or no room is left. */
  | "exhausted"
  /** It belongs to a flow that is over. */
  | "expired"
  /** It has to do with no flow. */
  | "unknown";

/** What a NAT is made of. */
export interface NatOptions {
  /** Seeds the tables, so that no one can choose collisions. */
  readonly random: RandomBytes;
  /** Most flows; each takes about 100 bytes. */
  readonly maxFlows?: number;
  /** Most names. */
  readonly maxNames?: number;
}

/** Half of all ports: room for any client, and a free port is never far. */
const MAX_FLOWS = 32_768;
const MAX_NAMES = 4_096;

/** See the head of this file. */
export class Nat {
  readonly #reals = new AddressSlots();
  readonly #proxies: ProxyTable;
  readonly #flows: FlowTable;
  readonly #quoted = new QuotedPacket();

  /** Without names nothing is translated. */
  constructor({ random, maxFlows = MAX_FLOWS, maxNames = MAX_NAMES }: NatOptions) {
    this.#proxies = new ProxyTable(maxNames, this.#reals);
    this.#flows = new FlowTable({ maxFlows, seed: readU32(random(4), 0), reals: this.#reals });
  }

  /** Number of names. */
  get names(): number {
    return this.#proxies.size;
  }

  /** Number of flows. */
  get flows(): number {
    return this.#flows.size;
  }

  /** Number of real addresses that names or flows refer to. */
  get addresses(): number {
    return this.#reals.size;
  }

  /**
   * Lets addresses stand for a name. Flows that are there go on as they are, unless an address
   * stood for another name: then the client has started over, and so does its NAT.
   *
   * @returns whether everything before was forgotten
   */
  assign(now: Millis, assignment: Assignment): boolean {
    const startsOver = this.#proxies.contradicts(assignment);
    if (startsOver) this.clear();
    const surplus = this.#proxies.surplus(assignment.domain);
    if (surplus !== undefined) this.#end(now, this.#proxies.forget(surplus));
    this.#proxies.assign(assignment);
    return startsOver;
  }

  /** Whether addresses stand for a name of a resource. */
  hasName(resourceId: string, domain: string): boolean {
    return this.#proxies.has(resourceId, domain);
  }

  /** Keeps only what `keep` says of names and their resources; flows of the others end. */
  retain(now: Millis, keep: (domain: string, resourceId: string) => boolean): void {
    this.#end(now, this.#proxies.retain(keep));
  }

  /** Forgets everything. */
  clear(): void {
    this.#flows.clear();
    this.#proxies.clear();
    this.#reals.clear();
  }

  /** Gives back the memory of what is over; to be called about once a second. */
  sweep(now: Millis): void {
    this.#flows.sweep(now);
  }

  // ---- towards the resource

  /** The slot of the proxy address that a packet goes to, -1 when it goes elsewhere. */
  proxyOf(buf: Uint8Array, packet: PacketRef): number {
    return this.#proxies.lookup(packet.version, buf, packet.destinationOffset);
  }

  /** The resources that a proxy address belongs to. */
  resourceIds(proxy: number): readonly string[] {
    return this.#proxies.resourceIds(proxy);
  }

  /** Turns a packet of the client, other than an ICMP error, towards the real address. */
  translateOutbound(now: Millis, buf: Uint8Array, packet: PacketRef, proxy: number): Translation {
    if (packet.isFragment) return "fragment";
    const kind = flowKind(packet.protocol);
    if (kind < 0 || kind === FlowKind.Icmp && !isEchoRequest(packet)) return "unsupported";
    const port = kind === FlowKind.Icmp ? icmpIdentifier(buf, packet) : packet.sourcePort;
    const flags = tcpFlags(buf, packet);
    const flow = this.#outboundFlow(now, kind as FlowKind, port, proxy, flags);
    if (flow === NO_TARGET) return "no-target";
    if (flow < 0) return "exhausted";
    const flows = this.#flows;
    const real = this.#reals.address(flows.real(flow));
    const outsidePort = flows.outsidePort(flow);
    translateToReal(buf, packet, kind as FlowKind, real, flows.addressDelta(flow), outsidePort);
    flows.noteOutbound(now, flow, flags);
    return "translated";
  }

  /** Turns an ICMP error of the client, about a reply, towards the one who sent the reply. */
  translateOutboundError(
    now: Millis,
    buf: Uint8Array,
    packet: PacketRef,
    proxy: number,
  ): Translation {
    const quoted = this.#quoted;
    if (packet.isFragment) return "fragment";
    if (!readQuote(buf, packet, quoted)) return "unsupported";
    if (this.#proxies.lookup(quoted.version, buf, quoted.sourceOffset) !== proxy) return "unknown";
    if (quoted.kind === FlowKind.Icmp && !quoted.isEchoReply) return "unsupported";
    const flow = this.#flows.findInside(now, quoted.kind, quoted.destinationPort, proxy);
    if (flow < 0) return "unknown";
    const real = this.#reals.address(this.#flows.real(flow));
    translateErrorToReal(buf, packet, quoted, real, this.#flows.outsidePort(flow));
    return "translated";
  }

  // ---- towards the client

  /**
   * The flow that a packet for the client belongs to, other than an ICMP error.
   *
   * @returns a flow, or one of {@link NoFlow}: `Unknown` where this NAT has nothing to do with it
   */
  inboundFlow(now: Millis, buf: Uint8Array, packet: PacketRef): number {
    const kind = flowKind(packet.protocol);
    if (kind < 0 || packet.isFragment) return NoFlow.Unknown;
    if (kind === FlowKind.Icmp && !isEchoReply(packet)) return NoFlow.Unknown;
    const real = this.#reals.lookup(packet.version, buf, packet.sourceOffset);
    if (real < 0) return NoFlow.Unknown;
    const port = kind === FlowKind.Icmp ? icmpIdentifier(buf, packet) : packet.destinationPort;
    return this.#flows.findOutside(now, kind as FlowKind, port, real);
  }

  /** The resources that the proxy address of a flow belongs to. */
  flowResourceIds(flow: number): readonly string[] {
    return this.#proxies.resourceIds(this.#flows.proxy(flow));
  }

  /** Turns a packet of a flow towards the client. */
  translateInbound(now: Millis, buf: Uint8Array, packet: PacketRef, flow: number): void {
    const flows = this.#flows;
    const kind = flowKind(packet.protocol) as FlowKind;
    const proxy = this.#proxies.address(flows.proxy(flow));
    const flags = tcpFlags(buf, packet);
    translateToProxy(buf, packet, kind, proxy, flows.addressDelta(flow), flows.insidePort(flow));
    flows.noteInbound(now, flow, flags);
  }

  /** Turns an ICMP error about a packet of the client, as if the proxy address had sent it. */
  translateInboundError(now: Millis, buf: Uint8Array, packet: PacketRef): Translation {
    const quoted = this.#quoted;
    if (packet.isFragment || !readQuote(buf, packet, quoted)) return "unknown";
    if (quoted.kind === FlowKind.Icmp && quoted.isEchoReply) return "unknown";
    const real = this.#reals.lookup(quoted.version, buf, quoted.destinationOffset);
    if (real < 0) return "unknown";
    const flow = this.#flows.findOutside(now, quoted.kind, quoted.sourcePort, real);
    if (flow < 0) return flow === NoFlow.Expired ? "expired" : "unknown";
    const proxy = this.#proxies.address(this.#flows.proxy(flow));
    translateErrorToProxy(buf, packet, quoted, proxy, this.#flows.insidePort(flow));
    return "translated";
  }

  /** Ends the flows of proxy addresses that stand for nothing any more, then frees these. */
  #end(now: Millis, proxies: ReadonlySet<number>): void {
    if (proxies.size === 0) return;
    this.#flows.endWhere(now, (proxy) => proxies.has(proxy));
    this.#proxies.free(proxies);
  }

  #outboundFlow(now: Millis, kind: FlowKind, port: number, proxy: number, flags: number): number {
    const flows = this.#flows;
    const flow = flows.findInside(now, kind, port, proxy);
    const isNewConnection = (flags & (TCP_FLAG.syn | TCP_FLAG.ack)) === TCP_FLAG.syn;
    if (flow >= 0) {
      if (!isNewConnection || !flows.isClosing(flow)) return flow;
      flows.end(now, flow);
    }
    const target = this.#proxies.target(proxy);
    if (target < 0) return NO_TARGET;
    const delta = addressDelta(this.#proxies.address(proxy), this.#reals.address(target));
    return flows.create(now, kind, port, proxy, target, delta);
  }
}

/** Beside the values of {@link NoFlow}. */
const NO_TARGET = -4;

function readQuote(buf: Uint8Array, packet: PacketRef, out: QuotedPacket): boolean {
  const start = packet.transportOffset + ICMP_ERROR_HEADER;
  return parseQuotedPacket(buf, start, packet.end, out) && out.version === packet.version;
}

/** Zero for other protocols. */
function tcpFlags(buf: Uint8Array, packet: PacketRef): number {
  return flowKind(packet.protocol) === FlowKind.Tcp ? buf[packet.transportOffset + 13]! : 0;
}

function isEchoRequest(packet: PacketRef): boolean {
  return isIcmpEcho(packet) && packet.icmpType === (packet.version === 4 ? 8 : 128);
}

function isEchoReply(packet: PacketRef): boolean {
  return isIcmpEcho(packet) && packet.icmpType === (packet.version === 4 ? 0 : 129);
}
