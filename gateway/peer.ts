/**
 * One client of the gateway: its addresses, what it may reach, and its NAT.
 *
 *     from it  ──► to a proxy address: the name's resources decide, the NAT translates
 *              ──► elsewhere: the access table decides
 *     to it    ──► of a flow to a name: the NAT translates, after the name's resources decided
 *              ──► from elsewhere: the access table decides
 *
 * Packets are translated where they lie.
 * @module
 */

import type { Connection } from "@firezone/core/connectivity";
import { type IpAddress, isIcmpError, type PacketRef, peerErrorLimit } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { RateLimit } from "@firezone/core/rate_limit";
import type { Millis } from "@firezone/core/units";
import { AccessTable, type TunnelAddresses } from "./access_table.ts";
import type { Assignment } from "./nat/mod.ts";
import { Nat, NoFlow, type Translation } from "./nat/mod.ts";

/** What happens to a packet; all but `admitted` is a reason to drop it. */
export type Admission =
  | "admitted"
  /** No resource admits it. */
  | "prohibited"
  /** What it goes to has no address of its family, or the Internet resource does not lead there. */
  | "unreachable"
  /** The NAT knows neither its protocol nor what it is about. */
  | "untranslatable"
  /** The NAT has no port or no room left. */
  | "exhausted"
  /** It belongs to a flow that is over. */
  | "expired";

/** A client, for status pages. */
export interface PeerStatus {
  /** The portal's id. */
  readonly clientId: string;
  /** Its tunnel addresses. */
  readonly ipv4: string;
  /** See {@link ipv4}. */
  readonly ipv6: string;
  /** Ids of the resources it may reach. */
  readonly resources: readonly string[];
  /** Names of DNS resources that packets to it are translated for. */
  readonly names: number;
  /** Its flows to those names. */
  readonly flows: number;
}

const OUTCOMES: Readonly<Record<Translation, Admission>> = {
  "translated": "admitted",
  "no-target": "unreachable",
  "unsupported": "untranslatable",
  "fragment": "untranslatable",
  "unknown": "untranslatable",
  "exhausted": "exhausted",
  "expired": "expired",
};

/** See the head of this file. */
export class Peer implements TunnelAddresses {
  // What a packet looks at comes first, to lie side by side in memory.
  /** Undefined while there is none: authorisations outlive connections. */
  connection: Connection | undefined;
  /** What it may reach. */
  readonly access: AccessTable;
  /** From the first name that it uses. */
  #nat: Nat | undefined;

  /** From 100.64.0.0/11. */
  readonly ipv4: IpAddress;
  /** From fd00:2021:1111::/107. */
  readonly ipv6: IpAddress;
  /** How many ICMP errors it may have. */
  readonly errorLimit: RateLimit = peerErrorLimit();
  readonly #random: RandomBytes;

  /** A client without a connection. */
  constructor(
    /** The portal's id. */
    readonly clientId: string,
    addresses: TunnelAddresses,
    random: RandomBytes,
    access: AccessTable = new AccessTable(),
  ) {
    this.ipv4 = addresses.ipv4;
    this.ipv6 = addresses.ipv6;
    this.#random = random;
    this.access = access;
  }

  /** Whether it has these tunnel addresses. */
  hasAddresses({ ipv4, ipv6 }: TunnelAddresses): boolean {
    return this.ipv4.equals(ipv4) && this.ipv6.equals(ipv6);
  }

  /** Decides on a packet of the client and turns it towards what it is for. */
  admitOutbound(now: Millis, buf: Uint8Array, packet: PacketRef): Admission {
    const nat = this.#nat;
    const proxy = nat === undefined ? -1 : nat.proxyOf(buf, packet);
    if (proxy < 0) return this.access.checkOutbound(buf, packet);
    if (isIcmpError(packet)) {
      // The flow that it is about was admitted, and names go with their resources.
      return OUTCOMES[nat!.translateOutboundError(now, buf, packet, proxy)];
    }
    const { protocol, destinationPort } = packet;
    return this.access.admitsName(nat!.resourceIds(proxy), protocol, destinationPort)
      ? OUTCOMES[nat!.translateOutbound(now, buf, packet, proxy)]
      : "prohibited";
  }

  /** Decides on a packet for the client and turns it towards the client. */
  admitInbound(now: Millis, buf: Uint8Array, packet: PacketRef): Admission {
    const nat = this.#nat;
    if (isIcmpError(packet)) {
      // Errors come from routers on the way, whose addresses no resource contains.
      return nat?.translateInboundError(now, buf, packet) === "expired" ? "expired" : "admitted";
    }
    const flow = nat === undefined ? NoFlow.Unknown : nat.inboundFlow(now, buf, packet);
    if (flow === NoFlow.Expired) return "expired";
    if (flow < 0) return this.access.admitsInbound(buf, packet) ? "admitted" : "prohibited";
    const { protocol, sourcePort } = packet;
    if (!this.access.admitsName(nat!.flowResourceIds(flow), protocol, sourcePort)) {
      return "prohibited";
    }
    nat!.translateInbound(now, buf, packet, flow);
    return "admitted";
  }

  /** Lets addresses stand for a name. */
  assign(now: Millis, assignment: Assignment): void {
    this.#nat ??= new Nat({ random: this.#random });
    this.#nat.assign(now, assignment);
  }

  /** Whether addresses stand for a name of a resource. */
  hasName(resourceId: string, domain: string): boolean {
    return this.#nat?.hasName(resourceId, domain) ?? false;
  }

  /** Forgets the names that it may not use any more. */
  pruneNames(now: Millis): void {
    this.#nat?.retain(now, (domain, resourceId) => this.access.mayResolve(resourceId, domain));
  }

  /** Gives back the memory of flows that are over; to be called about once a second. */
  sweep(now: Millis): void {
    this.#nat?.sweep(now);
  }

  /** A snapshot. */
  status(): PeerStatus {
    return {
      clientId: this.clientId,
      ipv4: this.ipv4.text,
      ipv6: this.ipv6.text,
      resources: [...this.access.resourceIds()],
      names: this.#nat?.names ?? 0,
      flows: this.#nat?.flows ?? 0,
    };
  }
}
