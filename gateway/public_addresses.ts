/**
 * Which addresses the Internet resource leads to: those that mean the same everywhere.
 *
 * What is private to the gateway's network needs a resource of its own, and tunnel addresses belong
 * to other clients.
 *
 * Spec: RFC 6890 (special-purpose addresses), RFC 1918, RFC 6598, RFC 4193, RFC 4291.
 * @module
 */

import { type Family, prefix, PrefixTable } from "@firezone/core/ip";

const NOT_PUBLIC = new PrefixTable();
for (
  const range of [
    "0.0.0.0/8", // this network
    "10.0.0.0/8", // private
    "100.64.0.0/10", // shared; the tunnel's and its proxy addresses are in it
    "127.0.0.0/8", // loopback
    "169.254.0.0/16", // link-local
    "172.16.0.0/12", // private
    "192.168.0.0/16", // private
    "224.0.0.0/4", // multicast
    "240.0.0.0/4", // reserved, broadcast
    "::/128", // unspecified
    "::1/128", // loopback
    "::ffff:0:0/96", // IPv4-mapped
    "fc00::/7", // unique local; the tunnel's are in it
    "fe80::/10", // link-local
    "ff00::/8", // multicast
  ]
) NOT_PUBLIC.insert(prefix(range), 0);

/** Whether the address at `buf[offset]` is a public one; allocates nothing. */
export function isPublicAddress(family: Family, buf: Uint8Array, offset: number): boolean {
  return NOT_PUBLIC.lookup(family, buf, offset) < 0;
}
