/**
 * What options and variables may hold: each kind of value with its parser and the words in which a
 * wrong one is refused.
 * @module
 */

import { type IpAddress, parseIpAddress, parsePrefix, parseSocketAddress } from "../ip/address.ts";
import { ip as ipConstant, type Prefix, SocketAddress } from "../ip/address.ts";
import type { HostPort } from "../telemetry/otlp/grpc_call.ts";
import { type Port, toPort } from "../units.ts";
import { ConfigError } from "./errors.ts";

/** A kind of value: how its text is read and what a text should look like. */
export interface ValueKind<T> {
  /** Completes "expected …". */
  readonly expected: string;
  /** The texts that are accepted, where they are few. */
  readonly choices?: readonly string[];
  /** Whether the option may be given several times, its texts joined by commas. */
  readonly isList?: boolean;
  /** The value, or `undefined` if the text is not of this kind; does not throw. */
  parse(text: string): T | undefined;
}

/**
 * Reads a text as a value of a kind.
 *
 * @param what names where the text came from: `--listen-port`, `LISTEN_PORT`
 * @throws {@link ConfigError} `Cannot set <what> to "<text>": expected <…>`
 */
export function parseValue<T>(what: string, text: string, kind: ValueKind<T>): T {
  const value = kind.parse(text);
  if (value !== undefined) return value;
  throw new ConfigError(
    `Cannot set ${what} to ${JSON.stringify(text)}: expected ${kind.expected}`,
  );
}

/** Any text but the empty one. */
export const text: ValueKind<string> = {
  expected: "some text",
  parse: (text) => text === "" ? undefined : text,
};

/** `true`, `1`, `yes`, `on` or their opposites, in any case. */
export const boolean: ValueKind<boolean> = {
  expected: "true or false",
  parse: (text) => {
    const word = text.toLowerCase();
    if (["true", "1", "yes", "on"].includes(word)) return true;
    return ["false", "0", "no", "off"].includes(word) ? false : undefined;
  },
};

/** One of a few words. */
export function oneOf<const Word extends string>(...words: readonly Word[]): ValueKind<Word> {
  return {
    expected: words.length === 1 ? words[0]! : `one of ${words.join(", ")}`,
    choices: words,
    parse: (text) => words.find((word) => word === text),
  };
}

/** A decimal integer from `min` to `max`. */
export function integer(min: number, max: number): ValueKind<number> {
  return {
    expected: `an integer from ${min} to ${max}`,
    parse: (text) => {
      if (!/^-?\d{1,15}$/.test(text)) return undefined;
      const n = Number(text);
      return n >= min && n <= max ? n : undefined;
    },
  };
}

/** A UDP or TCP port, never 0. */
export const port: ValueKind<Port> = {
  expected: "a port from 1 to 65535",
  parse: (text) => /^\d{1,5}$/.test(text) ? toPort(Number(text)) : undefined,
};

/** An IPv4 or IPv6 address. */
export const address: ValueKind<IpAddress> = {
  expected: "an IP address such as 192.0.2.1 or 2001:db8::1",
  parse: parseIpAddress,
};

/** An IPv4 address. */
export const address4: ValueKind<IpAddress> = {
  expected: "an IPv4 address such as 192.0.2.1",
  parse: (text) => ofFamily(4, text),
};

/** An IPv6 address. */
export const address6: ValueKind<IpAddress> = {
  expected: "an IPv6 address such as 2001:db8::1",
  parse: (text) => ofFamily(6, text),
};

/** `ip:port`, or a port alone for all IPv4 addresses; port 0 lets the kernel choose. */
export const socketAddress: ValueKind<SocketAddress> = {
  expected: "an address such as 0.0.0.0:8080, [::]:8080, or a port alone",
  parse: (text) => {
    if (!/^\d{1,5}$/.test(text)) return parseSocketAddress(text);
    return Number(text) <= 65535
      ? new SocketAddress(ipConstant("0.0.0.0"), Number(text))
      : undefined;
  },
};

/** Where something listens, or `off`. */
export const socketAddressOrOff: ValueKind<SocketAddress | "off"> = {
  expected: `${socketAddress.expected}, or off`,
  parse: (text) => text === "off" ? text : socketAddress.parse(text),
};

/** `host:port`; the host is a name, an IPv4 address, or an IPv6 address in brackets. */
export const hostPort: ValueKind<HostPort> = {
  expected: "a host and a port such as 127.0.0.1:4317, [::1]:4317 or collector.example:4317",
  parse: (text) => {
    const at = text.lastIndexOf(":");
    const host = text.slice(0, at);
    const number = port.parse(text.slice(at + 1));
    if (at < 0 || number === undefined) return undefined;
    const inBrackets = /^\[(.*)\]$/.exec(host)?.[1];
    if (inBrackets !== undefined) {
      return ofFamily(6, inBrackets) && { host: inBrackets, port: number };
    }
    return /^[A-Za-z0-9_]([A-Za-z0-9._-]{0,252})$/.test(host) ? { host, port: number } : undefined;
  },
};

/** An unsigned 64-bit number, in decimal. */
export const uint64: ValueKind<bigint> = {
  expected: "a number from 0 to 18446744073709551615",
  parse: (text) => {
    if (!/^\d{1,20}$/.test(text)) return undefined;
    const n = BigInt(text);
    return n < 2n ** 64n ? n : undefined;
  },
};

/** A CIDR range, or an address as the range of itself. */
export const prefix: ValueKind<Prefix> = {
  expected: "a range such as 10.0.0.0/8 or 2001:db8::/32",
  parse: parsePrefix,
};

/** Several values of a kind, with commas between them. */
export function listOf<T>(kind: ValueKind<T>): ValueKind<readonly T[]> {
  return {
    expected: `${kind.expected}, or several with commas between them`,
    isList: true,
    parse: (text) => {
      const values = text.split(",").map((part) => kind.parse(part.trim()));
      return values.every((value) => value !== undefined) ? values : undefined;
    },
  };
}

/** A URL with one of the given schemes. */
export function url(...schemes: readonly string[]): ValueKind<URL> {
  return {
    expected: `a URL that begins with ${schemes.map((s) => `${s}://`).join(" or ")}`,
    parse: (text) => {
      const url = URL.parse(text);
      return url !== null && url.host !== "" && schemes.includes(url.protocol.slice(0, -1))
        ? url
        : undefined;
    },
  };
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ...["ns", "nsec", "nanos"].map((u) => [u, 1e-6] as const),
  ...["us", "usec", "micros"].map((u) => [u, 1e-3] as const),
  ...["ms", "msec", "millis"].map((u) => [u, 1] as const),
  ...["s", "sec", "secs", "second", "seconds"].map((u) => [u, 1000] as const),
  ...["m", "min", "mins", "minute", "minutes"].map((u) => [u, 60_000] as const),
  ...["h", "hr", "hrs", "hour", "hours"].map((u) => [u, 3_600_000] as const),
  ...["d", "day", "days"].map((u) => [u, 86_400_000] as const),
  ...["w", "week", "weeks"].map((u) => [u, 7 * 86_400_000] as const),
]);

/** A span of time in milliseconds, written as `24h`, `5m`, `1h 30m`, `500ms`. */
export const durationMs: ValueKind<number> = {
  expected: "a duration such as 30s, 5m, 24h or 1h 30m",
  parse: (text) => {
    if (text === "0") return 0;
    if (!/^\s*(\d{1,12}\s*[a-z]+\s*)+$/.test(text)) return undefined;
    let total = 0;
    for (const [, count, unit] of text.matchAll(/(\d+)\s*([a-z]+)/g)) {
      const ms = UNIT_MS.get(unit!);
      if (ms === undefined) return undefined;
      total += Number(count) * ms;
    }
    return Number.isSafeInteger(Math.round(total)) ? total : undefined;
  },
};

function ofFamily(family: 4 | 6, text: string): IpAddress | undefined {
  const ip = parseIpAddress(text);
  return ip?.family === family ? ip : undefined;
}
