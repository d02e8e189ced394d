/**
 * The single values of a configuration file: from text to meaning, or to what was expected.
 * @module
 */

import { sha256 } from "@noble/hashes/sha2.js";
import { hex, utf8 } from "@firezone/core/bytes";
import { type IpAddress, parseIpAddress, parsePrefix, Prefix, prefix } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import type { Filter, TokenHash } from "./config.ts";

/** A value, or why the text is none. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | {
  readonly ok: false;
  /** A whole sentence, without the place. */
  readonly message: string;
};

const good = <T>(value: T): Parsed<T> => ({ ok: true, value });
const bad = (message: string): Parsed<never> => ({ ok: false, message });

/** A value as it may appear in a message: short, quoted, of any type. */
export function describeValue(value: unknown): string {
  if (value === undefined) return "nothing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 56)}…${typeof value === "string" ? '"' : ""}` : text;
}

/** The message for a value that is not what it should be. */
export function expected(what: string, value: unknown): string {
  return `expected ${what}, got ${describeValue(value)}`;
}

/** A name of a site, account or resource. */
export function parseName(text: string): Parsed<string> {
  if (text === "*") return bad('"*" means "all" and cannot be a name');
  // deno-lint-ignore no-control-regex -- control characters are what is refused
  const isFine = text.trim() === text && text !== "" && !/[\x00-\x1f\x7f]/.test(text);
  if (!isFine) return bad(expected("a name without blanks at its ends", text));
  return text.length > 255 ? bad("expected a name of at most 255 characters") : good(text);
}

/** A token as it is, or as `sha256:` and 64 hex digits. Messages never repeat it. */
export function parseToken(text: string): Parsed<TokenHash> {
  if (text.startsWith("sha256:")) {
    const hash = text.slice(7).toLowerCase();
    if (/^[0-9a-f]{64}$/.test(hash)) return good(hash);
    return bad('expected 64 hex digits after "sha256:"');
  }
  if (!/^[\x21-\x7e]*$/.test(text)) {
    return bad("expected a token of printable ASCII characters without blanks");
  }
  if (text.length < 16) {
    return bad(`expected a token of at least 16 characters, got ${text.length}`);
  }
  return text.length > 4096
    ? bad("expected a token of at most 4096 characters")
    : good(tokenHash(text));
}

/** What is kept of a token: lowercase hex of its SHA-256. */
export function tokenHash(token: string): TokenHash {
  return hex(sha256(utf8(token)));
}

/** A moment in RFC 3339, such as `2027-01-31T00:00:00Z`. */
export function parseMoment(text: string): Parsed<UnixSeconds> {
  const shape = /^(\d{4}-\d\d-(\d\d))T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/i.exec(text);
  const time = Date.parse(text);
  // Date.parse turns 31 February into a day of March.
  const day = shape && new Date(`${shape[1]}T00:00:00Z`).getUTCDate();
  if (!shape || Number.isNaN(time) || day !== Number(shape[2])) {
    return bad(expected('a moment such as "2027-01-31T00:00:00Z"', text));
  }
  return good(Math.floor(time / 1000) as UnixSeconds);
}

const FILTER_SHAPE = 'a filter such as "tcp/443", "udp/5000-5010", "tcp" or "icmp"';

/** `tcp/80`, `udp/53-60`, `tcp`, `udp`, `icmp`. */
export function parseFilter(text: string): Parsed<Filter> {
  const match = /^(tcp|udp|icmp)(?:\/(\d+)(?:-(\d+))?)?$/.exec(text);
  if (!match) return bad(expected(FILTER_SHAPE, text));
  const protocol = match[1] as Filter["protocol"];
  if (match[2] === undefined) return good({ protocol });
  if (protocol === "icmp") return bad(`expected "icmp" alone, because ICMP has no ports`);
  const portStart = Number(match[2]);
  const portEnd = Number(match[3] ?? match[2]);
  for (const port of [portStart, portEnd]) {
    if (port < 1 || port > 65535) return bad(`expected ports from 1 to 65535, got ${port}`);
  }
  if (portStart > portEnd) {
    return bad(`expected the lower port first: "${protocol}/${portEnd}-${portStart}"`);
  }
  return good({ protocol, portStart, portEnd });
}

/** Ranges that no resource may touch, and why. */
const RESERVED: readonly (readonly [Prefix, string])[] = [
  [prefix("100.64.0.0/10"), "the tunnel's own addresses"],
  [prefix("fd00:2021:1111::/48"), "the tunnel's own addresses"],
  [prefix("127.0.0.0/8"), "loopback"],
  [prefix("::1/128"), "loopback"],
  [prefix("224.0.0.0/4"), "multicast"],
  [prefix("ff00::/8"), "multicast"],
];

/** The range of a `cidr` resource: no host bits, not reserved; in canonical text. */
export function parseCidr(text: string): Parsed<string> {
  const parsed = text.includes("/") ? parsePrefix(text) : undefined;
  if (!parsed) {
    const hint = parseIpAddress(text) ? ' (for one address use "type": "ip")' : "";
    return bad(expected('a range such as "10.0.0.0/24" or "fd12:3456::/64"', text) + hint);
  }
  const given = parseIpAddress(text.slice(0, text.indexOf("/")))!;
  if (!given.equals(parsed.ip)) {
    return bad(`the range has host bits set: expected "${parsed.text}", got "${text}"`);
  }
  if (parsed.length === 0) {
    return bad(`expected a smaller range than "${text}": for everything use "type": "internet"`);
  }
  return checkReserved(parsed);
}

/** The address of an `ip` resource, as a range of one in canonical text. */
export function parseSingleAddress(text: string): Parsed<string> {
  const address = parseIpAddress(text);
  if (!address) {
    const hint = parsePrefix(text) ? ' (for a range use "type": "cidr")' : "";
    return bad(expected('an address such as "10.0.0.7" or "fd12:3456::7"', text) + hint);
  }
  if (address.bytes.every((byte) => byte === 0)) {
    return bad(expected("an address of a host", text));
  }
  return checkReserved(new Prefix(address, address.bytes.length * 8));
}

function checkReserved(range: Prefix): Parsed<string> {
  for (const [reserved, reason] of RESERVED) {
    if (reserved.contains(range.ip) || range.contains(reserved.ip)) {
      return bad(`"${range}" overlaps ${reserved}, which is reserved: ${reason}`);
    }
  }
  return good(range.text);
}

/** The pattern of a `dns` resource: labels, in which `?`, `*` and `**` stand for something. */
export function parseDnsPattern(text: string): Parsed<string> {
  const what = 'a name such as "git.example.com" or "*.example.com"';
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return bad(`${expected(what, text)}: drop the scheme`);
  if (parseIpAddress(text)) return bad(`${expected(what, text)}: use "type": "ip"`);
  if (parsePrefix(text)) return bad(`${expected(what, text)}: use "type": "cidr"`);
  if (text.length > 253 || !/^[\p{L}\p{N}_*?-]+(\.[\p{L}\p{N}_*?-]+)*$/u.test(text)) {
    return bad(expected(what, text));
  }
  const labels = text.split(".");
  if (labels.some((label) => label.length > 63)) {
    return bad(`expected labels of at most 63 characters in "${text}"`);
  }
  if (/[*?]/.test(labels.at(-1)!)) {
    return bad(`expected the last label without wildcards, got "${text}"`);
  }
  return good(text);
}

/** An IP address in canonical text. */
export function parseDnsServer(text: string): Parsed<{ doh: boolean; text: string }> {
  const what = 'an IP address or a URL such as "https://dns.example/dns-query"';
  const address: IpAddress | undefined = parseIpAddress(text);
  if (address) return good({ doh: false, text: address.text });
  if (!text.startsWith("https://") || !URL.canParse(text)) return bad(expected(what, text));
  return good({ doh: true, text });
}

/** A domain without wildcards. */
export function parseDomain(text: string): Parsed<string> {
  const isFine = text.length <= 253 &&
    /^[\p{L}\p{N}_]([\p{L}\p{N}_-]{0,62})(\.[\p{L}\p{N}_][\p{L}\p{N}_-]{0,62})*$/u.test(text);
  return isFine ? good(text) : bad(expected('a domain such as "corp.example.com"', text));
}

/** Addresses that a client may connect from; a bare address is a range of one. */
export function parseRange(text: string): Parsed<Prefix> {
  const range = parsePrefix(text);
  if (!range) return bad(expected('an address or a range such as "198.51.100.0/24"', text));
  const given = parseIpAddress(text.split("/")[0]!)!;
  return given.equals(range.ip)
    ? good(range)
    : bad(`the range has host bits set: expected "${range}", got "${text}"`);
}
