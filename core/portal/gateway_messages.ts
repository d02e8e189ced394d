/**
 * What the portal tells a gateway.
 *
 * Both generations of the protocol are read alike: `authorize_flow` and `create_authorization` are
 * one message. The set-up messages that came before them (`request_connection`, `allow_access`) are
 * not implemented and count as {@link UnknownMessage}s.
 * @module
 */

import * as v from "valibot";
import type { IpAddress, Prefix } from "../ip/address.ts";
import type { UnixSeconds } from "../units.ts";
import type { IceCandidates, RelaysPresenceMessage } from "./client_messages.ts";
import * as parts from "./message_parts.ts";
import type {
  Filter,
  IceCredentials,
  IpStack,
  MalformedMessage,
  Relay,
  UnknownMessage,
} from "./message_parts.ts";

/** Something that clients may reach through this gateway. */
export type GatewayResource =
  | {
    /** Discriminates. */
    readonly type: "cidr";
    /** Identifies it. */
    readonly id: string;
    /** What the administrator calls it. */
    readonly name: string;
    /** Its addresses. */
    readonly prefix: Prefix;
    /** What is let through. */
    readonly filters: readonly Filter[];
  }
  | {
    /** Discriminates. */
    readonly type: "dns";
    /** Identifies it. */
    readonly id: string;
    /** What the administrator calls it. */
    readonly name: string;
    /** `example.com`, `*.example.com`, `**.example.com`. */
    readonly pattern: string;
    /** Families that are answered. */
    readonly ipStack: IpStack;
    /** What is let through. */
    readonly filters: readonly Filter[];
  }
  | {
    /** Discriminates. */
    readonly type: "internet";
    /** Identifies it. */
    readonly id: string;
    /** What the administrator calls it. */
    readonly name: string;
    /** What is let through; portals send none. */
    readonly filters: readonly Filter[];
  };

/** That a client may reach a resource until some time. */
export interface Authorization {
  /** The client. */
  readonly clientId: string;
  /** The resource. */
  readonly resourceId: string;
  /** When it ends; `undefined` for never. */
  readonly expiresAt: UnixSeconds | undefined;
}

/** The whole state, sent after every join. */
export interface GatewayInit {
  /** Discriminates. */
  readonly tag: "init";
  /** Tunnel addresses. */
  readonly interface: { readonly ipv4: IpAddress; readonly ipv6: IpAddress };
  /** Relays to use beside those already there. */
  readonly relays: readonly Relay[];
  /** All that is authorised; others are void. `undefined` if this portal does not list them. */
  readonly authorizations: readonly Authorization[] | undefined;
}

/** A client is to be let in; answered with `flowAuthorized`. */
export interface AuthorizeFlow {
  /** Discriminates. */
  readonly tag: "authorize-flow";
  /** Opaque; goes back in the answer as it came. */
  readonly ref: string;
  /** What the client may reach. */
  readonly resource: GatewayResource;
  /** The client. */
  readonly client: {
    /** Identifies it. */
    readonly id: string;
    /** Its WireGuard key, 32 bytes. */
    readonly publicKey: Uint8Array;
    /** WireGuard preshared key, 32 bytes. */
    readonly presharedKey: Uint8Array;
    /** The only IPv4 source address it may use. */
    readonly ipv4: IpAddress;
    /** The only IPv6 source address it may use. */
    readonly ipv6: IpAddress;
  };
  /** The client's ICE credentials. */
  readonly clientIce: IceCredentials;
  /** Ours. */
  readonly gatewayIce: IceCredentials;
  /** When access ends; `undefined` for never. */
  readonly expiresAt: UnixSeconds | undefined;
}

/** A client may not reach a resource any more. */
export interface RejectAccess {
  /** Discriminates. */
  readonly tag: "reject-access";
  /** The client. */
  readonly clientId: string;
  /** The resource. */
  readonly resourceId: string;
}

/** An authorisation ends at another time than was said. */
export interface ExpiryUpdated extends Authorization {
  /** Discriminates. */
  readonly tag: "expiry-updated";
}

/** A resource changed; clients that may reach it still may. */
export interface ResourceUpdated {
  /** Discriminates. */
  readonly tag: "resource-updated";
  /** The resource as it is now. */
  readonly resource: GatewayResource;
}

/** Any message to a gateway. */
export type GatewayMessage =
  | GatewayInit
  | AuthorizeFlow
  | RejectAccess
  | ExpiryUpdated
  | ResourceUpdated
  | RelaysPresenceMessage
  | IceCandidates;

/** Reads a message to a gateway, of either generation; never throws. */
export function parseGatewayMessage(
  event: string,
  payload: unknown,
): GatewayMessage | UnknownMessage | MalformedMessage {
  const schema = SCHEMAS.get(event);
  if (schema === undefined) return { tag: "unknown" };
  const result = parts.check(schema, payload);
  return result.ok ? result.value : { tag: "malformed", reason: result.reason };
}

const resourceBase = {
  id: parts.id,
  name: v.nullish(v.string(), ""),
  filters: parts.filters,
};

const resource = v.pipe(
  v.variant("type", [
    v.object({ ...resourceBase, type: v.literal("cidr"), address: parts.prefix }),
    v.object({
      ...resourceBase,
      type: v.literal("dns"),
      address: parts.dnsPattern,
      ip_stack: parts.ipStack,
    }),
    v.object({ ...resourceBase, type: v.literal("internet") }),
  ]),
  v.transform((r): GatewayResource => {
    const { id, name, filters } = r;
    if (r.type === "internet") return { type: "internet", id, name, filters };
    return r.type === "cidr"
      ? { type: "cidr", id, name, filters, prefix: r.address }
      : { type: "dns", id, name, filters, pattern: r.address, ipStack: r.ip_stack };
  }),
);

const expiresAt = v.nullish(parts.unixSeconds);

const authorization = v.pipe(
  v.object({ client_id: parts.id, resource_id: parts.id, expires_at: expiresAt }),
  v.transform((a): Authorization => ({
    clientId: a.client_id,
    resourceId: a.resource_id,
    expiresAt: a.expires_at ?? undefined,
  })),
);

const init = v.pipe(
  v.object({
    interface: v.object({ ipv4: parts.ipv4, ipv6: parts.ipv6 }),
    relays: parts.relays,
    authorizations: v.nullish(v.array(v.unknown())),
  }),
  v.transform((m): GatewayInit => ({
    tag: "init",
    interface: { ipv4: m.interface.ipv4, ipv6: m.interface.ipv6 },
    relays: m.relays,
    authorizations: m.authorizations
      ? parts.readEach(m.authorizations, authorization).values
      : undefined,
  })),
);

const authorizeFlow = v.pipe(
  v.object({
    ref: v.string(),
    resource,
    client: v.object({
      id: parts.id,
      public_key: parts.key,
      preshared_key: parts.key,
      ipv4: parts.ipv4,
      ipv6: parts.ipv6,
    }),
    client_ice_credentials: parts.iceCredentials,
    gateway_ice_credentials: parts.iceCredentials,
    expires_at: expiresAt,
  }),
  v.transform((m): AuthorizeFlow => ({
    tag: "authorize-flow",
    ref: m.ref,
    resource: m.resource,
    client: {
      id: m.client.id,
      publicKey: m.client.public_key,
      presharedKey: m.client.preshared_key,
      ipv4: m.client.ipv4,
      ipv6: m.client.ipv6,
    },
    clientIce: m.client_ice_credentials,
    gatewayIce: m.gateway_ice_credentials,
    expiresAt: m.expires_at ?? undefined,
  })),
);

function iceCandidates(tag: IceCandidates["tag"]) {
  return v.pipe(
    v.object({ client_id: parts.id, candidates: parts.candidates }),
    v.transform((m): IceCandidates => ({ tag, peerId: m.client_id, candidates: m.candidates })),
  );
}

// deno-lint-ignore no-explicit-any
const SCHEMAS: ReadonlyMap<string, v.GenericSchema<any, GatewayMessage>> = new Map<
  string,
  // deno-lint-ignore no-explicit-any
  v.GenericSchema<any, GatewayMessage>
>([
  ["init", init],
  ["authorize_flow", authorizeFlow],
  ["create_authorization", authorizeFlow],
  [
    "reject_access",
    v.pipe(
      v.object({ client_id: parts.id, resource_id: parts.id }),
      v.transform((m): RejectAccess => ({
        tag: "reject-access",
        clientId: m.client_id,
        resourceId: m.resource_id,
      })),
    ),
  ],
  [
    "access_authorization_expiry_updated",
    v.pipe(authorization, v.transform((a): ExpiryUpdated => ({ tag: "expiry-updated", ...a }))),
  ],
  [
    "resource_updated",
    v.pipe(
      resource,
      v.transform((r): ResourceUpdated => ({ tag: "resource-updated", resource: r })),
    ),
  ],
  [
    "relays_presence",
    v.pipe(
      parts.relaysPresence,
      v.transform((p): RelaysPresenceMessage => ({ tag: "relays-presence", ...p })),
    ),
  ],
  ["ice_candidates", iceCandidates("ice-candidates")],
  ["invalidate_ice_candidates", iceCandidates("invalidate-ice-candidates")],
]);
