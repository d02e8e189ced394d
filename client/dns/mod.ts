/**
 * The client's DNS: what programs on this machine ask while the tunnel is up.
 * @module
 */
export { type DnsClock, DnsService, type DnsServiceOptions } from "./dns_service.ts";
export type { DnsResource, ResolvedDomain } from "./stub_resolver.ts";
