/**
 * The address ranges that the client always routes into the tunnel.
 * @module
 */

import { type Prefix, prefix } from "@firezone/core/ip";

/** Addresses of clients and gateways. */
export const TUNNEL_RANGES: readonly Prefix[] = [
  prefix("100.64.0.0/11"),
  prefix("fd00:2021:1111::/107"),
];

/** Addresses that stand for DNS resources; the stub resolver's own lie among them. */
export const PROXY_RANGES: readonly Prefix[] = [
  prefix("100.96.0.0/11"),
  prefix("fd00:2021:1111:8000::/107"),
];

/** What the tunnel carries whatever the resources are. */
export const CLIENT_ROUTES: readonly Prefix[] = [...TUNNEL_RANGES, ...PROXY_RANGES];
