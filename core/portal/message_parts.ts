/**
 * The values that the portal's messages to clients and gateways are made of, and the schemas that
 * turn JSON into them.
 *
 * Unknown keys are ignored everywhere, so that newer portals can add some. Lists of relays,
 * resources and candidates are read item by item: one that makes no sense is left out and counted,
 * the others stand. Filters are the exception: an empty list permits everything, so one bad filter
 * spoils its resource rather than widening it.
 * @module
 */

import * as v from "valibot";
import { fromBase64 } from "../bytes/text.ts";
import {
  type IpAddress,
  parseIpAddress,
  parsePrefix,
  parseSocketAddress,
  type SocketAddress,
} from "../ip/address.ts";
import type { UnixSeconds } from "../units.ts";

/** STUN realm of every relay. */
export const RELAY_REALM = "firezone";

/** ICE credentials of one side, made by the portal. */
export interface IceCredentials {
  /** The ufrag. */
  readonly username: string;
  /** The password. */
  readonly password: string;
}

/** A relay with what is needed to allocate on it; the realm is {@link RELAY_REALM}. */
export interface Relay {
  /** Stays the same while the relay's process lives, or longer. */
  readonly id: string;
  /** Where it listens, at least one of them. */
  readonly servers: { readonly v4?: SocketAddress; readonly v6?: SocketAddress };
  /** TURN user name. */
  readonly username: string;
  /** TURN password. */
  readonly password: string;
}

/** Where a resource is served. */
export interface Site {
  /** Identifies it. */
  readonly id: string;
  /** What the administrator calls it. */
  readonly name: string;
}

/** One entry of an allow-list; no entries at all permit everything. */
export type Filter =
  | {
    /** Transport protocol. */
    readonly protocol: "tcp" | "udp";
    /** First destination port. */
    readonly portStart: number;
    /** Last destination port. */
    readonly portEnd: number;
  }
  | {
    /** Echo requests and replies. */
    readonly protocol: "icmp";
  };

/** Which address families a DNS resource answers with. */
export type IpStack = "dual" | "ipv4_only" | "ipv6_only";

/** Relays that came and went. */
export interface RelaysPresence {
  /** Relays that must not be used any more. */
  readonly disconnectedIds: readonly string[];
  /** Relays to use from now on, beside those that stay. */
  readonly connected: readonly Relay[];
}

/** A message whose event we do not know; newer portals send some. */
export interface UnknownMessage {
  /** Discriminates. */
  readonly tag: "unknown";
}

/** A message of a known event that does not make sense. */
export interface MalformedMessage {
  /** Discriminates. */
  readonly tag: "malformed";
  /** Path and expectation, without any of the values: they may be secret. */
  readonly reason: string;
}

// deno-lint-ignore no-explicit-any
type Schema<T> = v.GenericSchema<any, T>;

/** Applies a schema and says in words what did not fit. */
export function check<T>(
  schema: Schema<T>,
  payload: unknown,
): { readonly ok: true; readonly value: T } | { readonly ok: false; readonly reason: string } {
  const result = v.safeParse(schema, payload, { abortEarly: true });
  if (result.success) return { ok: true, value: result.output };
  const issue = result.issues[0];
  const path = v.getDotPath(issue) ?? "payload";
  // The library's own messages quote the value, which may be a key; ours do not.
  const ours = issue.type === "raw_transform" || issue.type === "check";
  const expected = ours ? issue.message : issue.expected;
  return { ok: false, reason: `${path}: expected ${expected ?? "something else"}` };
}

/** The items that fit, and how many did not. */
export function readEach<T>(
  items: readonly unknown[],
  schema: Schema<T>,
): { readonly values: readonly T[]; readonly skipped: number } {
  const values: T[] = [];
  for (const item of items) {
    const result = v.safeParse(schema, item, { abortEarly: true });
    if (result.success) values.push(result.output);
  }
  return { values, skipped: items.length - values.length };
}

/** A schema of texts that a parser understands. */
function parsed<T>(expected: string, parse: (text: string) => T | undefined) {
  return v.pipe(
    v.string(),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const value = dataset.value.length > 2048 ? undefined : parse(dataset.value);
      if (value !== undefined) return value;
      addIssue({ message: expected });
      return NEVER;
    }),
  );
}

/** An identifier; UUIDs in practice, opaque to us. */
export const id = v.pipe(v.string(), v.minLength(1), v.maxLength(256));

/** A bare IP address. */
export const ip = parsed("an IP address", parseIpAddress);

/** A bare IPv4 address. */
export const ipv4 = parsed("an IPv4 address", (text) => ofFamily(4, text));

/** A bare IPv6 address. */
export const ipv6 = parsed("an IPv6 address", (text) => ofFamily(6, text));

/** `ip:port`. */
export const endpoint = parsed("an address with a port", parseSocketAddress);

/** A CIDR range. */
export const prefix = parsed("a range of addresses", parsePrefix);

/** A WireGuard key: padded base64 of 32 bytes. */
export const key = parsed("32 bytes in base64", (text) => {
  const bytes = fromBase64(text);
  return bytes?.length === 32 ? bytes : undefined;
});

/** Wall-clock time. */
export const unixSeconds = v.pipe(
  v.number(),
  v.finite(),
  v.transform((n) => Math.floor(n) as UnixSeconds),
);

/** A list that may be missing or null. */
export const list = v.nullish(v.array(v.unknown()), []);

/** A text that may be missing, null or empty. */
export const optionalText = v.pipe(
  v.nullish(v.string(), ""),
  v.transform((text) => text === "" ? undefined : text),
);

/** ICE credentials. RFC 8839 §5.4 allows up to 256 characters. */
export const iceCredentials: Schema<IceCredentials> = v.object({
  username: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
  password: v.pipe(v.string(), v.minLength(1), v.maxLength(256)),
});

const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535));

/** One filter. */
export const filter: Schema<Filter> = v.variant("protocol", [
  v.pipe(
    v.object({
      protocol: v.picklist(["tcp", "udp"]),
      port_range_start: v.nullish(port, 0),
      port_range_end: v.nullish(port, 65535),
    }),
    v.transform((f): Filter => ({
      protocol: f.protocol,
      portStart: f.port_range_start,
      portEnd: f.port_range_end,
    })),
  ),
  v.object({ protocol: v.literal("icmp") }),
]);

/** The filters of a resource; missing ones are none. */
export const filters: Schema<readonly Filter[]> = v.nullish(v.array(filter), []);

/** A site. */
export const site: Schema<Site> = v.object({ id, name: v.nullish(v.string(), "") });

/** The address families of a DNS resource; older portals do not say. */
export const ipStack = v.nullish(v.picklist(["dual", "ipv4_only", "ipv6_only"]), "dual");

/** A DNS pattern; RFC 1035 §2.3.4 limits names to 253 characters, wildcards included here. */
export const dnsPattern = v.pipe(v.string(), v.minLength(1), v.maxLength(255));

const turnRelay = v.object({
  id,
  type: v.literal("turn"),
  addr: endpoint,
  username: v.string(),
  password: v.string(),
});

/**
 * The relays of a list: entries of one relay follow each other, one per address family, and become
 * one relay with the credentials of the last. Entries of other types are left out.
 */
export const relays: Schema<readonly Relay[]> = v.pipe(
  list,
  v.transform((items) => {
    const merged: Relay[] = [];
    for (const entry of readEach(items, turnRelay).values) {
      const previous = merged.at(-1)?.id === entry.id ? merged.pop() : undefined;
      merged.push({
        id: entry.id,
        servers: {
          ...previous?.servers,
          ...(entry.addr.family === 4 ? { v4: entry.addr } : { v6: entry.addr }),
        },
        username: entry.username,
        password: entry.password,
      });
    }
    return merged;
  }),
);

/** Relays that came and went. */
export const relaysPresence: Schema<RelaysPresence> = v.pipe(
  v.object({ disconnected_ids: list, connected: relays }),
  v.transform((p) => ({
    disconnectedIds: readEach(p.disconnected_ids, id).values,
    connected: p.connected,
  })),
);

/**
 * Candidates of a message, in their SDP form; what cannot be one is left out. Whether the rest of a
 * line makes sense is for ICE to say.
 */
export const candidates: Schema<readonly string[]> = v.pipe(
  list,
  v.transform((items) => readEach(items, candidateLine).values),
);

const candidateLine = v.pipe(v.string(), v.maxLength(1024), v.regex(/^(a=)?candidate:\S+ /));

function ofFamily(family: 4 | 6, text: string): IpAddress | undefined {
  const ip = parseIpAddress(text);
  return ip?.family === family ? ip : undefined;
}
