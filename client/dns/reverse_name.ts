/**
 * The names under which addresses are looked up backwards.
 *
 *     4.3.2.1.in-addr.arpa      1.2.3.4 (RFC 1035 §3.5)
 *     …f.e.0.0.d.f.ip6.arpa     one label per hexadecimal digit (RFC 3596 §2.5)
 *
 * @module
 */

import { type IpAddress, parseIpAddress } from "@firezone/core/ip";

const V4_SUFFIX = ".in-addr.arpa";
const V6_SUFFIX = ".ip6.arpa";

/** The address that a name asks about; undefined when it asks about none, or about a range.
 * @param name in lower case, without a final dot */
export function reverseLookupAddress(name: string): IpAddress | undefined {
  if (name.endsWith(V4_SUFFIX)) {
    return parseIpAddress(name.slice(0, -V4_SUFFIX.length).split(".").reverse().join("."));
  }
  if (!name.endsWith(V6_SUFFIX)) return undefined;
  const digits = name.slice(0, -V6_SUFFIX.length).split(".").reverse();
  if (digits.length !== 32 || digits.some((digit) => !/^[0-9a-f]$/.test(digit))) return undefined;
  return parseIpAddress(digits.join("").match(/.{4}/g)!.join(":"));
}
