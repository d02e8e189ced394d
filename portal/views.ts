/**
 * How things look on the wire.
 *
 * Spec: portal-protocol §2.1 (shared), §2.2 (clients), §2.6 (gateways). Keys that only some
 * generations know are sent to all, since each ignores what it does not know; where two names for
 * one key exclude each other, the peer's User-Agent decides.
 * @module
 */

import { type IpAddress, SocketAddress } from "@firezone/core/ip";
import type { UnixSeconds } from "@firezone/core/units";
import type { DnsConfig, Filter, PortalConfig, Resource } from "./config/config.ts";
import { turnCredentials } from "./credentials.ts";
import { type Authorization, type Device, tunnelAddresses } from "./device.ts";
import type { Directory } from "./directory.ts";
import type { Relay } from "./relay_pool.ts";

/** Anything that becomes JSON. */
export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json };

/** A JSON object. */
export type JsonObject = { readonly [key: string]: Json };

/** We take no flow logs; newer peers insist on being told so. */
export const FLOW_LOGS: JsonObject = {
  api_url: "http://localhost",
  upload_interval_secs: 0,
  upload_batch_size: 0,
};

/** A gateway's interface; a client's begins with it. */
export function interfaceView(device: Device): { readonly ipv4: string; readonly ipv6: string } {
  const { ipv4, ipv6 } = tunnelAddresses(device);
  return { ipv4: ipv4.text, ipv6: ipv6.text };
}

/** A client's interface. */
export function clientInterfaceView(device: Device, dns: DnsConfig): JsonObject {
  return {
    ...interfaceView(device),
    upstream_dns: dns.upstreamDo53.map((ip) => ({
      protocol: "ip_port",
      address: ip.includes(":") ? `[${ip}]:53` : `${ip}:53`,
    })),
    upstream_do53: dns.upstreamDo53.map((ip) => ({ ip })),
    upstream_doh: dns.upstreamDoh.map((url) => ({ url })),
    search_domain: dns.searchDomain,
  };
}

/** Relays for a device with this key: an entry for each address, IPv4 first. */
export function relayViews(
  relays: readonly Relay[],
  publicKey: string,
  expiresAt: UnixSeconds,
): Json[] {
  return relays.flatMap((relay) => {
    const { username, password } = turnCredentials(publicKey, relay.stampSecret, expiresAt);
    const addresses = [relay.ipv4, relay.ipv6].filter((ip): ip is IpAddress => ip !== undefined);
    return addresses.map((ip) => ({
      id: relay.id,
      type: "turn",
      addr: new SocketAddress(ip, relay.port).key,
      username,
      password,
      expires_at: expiresAt,
    }));
  });
}

/** A resource as clients know it. */
export function clientResourceView(
  resource: Resource,
  directory: Directory,
  sitesKey: "sites" | "gateway_groups",
): JsonObject {
  const sites = resource.siteIds.flatMap((id) => {
    const site = directory.site(id);
    return site ? [{ id: site.id, name: site.name }] : [];
  });
  if (resource.type === "internet") {
    return { type: "internet", id: resource.id, [sitesKey]: sites, can_be_disabled: true };
  }
  return {
    type: resource.type,
    id: resource.id,
    address: resource.address,
    address_description: resource.addressDescription,
    name: resource.name,
    [sitesKey]: sites,
    filters: resource.filters.map(filterView),
    ...(resource.type === "dns" && { ip_stack: resource.ipStack }),
  };
}

/** A resource as gateways know it. */
export function gatewayResourceView(resource: Resource): JsonObject {
  if (resource.type === "internet") return { type: "internet", id: resource.id };
  return {
    type: resource.type,
    id: resource.id,
    address: resource.address,
    name: resource.name,
    filters: resource.filters.map(filterView),
  };
}

function filterView({ protocol, portStart, portEnd }: Filter): JsonObject {
  return portStart === undefined || portEnd === undefined
    ? { protocol }
    : { protocol, port_range_start: portStart, port_range_end: portEnd };
}

/** All that a gateway needs to begin. */
export function gatewayInitView(
  gateway: Device,
  config: PortalConfig,
  relays: readonly Json[],
  authorizations: readonly Authorization[],
): JsonObject {
  return {
    interface: interfaceView(gateway),
    relays,
    config: { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true },
    account_slug: config.accountSlug,
    authorizations: authorizations.map((authorization) => ({
      client_id: authorization.clientId,
      resource_id: authorization.resourceId,
      expires_at: authorization.expiresAt,
    })),
    flow_logs: FLOW_LOGS,
  };
}
