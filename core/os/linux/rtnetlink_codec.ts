/**
 * Links, addresses, routes and rules as rtnetlink messages.
 *
 *     struct ifinfomsg, 16 bytes        struct ifaddrmsg, 8 bytes       struct rtmsg, 12 bytes
 *        0  1  ifi_family                  0  1  ifa_family                0  1  rtm_family
 *        2  2  ifi_type                    1  1  ifa_prefixlen             1  1  rtm_dst_len
 *        4  4  ifi_index                   2  1  ifa_flags                 4  1  rtm_table
 *        8  4  ifi_flags                   3  1  ifa_scope                 5  1  rtm_protocol
 *       12  4  ifi_change                  4  4  ifa_index                 6  1  rtm_scope
 *                                                                          7  1  rtm_type
 *     struct fib_rule_hdr is laid out as rtmsg with the action for the type.
 *
 * Spec: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/fib_rules.h.
 * Pure: nothing here touches the system.
 * @module
 */

import { readU16le, readU32le, writeU16le, writeU32le } from "../../bytes/fields.ts";
import { type Family, IpAddress, Prefix } from "../../ip/address.ts";
import {
  attributeNumber,
  attributeText,
  type NetlinkMessage,
  type NetlinkWriter,
  parseAttributes,
} from "./netlink_message.ts";
import { AF_INET, AF_INET6 } from "./socket_address.ts";

/** Message types. */
export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
} as const;

/** The routing table that `ip route` shows. */
export const MAIN_TABLE = 254;

const IFF_UP = 0x1;
const IFF_LOOPBACK = 0x8;
const IFF_RUNNING = 0x40;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_TXQLEN = 13;
const IFLA_AF_SPEC = 26;
const IFLA_INET6_ADDR_GEN_MODE = 8;
const IN6_ADDR_GEN_MODE_NONE = 1;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
/** Skip duplicate address detection: nobody else can be on a tunnel. */
const IFA_F_NODAD = 0x02;
const IFA_F_TEMPORARY = 0x01; // for IPv6; the same bit means "secondary" for IPv4
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_DADFAILED = 0x08;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;
const RTA_MARK = 16;
const RT_TABLE_UNSPEC = 0;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const IPPROTO_TCP = 6;

const FRA_DST = 1;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_TABLE = 15;
const FRA_PROTOCOL = 21;
const FRA_IP_PROTO = 22;
const FRA_DPORT_RANGE = 24;
const FR_ACT_TO_TBL = 1;
const FIB_RULE_INVERT = 0x2;

/** A network interface. */
export interface Link {
  /** The kernel's number for it. */
  readonly index: number;
  /** Its name. */
  readonly name: string;
  /** Whether it is switched on. */
  readonly isUp: boolean;
  /** Whether it could carry packets: it is up and has a carrier. */
  readonly isRunning: boolean;
  /** Whether it is the loopback. */
  readonly isLoopback: boolean;
  /** Largest packet in bytes. */
  readonly mtu: number;
}

/** What {@link writeLinkChange} can change; what is absent stays. */
export interface LinkChange {
  /** Switch it on or off. */
  readonly up?: boolean;
  /** Largest packet in bytes. */
  readonly mtu?: number;
  /** Packets that may wait to be sent. */
  readonly transmitQueueLength?: number;
  /** True keeps the kernel from giving it an IPv6 link-local address. */
  readonly noLinkLocalAddress?: boolean;
}

/** An address of an interface. */
export interface InterfaceAddress {
  /** Interface. */
  readonly interfaceIndex: number;
  /** The address. */
  readonly ip: IpAddress;
  /** Length of the network's prefix in bits. */
  readonly prefixLength: number;
  /** Whether it reaches beyond its link. */
  readonly isGlobal: boolean;
  /** Whether it should not be the source of anything new: temporary, deprecated or not usable yet. */
  readonly isTransient: boolean;
}

/** A unicast route. */
export interface Route {
  /** Where it leads; length 0 is a default route. */
  readonly destination: Prefix;
  /** Number of its table; the main one if absent. */
  readonly table?: number;
  /** Interface to send through. */
  readonly interfaceIndex?: number;
  /** Next hop; none for what is on the link. */
  readonly gateway?: IpAddress;
  /** Address to send from. */
  readonly source?: IpAddress;
  /** Lower wins. */
  readonly metric?: number;
  /** "link" for neighbours' networks; global if absent. IPv6 has no scopes. */
  readonly scope?: "global" | "link";
}

/** A policy rule: packets with (or without) a mark, or to some addresses, look into a table. */
export interface Rule {
  /** IP version. */
  readonly family: Family;
  /** Lower is asked first. */
  readonly priority: number;
  /** Table to look into. */
  readonly table: number;
  /** Firewall mark to match. */
  readonly mark?: number;
  /** Match what does not match. */
  readonly inverted?: boolean;
  /** Match packets to these addresses alone. */
  readonly destination?: Prefix;
  /** Match packets to this TCP port alone (Linux 4.17). */
  readonly tcpPort?: number;
  /** Who made it, 0 to 255 (rtnetlink(7), `rtm_protocol`); "static" if absent. */
  readonly protocol?: number;
}

/** The kernel's number of an IP version. */
export function addressFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** Appends RTM_NEWLINK's body: changes to an interface that exists. */
export function writeLinkChange(w: NetlinkWriter, index: number, change: LinkChange): void {
  const header = new Uint8Array(16);
  writeU32le(header, 4, index);
  if (change.up !== undefined) {
    writeU32le(header, 8, change.up ? IFF_UP : 0);
    writeU32le(header, 12, IFF_UP);
  }
  w.header(header);
  if (change.mtu !== undefined) w.u32(IFLA_MTU, change.mtu);
  if (change.transmitQueueLength !== undefined) w.u32(IFLA_TXQLEN, change.transmitQueueLength);
  if (change.noLinkLocalAddress) {
    w.nest(IFLA_AF_SPEC, () => {
      w.nest(AF_INET6, () => w.u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE));
    });
  }
}

/** Appends RTM_GETLINK's body: by name, or all. */
export function writeLinkQuery(w: NetlinkWriter, name?: string): void {
  w.header(new Uint8Array(16));
  if (name !== undefined) w.text(IFLA_IFNAME, name);
}

/** Reads RTM_NEWLINK and RTM_DELLINK; undefined for bytes that make no sense. */
export function parseLink({ body }: NetlinkMessage): Link | undefined {
  if (body.length < 16) return undefined;
  const attributes = parseAttributes(body, 16);
  const flags = readU32le(body, 8);
  return {
    index: readU32le(body, 4),
    name: attributeText(attributes.get(IFLA_IFNAME)) ?? "",
    isUp: (flags & IFF_UP) !== 0,
    isRunning: (flags & IFF_UP) !== 0 && (flags & IFF_RUNNING) !== 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
    mtu: attributeNumber(attributes.get(IFLA_MTU)) ?? 0,
  };
}

/** Appends the body of RTM_NEWADDR and RTM_DELADDR. */
export function writeAddress(
  w: NetlinkWriter,
  interfaceIndex: number,
  ip: IpAddress,
  prefixLength: number,
): void {
  const header = new Uint8Array(8);
  header[0] = addressFamily(ip.family);
  header[1] = prefixLength;
  header[2] = ip.family === 6 ? IFA_F_NODAD : 0;
  writeU32le(header, 4, interfaceIndex);
  w.header(header).attribute(IFA_LOCAL, ip.bytes).attribute(IFA_ADDRESS, ip.bytes);
}

/** Appends RTM_GETADDR's body: all addresses of both families. */
export function writeAddressQuery(w: NetlinkWriter): void {
  w.header(new Uint8Array(8));
}

/** Reads RTM_NEWADDR and RTM_DELADDR; undefined for other families. */
export function parseAddress({ body }: NetlinkMessage): InterfaceAddress | undefined {
  if (body.length < 8 || (body[0] !== AF_INET && body[0] !== AF_INET6)) return undefined;
  const attributes = parseAttributes(body, 8);
  // On point-to-point links IFA_ADDRESS is the other end, IFA_LOCAL is ours.
  const ip = toIp(body[0], attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS));
  if (ip === undefined) return undefined;
  const flags = attributeNumber(attributes.get(IFA_FLAGS)) ?? body[2]!;
  const transient = ip.family === 6
    ? IFA_F_TEMPORARY | IFA_F_DEPRECATED | IFA_F_TENTATIVE | IFA_F_DADFAILED
    : IFA_F_DEPRECATED;
  return {
    interfaceIndex: readU32le(body, 4),
    ip,
    prefixLength: body[1]!,
    isGlobal: body[3] === RT_SCOPE_UNIVERSE,
    isTransient: (flags & transient) !== 0,
  };
}

/** Appends the body of RTM_NEWROUTE and RTM_DELROUTE. */
export function writeRoute(w: NetlinkWriter, route: Route): void {
  const family = route.destination.family;
  const table = route.table ?? MAIN_TABLE;
  const header = new Uint8Array(12);
  header[0] = addressFamily(family);
  header[1] = route.destination.length;
  header[4] = table < 256 ? table : RT_TABLE_UNSPEC;
  header[5] = RTPROT_STATIC;
  header[6] = route.scope === "link" && family === 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
  header[7] = RTN_UNICAST;
  w.header(header).u32(RTA_TABLE, table);
  if (route.destination.length > 0) w.attribute(RTA_DST, route.destination.ip.bytes);
  if (route.gateway !== undefined) w.attribute(RTA_GATEWAY, route.gateway.bytes);
  if (route.interfaceIndex !== undefined) w.u32(RTA_OIF, route.interfaceIndex);
  if (route.source !== undefined) w.attribute(RTA_PREFSRC, route.source.bytes);
  if (route.metric !== undefined) w.u32(RTA_PRIORITY, route.metric);
}

/** Appends RTM_GETROUTE's body: the routes of one table. */
export function writeRouteQuery(w: NetlinkWriter, family: Family, table: number): void {
  const header = new Uint8Array(12);
  header[0] = addressFamily(family);
  header[4] = table < 256 ? table : RT_TABLE_UNSPEC;
  w.header(header).u32(RTA_TABLE, table);
}

/** Appends RTM_GETROUTE's body: the route that a packet would take. */
export function writeRouteLookup(w: NetlinkWriter, destination: IpAddress, mark: number): void {
  const header = new Uint8Array(12);
  header[0] = addressFamily(destination.family);
  header[1] = destination.bytes.length * 8;
  w.header(header).attribute(RTA_DST, destination.bytes);
  if (mark !== 0) w.u32(RTA_MARK, mark);
}

/** Reads RTM_NEWROUTE and RTM_DELROUTE; undefined for what is not a unicast IP route. */
export function parseRoute(
  { body }: NetlinkMessage,
): Required<Pick<Route, "table">> & Route | undefined {
  if (body.length < 12 || (body[0] !== AF_INET && body[0] !== AF_INET6)) return undefined;
  if (body[7] !== RTN_UNICAST) return undefined;
  const family: Family = body[0] === AF_INET ? 4 : 6;
  const attributes = parseAttributes(body, 12);
  const zero = new Uint8Array(family === 4 ? 4 : 16);
  const destination = toIp(body[0], attributes.get(RTA_DST) ?? zero);
  if (destination === undefined || body[1]! > destination.bytes.length * 8) return undefined;
  const gateway = toIp(body[0], attributes.get(RTA_GATEWAY));
  const source = toIp(body[0], attributes.get(RTA_PREFSRC));
  const interfaceIndex = attributeNumber(attributes.get(RTA_OIF));
  const metric = attributeNumber(attributes.get(RTA_PRIORITY));
  return {
    destination: new Prefix(destination, body[1]!),
    table: attributeNumber(attributes.get(RTA_TABLE)) ?? body[4]!,
    scope: body[6] === RT_SCOPE_LINK || (family === 6 && !gateway) ? "link" : "global",
    ...interfaceIndex !== undefined && { interfaceIndex },
    ...gateway !== undefined && { gateway },
    ...source !== undefined && { source },
    ...metric !== undefined && { metric },
  };
}

/** Appends the body of RTM_NEWRULE and RTM_DELRULE. */
export function writeRule(w: NetlinkWriter, rule: Rule): void {
  const header = new Uint8Array(12);
  header[0] = addressFamily(rule.family);
  header[1] = rule.destination?.length ?? 0;
  header[4] = rule.table < 256 ? rule.table : RT_TABLE_UNSPEC;
  header[7] = FR_ACT_TO_TBL;
  writeU32le(header, 8, rule.inverted ? FIB_RULE_INVERT : 0);
  w.header(header).u32(FRA_TABLE, rule.table).u32(FRA_PRIORITY, rule.priority);
  if (rule.destination) w.attribute(FRA_DST, rule.destination.ip.bytes);
  if (rule.tcpPort !== undefined) {
    // struct fib_rule_port_range: u16 first, u16 last, in host order
    const range = new Uint8Array(4);
    writeU16le(range, 0, rule.tcpPort);
    writeU16le(range, 2, rule.tcpPort);
    w.u8(FRA_IP_PROTO, IPPROTO_TCP).attribute(FRA_DPORT_RANGE, range);
  }
  if (rule.mark !== undefined) w.u32(FRA_FWMARK, rule.mark);
  w.u8(FRA_PROTOCOL, rule.protocol ?? RTPROT_STATIC);
}

/** Appends RTM_GETRULE's body: all rules of a family. */
export function writeRuleQuery(w: NetlinkWriter, family: Family): void {
  const header = new Uint8Array(12);
  header[0] = addressFamily(family);
  w.header(header);
}

/** Reads RTM_NEWRULE; undefined for what does not lead to a table. */
export function parseRule({ body }: NetlinkMessage): Rule | undefined {
  if (body.length < 12 || (body[0] !== AF_INET && body[0] !== AF_INET6)) return undefined;
  if (body[7] !== FR_ACT_TO_TBL) return undefined;
  const attributes = parseAttributes(body, 12);
  const mark = attributeNumber(attributes.get(FRA_FWMARK));
  const destination = toIp(body[0], attributes.get(FRA_DST));
  if (destination && body[1]! > destination.bytes.length * 8) return undefined;
  const protocol = attributeNumber(attributes.get(FRA_PROTOCOL)) ?? RTPROT_STATIC;
  const ports = attributes.get(FRA_DPORT_RANGE);
  const tcpPort = ports && ports.length >= 2 ? readU16le(ports, 0) : undefined;
  return {
    family: body[0] === AF_INET ? 4 : 6,
    priority: attributeNumber(attributes.get(FRA_PRIORITY)) ?? 0,
    table: attributeNumber(attributes.get(FRA_TABLE)) ?? body[4]!,
    ...mark !== undefined && mark !== 0 && { mark },
    inverted: (readU32le(body, 8) & FIB_RULE_INVERT) !== 0,
    ...destination && { destination: new Prefix(destination, body[1]!) },
    ...tcpPort !== undefined && { tcpPort },
    ...protocol !== RTPROT_STATIC && { protocol },
  };
}

/** What a notification is about. */
export interface NetworkChange {
  /** "unknown": notifications were lost, so anything may have changed. */
  readonly kind: "link" | "address" | "route" | "unknown";
  /** Interface concerned; 0 when it is not known. */
  readonly interfaceIndex: number;
  /** For routes: table concerned; 0 otherwise. */
  readonly table: number;
}

/** Reads a notification; undefined for one of no interest. */
export function parseChange(message: NetlinkMessage): NetworkChange | undefined {
  const { type, body } = message;
  switch (type) {
    case RTM.NEWLINK:
    case RTM.DELLINK:
      return body.length < 16
        ? undefined
        : { kind: "link", interfaceIndex: readU32le(body, 4), table: 0 };
    case RTM.NEWADDR:
    case RTM.DELADDR:
      return body.length < 8
        ? undefined
        : { kind: "address", interfaceIndex: readU32le(body, 4), table: 0 };
    case RTM.NEWROUTE:
    case RTM.DELROUTE: {
      const route = parseRoute(message);
      return route && {
        kind: "route",
        interfaceIndex: route.interfaceIndex ?? 0,
        table: route.table,
      };
    }
    default:
      return undefined;
  }
}

function toIp(family: number, bytes: Uint8Array | undefined): IpAddress | undefined {
  return bytes?.length === (family === AF_INET ? 4 : 16) ? new IpAddress(bytes.slice()) : undefined;
}
