/**
 * Which addresses a name may resolve to.
 *
 * Private ones are the point of a DNS resource. Those of the gateway itself, of its link and of other
 * clients are not: whoever can set a record below the resource's pattern could reach them. On its link
 * a machine in a cloud finds the credentials that it was given (169.254.169.254).
 * @module
 */

import { type IpAddress, prefix } from "@firezone/core/ip";

const UNUSABLE = [
  "0.0.0.0/8", // this network
  "127.0.0.0/8", // loopback
  "169.254.0.0/16", // link-local
  "100.64.0.0/10", // the tunnel's addresses and proxy addresses
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, broadcast
  "::/127", // unspecified, loopback
  "::ffff:0:0/96", // IPv4-mapped
  "fd00:2021:1111::/48", // the tunnel's addresses and proxy addresses
  "fe80::/10", // link-local
  "ff00::/8", // multicast
].map(prefix);

/** Whether packets to an address can be forwarded to what it names. */
export function isUsableTarget(address: IpAddress): boolean {
  return !UNUSABLE.some((range) => range.contains(address));
}
