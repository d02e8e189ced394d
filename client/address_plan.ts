/**
 * The address ranges that the client always routes into the tunnel.
 * @module
 */

import {
  PROXY_RANGE_V4,
  PROXY_RANGE_V6,
  SENTINEL_RANGE_V4,
  SENTINEL_RANGE_V6,
} from "@firezone/core/dns";
import { type PacketRef, type Prefix, prefix } from "@firezone/core/ip";

/** Addresses of clients and gateways. */
export const TUNNEL_RANGES: readonly Prefix[] = [
  prefix("100.64.0.0/11"),
  prefix("fd00:2021:1111::/107"),
];

/** Addresses that stand for DNS resources. */
const PROXY_RANGES: readonly Prefix[] = [PROXY_RANGE_V4, PROXY_RANGE_V6];
/** Addresses of the stub resolver; those of IPv4 lie among the former. */
const SENTINEL_RANGES: readonly Prefix[] = [SENTINEL_RANGE_V4, SENTINEL_RANGE_V6];

/** What the tunnel carries whatever the resources are. */
export const CLIENT_ROUTES: readonly Prefix[] = [
  ...TUNNEL_RANGES,
  ...PROXY_RANGES,
  SENTINEL_RANGE_V6,
];

/** Whether the address at `buf[offset]` of this packet is one of a client or gateway. */
export function isInTunnelRange(buf: Uint8Array, packet: PacketRef, offset: number): boolean {
  return isIn(TUNNEL_RANGES, buf, packet, offset);
}

/** Whether the address at `buf[offset]` of this packet may stand for a name or a resolver. */
export function isInProxyRange(buf: Uint8Array, packet: PacketRef, offset: number): boolean {
  return isIn(PROXY_RANGES, buf, packet, offset) || isIn(SENTINEL_RANGES, buf, packet, offset);
}

/** @param ranges an IPv4 and an IPv6 prefix */
function isIn(
  ranges: readonly Prefix[],
  buf: Uint8Array,
  packet: PacketRef,
  offset: number,
): boolean {
  const [ipv4, ipv6] = ranges;
  const { ip, length } = packet.version === 4 ? ipv4! : ipv6!;
  const whole = length >> 3;
  for (let i = 0; i < whole; i++) if (buf[offset + i] !== ip.bytes[i]) return false;
  return ((buf[offset + whole]! ^ ip.bytes[whole]!) >> (8 - (length & 7))) === 0;
}
