/**
 * What the portal tells a client.
 *
 * Both generations of the protocol are read alike: `flow_created` and `authorization_created` are
 * one message, `gateway_groups` and `sites` one key. Device pools and client-to-client access are
 * not implemented; their messages are {@link UnknownMessage}s and their resources are left out.
 * @module
 */

import * as v from "valibot";
import { type IpAddress, type Prefix, SocketAddress } from "../ip/address.ts";
import * as parts from "./message_parts.ts";
import type {
  Filter,
  IceCredentials,
  IpStack,
  MalformedMessage,
  Relay,
  RelaysPresence,
  Site,
  UnknownMessage,
} from "./message_parts.ts";

/** The client's tunnel interface. */
export interface ClientInterface {
  /** Tunnel address. */
  readonly ipv4: IpAddress;
  /** Tunnel address. */
  readonly ipv6: IpAddress;
  /** DNS servers to forward to; none means those of the system. */
  readonly upstreamDns: readonly SocketAddress[];
  /** DNS-over-HTTPS endpoints to forward to when there are no {@link upstreamDns}. */
  readonly upstreamDoh: readonly string[];
  /** Suffix that single-label queries are tried with. */
  readonly searchDomain: string | undefined;
}

/** A range of addresses; a single address is a range too. */
export interface ClientCidrResource {
  /** Discriminates. */
  readonly type: "cidr";
  /** Identifies it. */
  readonly id: string;
  /** What the administrator calls it. */
  readonly name: string;
  /** Its addresses. */
  readonly prefix: Prefix;
  /** Shown to users in place of the address. */
  readonly addressDescription: string | undefined;
  /** Where it is served. */
  readonly sites: readonly Site[];
  /** What is let through; the gateway enforces it. */
  readonly filters: readonly Filter[];
}

/** Names that match a pattern. */
export interface ClientDnsResource {
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
  /** Shown to users in place of the address. */
  readonly addressDescription: string | undefined;
  /** Where it is served. */
  readonly sites: readonly Site[];
  /** What is let through; the gateway enforces it. */
  readonly filters: readonly Filter[];
}

/** Everything that no other resource covers. */
export interface ClientInternetResource {
  /** Discriminates. */
  readonly type: "internet";
  /** Identifies it. */
  readonly id: string;
  /** What the administrator calls it. */
  readonly name: string;
  /** Where it is served. */
  readonly sites: readonly Site[];
}

/** Something the client may reach. */
export type ClientResource = ClientCidrResource | ClientDnsResource | ClientInternetResource;

/** The whole state, sent after every join and whenever the portal starts over. */
export interface ClientInit {
  /** Discriminates. */
  readonly tag: "init";
  /** The tunnel interface. */
  readonly interface: ClientInterface;
  /** All resources; others are gone. */
  readonly resources: readonly ClientResource[];
  /** Relays to use beside those already there. */
  readonly relays: readonly Relay[];
  /** Number of resources that were left out because we do not know or understand them. */
  readonly skippedResources: number;
}

/** The tunnel interface changed. */
export interface ConfigChanged {
  /** Discriminates. */
  readonly tag: "config-changed";
  /** The new interface. */
  readonly interface: ClientInterface;
}

/** A resource is new or changed. */
export interface ResourceCreatedOrUpdated {
  /** Discriminates. */
  readonly tag: "resource-created-or-updated";
  /** The resource as it is now. */
  readonly resource: ClientResource;
}

/** A resource is gone. */
export interface ResourceDeleted {
  /** Discriminates. */
  readonly tag: "resource-deleted";
  /** Which. */
  readonly resourceId: string;
}

/** Only the filters of a resource changed. */
export interface ResourceFiltersUpdated {
  /** Discriminates. */
  readonly tag: "resource-filters-updated";
  /** Which. */
  readonly resourceId: string;
  /** The filters as they are now. */
  readonly filters: readonly Filter[];
}

/** Relays came or went. */
export interface RelaysPresenceMessage extends RelaysPresence {
  /** Discriminates. */
  readonly tag: "relays-presence";
}

/** The peer has new candidates, or has lost some. */
export interface IceCandidates {
  /** Discriminates. */
  readonly tag: "ice-candidates" | "invalidate-ice-candidates";
  /** The gateway, on a client; the client, on a gateway. */
  readonly peerId: string;
  /** SDP lines. */
  readonly candidates: readonly string[];
}

/** A gateway was chosen for a resource and has agreed. */
export interface FlowCreated {
  /** Discriminates. */
  readonly tag: "flow-created";
  /** The resource that was asked for. */
  readonly resourceId: string;
  /** The gateway. */
  readonly gatewayId: string;
  /** Its WireGuard key, 32 bytes. */
  readonly gatewayPublicKey: Uint8Array;
  /** Its tunnel addresses; older portals do not say. */
  readonly gatewayIps: { readonly ipv4: IpAddress; readonly ipv6: IpAddress } | undefined;
  /** The site of the gateway. */
  readonly siteId: string;
  /** WireGuard preshared key, 32 bytes. */
  readonly presharedKey: Uint8Array;
  /** Our ICE credentials. */
  readonly clientIce: IceCredentials;
  /** Theirs. */
  readonly gatewayIce: IceCredentials;
}

/** Why no gateway was given. */
export type FlowFailureReason =
  | "not_found"
  | "offline"
  | "forbidden"
  | "version_mismatch"
  | "disabled"
  | "unknown";

/** The portal did not grant a flow. */
export interface FlowCreationFailed {
  /** Discriminates. */
  readonly tag: "flow-creation-failed";
  /** The resource that was asked for. */
  readonly resourceId: string;
  /** Why. */
  readonly reason: FlowFailureReason;
  /** Policy conditions that were not met, in the portal's words. */
  readonly violatedProperties: readonly string[];
}

/** Any message to a client. */
export type ClientMessage =
  | ClientInit
  | ConfigChanged
  | ResourceCreatedOrUpdated
  | ResourceDeleted
  | ResourceFiltersUpdated
  | RelaysPresenceMessage
  | IceCandidates
  | FlowCreated
  | FlowCreationFailed;

const UNKNOWN: UnknownMessage = { tag: "unknown" };

/** Reads a message to a client, of either generation; never throws. */
export function parseClientMessage(
  event: string,
  payload: unknown,
): ClientMessage | UnknownMessage | MalformedMessage {
  // A resource of a kind we do not know is news of something newer than us, not a mistake.
  if (event === "resource_created_or_updated" && !hasKnownType(payload)) return UNKNOWN;
  const schema = SCHEMAS.get(event);
  if (schema === undefined) return UNKNOWN;
  const result = parts.check(schema, payload);
  return result.ok ? result.value : { tag: "malformed", reason: result.reason };
}

const clientInterface = v.pipe(
  v.object({
    ipv4: parts.ipv4,
    ipv6: parts.ipv6,
    upstream_dns: parts.list,
    upstream_do53: parts.list,
    upstream_doh: parts.list,
    search_domain: parts.optionalText,
  }),
  v.transform((i): ClientInterface => ({
    ipv4: i.ipv4,
    ipv6: i.ipv6,
    upstreamDns: dnsServers(i.upstream_do53, i.upstream_dns),
    upstreamDoh: parts.readEach(i.upstream_doh, v.object({ url: v.pipe(v.string(), v.url()) }))
      .values.map((server) => server.url),
    searchDomain: i.search_domain,
  })),
);

/** The newer list holds addresses alone; where it is empty the older one with ports is used. */
function dnsServers(
  newer: readonly unknown[],
  older: readonly unknown[],
): readonly SocketAddress[] {
  const addresses = parts.readEach(newer, v.object({ ip: parts.ip })).values;
  if (addresses.length > 0) return addresses.map((server) => new SocketAddress(server.ip, 53));
  const endpoint = v.object({ protocol: v.literal("ip_port"), address: parts.endpoint });
  return parts.readEach(older, endpoint).values.map((server) => server.address);
}

/** What every kind of resource has; `sites` was called `gateway_groups`. */
const resourceBase = {
  id: parts.id,
  name: v.nullish(v.string(), ""),
  address_description: parts.optionalText,
  sites: parts.list,
  gateway_groups: parts.list,
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
  v.transform((r): ClientResource => {
    const listed = r.sites.length > 0 ? r.sites : r.gateway_groups;
    const sites = parts.readEach(listed, parts.site).values;
    if (r.type === "internet") {
      return { type: "internet", id: r.id, name: r.name || "Internet Resource", sites };
    }
    const described = {
      id: r.id,
      name: r.name,
      sites,
      addressDescription: r.address_description,
      filters: r.filters,
    };
    return r.type === "cidr"
      ? { type: "cidr", ...described, prefix: r.address }
      : { type: "dns", ...described, pattern: r.address, ipStack: r.ip_stack };
  }),
);

function hasKnownType(payload: unknown): boolean {
  const type = v.safeParse(v.object({ type: v.string() }), payload);
  return !type.success || ["cidr", "dns", "internet"].includes(type.output.type);
}

const init = v.pipe(
  v.object({ interface: clientInterface, resources: parts.list, relays: parts.relays }),
  v.transform((m): ClientInit => {
    const resources = parts.readEach(m.resources, resource);
    return {
      tag: "init",
      interface: m.interface,
      resources: resources.values,
      relays: m.relays,
      skippedResources: resources.skipped,
    };
  }),
);

const flowCreated = v.pipe(
  v.object({
    resource_id: parts.id,
    gateway_id: parts.id,
    gateway_public_key: parts.key,
    gateway_ipv4: v.nullish(parts.ipv4),
    gateway_ipv6: v.nullish(parts.ipv6),
    site_id: v.nullish(parts.id),
    gateway_group_id: v.nullish(parts.id),
    preshared_key: parts.key,
    client_ice_credentials: parts.iceCredentials,
    gateway_ice_credentials: parts.iceCredentials,
  }),
  v.check((m) => (m.site_id ?? m.gateway_group_id) != null, "a site_id"),
  v.transform((m): FlowCreated => ({
    tag: "flow-created",
    resourceId: m.resource_id,
    gatewayId: m.gateway_id,
    gatewayPublicKey: m.gateway_public_key,
    gatewayIps: m.gateway_ipv4 && m.gateway_ipv6
      ? { ipv4: m.gateway_ipv4, ipv6: m.gateway_ipv6 }
      : undefined,
    siteId: (m.site_id ?? m.gateway_group_id)!,
    presharedKey: m.preshared_key,
    clientIce: m.client_ice_credentials,
    gatewayIce: m.gateway_ice_credentials,
  })),
);

const FAILURE_REASONS = [
  "not_found",
  "offline",
  "forbidden",
  "version_mismatch",
  "disabled",
] as const;

const flowCreationFailed = v.pipe(
  v.object({
    resource_id: parts.id,
    reason: v.fallback(v.picklist([...FAILURE_REASONS, "unknown"]), "unknown"),
    violated_properties: parts.list,
  }),
  v.transform((m): FlowCreationFailed => ({
    tag: "flow-creation-failed",
    resourceId: m.resource_id,
    reason: m.reason,
    violatedProperties: parts.readEach(m.violated_properties, v.string()).values,
  })),
);

function iceCandidates(tag: IceCandidates["tag"]) {
  return v.pipe(
    v.object({ gateway_id: parts.id, candidates: parts.candidates }),
    v.transform((m): IceCandidates => ({ tag, peerId: m.gateway_id, candidates: m.candidates })),
  );
}

// deno-lint-ignore no-explicit-any
const SCHEMAS: ReadonlyMap<string, v.GenericSchema<any, ClientMessage>> = new Map<
  string,
  // deno-lint-ignore no-explicit-any
  v.GenericSchema<any, ClientMessage>
>([
  ["init", init],
  [
    "config_changed",
    v.pipe(
      v.object({ interface: clientInterface }),
      v.transform((m): ConfigChanged => ({ tag: "config-changed", interface: m.interface })),
    ),
  ],
  [
    "resource_created_or_updated",
    v.pipe(
      resource,
      v.transform((r): ClientMessage => ({ tag: "resource-created-or-updated", resource: r })),
    ),
  ],
  [
    "resource_deleted",
    v.pipe(
      parts.id,
      v.transform((id): ResourceDeleted => ({ tag: "resource-deleted", resourceId: id })),
    ),
  ],
  [
    "resource_filters_updated",
    v.pipe(
      v.object({ id: parts.id, filters: parts.filters }),
      v.transform((m): ResourceFiltersUpdated => ({
        tag: "resource-filters-updated",
        resourceId: m.id,
        filters: m.filters,
      })),
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
  ["gateway_ice_candidates", iceCandidates("ice-candidates")],
  ["invalidate_ice_candidates", iceCandidates("invalidate-ice-candidates")],
  ["invalidate_gateway_ice_candidates", iceCandidates("invalidate-ice-candidates")],
  ["flow_created", flowCreated],
  ["authorization_created", flowCreated],
  ["flow_creation_failed", flowCreationFailed],
  ["authorization_creation_failed", flowCreationFailed],
]);
