/**
 * What a configuration file means once it is known to be right.
 *
 * Names are resolved to ids, tokens are hashes, ranges are parsed: nothing here can dangle.
 * @module
 */

import type { Prefix } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";

/** Lowercase hex of a token's SHA-256; the portal keeps no token itself. */
export type TokenHash = string;

/** Destination ports (inclusive) or ICMP that a resource lets through. */
export interface Filter {
  /** What the packet carries. */
  readonly protocol: "tcp" | "udp" | "icmp";
  /** Lowest destination port; absent when every port is meant, and for ICMP. */
  readonly portStart?: number;
  /** Highest destination port; present together with `portStart`. */
  readonly portEnd?: number;
}

/** A place with gateways that are interchangeable. */
export interface Site {
  /** UUID. */
  readonly id: string;
  /** Unique among sites. */
  readonly name: string;
  /** What its gateways authenticate with. */
  readonly gatewayTokens: readonly TokenHash[];
}

/** Someone (a service account) whose devices reach resources. */
export interface Account {
  /** UUID. */
  readonly id: string;
  /** Unique among accounts. */
  readonly name: string;
  /** What its clients authenticate with. */
  readonly tokens: readonly TokenHash[];
  /** When its tokens stop working. */
  readonly expiresAt?: UnixSeconds;
}

/** Which IP families a DNS resource is reached over. */
export type IpStack = "dual" | "ipv4_only" | "ipv6_only";

/** What every kind of resource has. */
export interface ResourceBase {
  /** UUID. */
  readonly id: string;
  /** Unique among resources. */
  readonly name: string;
  /** Ids of the sites whose gateways lead there; at least one. */
  readonly siteIds: readonly string[];
}

/** Everything that no other resource covers. */
export interface InternetResource extends ResourceBase {
  /** Kind. */
  readonly type: "internet";
}

/** A resource with an address. */
export interface AddressedResource extends ResourceBase {
  /** `ip` of the file has become `cidr` here. */
  readonly type: "cidr" | "dns";
  /** Canonical range, or pattern of names. */
  readonly address: string;
  /** Text or link for people. */
  readonly addressDescription: string | null;
  /** Empty: everything is let through. */
  readonly filters: readonly Filter[];
  /** Only `dns` may differ from `dual`. */
  readonly ipStack: IpStack;
}

/** Something that can be reached. */
export type Resource = InternetResource | AddressedResource;

/** What of a resource cannot change under an authorization: changed, all access starts anew. */
export function resourceKey(resource: Resource): string {
  return resource.type === "internet"
    ? "internet"
    : `${resource.type} ${resource.address} ${resource.ipStack}`;
}

/** Lets accounts reach resources. */
export interface Policy {
  /** UUID, of the policy's content. */
  readonly id: string;
  /** Ids of accounts. */
  readonly accountIds: readonly string[];
  /** Ids of resources. */
  readonly resourceIds: readonly string[];
  /** When it ends. */
  readonly expiresAt?: UnixSeconds;
  /** Addresses that a client must connect from; absent: any. */
  readonly remoteIps?: readonly Prefix[];
}

/** Whom clients ask for names that are no resource; at most one list is filled. */
export interface DnsConfig {
  /** Plain DNS servers, by IP address. */
  readonly upstreamDo53: readonly string[];
  /** DNS-over-HTTPS servers, by URL. */
  readonly upstreamDoh: readonly string[];
  /** Domain that is appended to single-label names. */
  readonly searchDomain: string | null;
}

/** A whole configuration. */
export interface PortalConfig {
  /** Short name of the installation, shown to gateways. */
  readonly accountSlug: string;
  /** Sites. */
  readonly sites: readonly Site[];
  /** What relays authenticate with. */
  readonly relayTokens: readonly TokenHash[];
  /** Accounts. */
  readonly accounts: readonly Account[];
  /** Resources. */
  readonly resources: readonly Resource[];
  /** Policies. */
  readonly policies: readonly Policy[];
  /** DNS settings of clients. */
  readonly dns: DnsConfig;
}
