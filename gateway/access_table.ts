/**
 * What one client may reach: the resources that the portal authorised, until they expire.
 *
 *     proxy address of a name        any DNS resource that the name belongs to admits it
 *     address of a CIDR resource     any CIDR resource that contains it admits it
 *     any other                      the Internet resource, unless the address is not public
 *
 * The portal decides which resource a name belongs to by the pattern of the resource; which address
 * stands for which name is known to the client's NAT.
 * @module
 */

import { NamePattern } from "@firezone/core/dns";
import {
  type IpAddress,
  type PacketRef,
  type Prefix,
  PrefixTable,
  TrafficFilter,
} from "@firezone/core/ip";
import type { GatewayResource } from "@firezone/core/portal";
import type { UnixSeconds } from "@firezone/core/units";
import { isPublicAddress } from "./public_addresses.ts";

/** What happens to a packet that a client sends. */
export type Verdict =
  | "admitted"
  /** No resource admits it. */
  | "prohibited"
  /** The Internet resource is all that could admit it, and does not lead there. */
  | "unreachable";

interface Grant {
  resource: GatewayResource;
  filter: TrafficFilter;
  /** Of a DNS resource; undefined also when it makes no sense. */
  pattern: NamePattern | undefined;
  /** Undefined when it does not expire by itself. */
  expiresAt: UnixSeconds | undefined;
}

/** See the head of this file. */
export class AccessTable {
  readonly #grants = new Map<string, Grant>();
  /** Per distinct prefix, the filters of the resources that contain all of it. */
  #slots: TrafficFilter[][] = [];
  #table = new PrefixTable();
  #hasInternet = false;

  /** Whether nothing is allowed. */
  get isEmpty(): boolean {
    return this.#grants.size === 0;
  }

  /** Ids of the authorised resources. */
  resourceIds(): Iterable<string> {
    return this.#grants.keys();
  }

  /** The authorised resources themselves. */
  *resources(): Iterable<GatewayResource> {
    for (const { resource } of this.#grants.values()) yield resource;
  }

  /** Authorises a resource, or prolongs and replaces an authorisation there was. */
  allow(resource: GatewayResource, expiresAt: UnixSeconds | undefined): void {
    const filter = new TrafficFilter(resource.filters);
    const pattern = resource.type === "dns" ? NamePattern.parse(resource.pattern) : undefined;
    this.#grants.set(resource.id, { resource, filter, pattern, expiresAt });
    this.#rebuild();
  }

  /** Withdraws a resource; false when it was not authorised. */
  revoke(resourceId: string): boolean {
    const had = this.#grants.delete(resourceId);
    if (had) this.#rebuild();
    return had;
  }

  /** Sets another expiry; false when the resource is not authorised. */
  setExpiry(resourceId: string, expiresAt: UnixSeconds | undefined): boolean {
    const grant = this.#grants.get(resourceId);
    if (grant) grant.expiresAt = expiresAt;
    return grant !== undefined;
  }

  /** The portal changed a resource: only its name and its filters may change while it is in use. */
  update(resource: GatewayResource): void {
    const grant = this.#grants.get(resource.id);
    if (!grant || grant.resource.type !== resource.type) return;
    grant.filter = new TrafficFilter(resource.filters);
    this.#rebuild();
  }

  /** Withdraws what has expired and names it. */
  expire(now: UnixSeconds): string[] {
    const expired = [...this.#grants.values()]
      .filter(({ expiresAt }) => expiresAt !== undefined && expiresAt <= now)
      .map(({ resource }) => resource.id);
    for (const id of expired) this.revoke(id);
    return expired;
  }

  /** Whether a name belongs to a DNS resource that is authorised.
   * @param domain in lower case, without a final dot */
  mayResolve(resourceId: string, domain: string): boolean {
    return this.#grants.get(resourceId)?.pattern?.matches(domain) ?? false;
  }

  /** What happens to a packet of the client, for any destination but a proxy address. */
  checkOutbound(buf: Uint8Array, packet: PacketRef): Verdict {
    const slot = this.#table.lookup(packet.version, buf, packet.destinationOffset);
    if (slot >= 0) {
      const { protocol, destinationPort } = packet;
      return anyAdmits(this.#slots[slot]!, protocol, destinationPort) ? "admitted" : "prohibited";
    }
    if (!this.#hasInternet) return "prohibited";
    const { version, destinationOffset } = packet;
    return isPublicAddress(version, buf, destinationOffset) ? "admitted" : "unreachable";
  }

  /** Whether this packet of a resource may go to the client; for any source but a proxy address. */
  admitsInbound(buf: Uint8Array, packet: PacketRef): boolean {
    const slot = this.#table.lookup(packet.version, buf, packet.sourceOffset);
    if (slot >= 0) return anyAdmits(this.#slots[slot]!, packet.protocol, packet.sourcePort);
    return this.#hasInternet && isPublicAddress(packet.version, buf, packet.sourceOffset);
  }

  /**
   * Whether traffic with a name is allowed, in either direction.
   *
   * @param resourceIds the resources that the name belongs to, as its client says
   * @param port on the resource's side
   */
  admitsName(resourceIds: readonly string[], protocol: number, port: number): boolean {
    for (let i = 0; i < resourceIds.length; i++) {
      const grant = this.#grants.get(resourceIds[i]!);
      if (grant?.pattern !== undefined && grant.filter.admits(protocol, port)) return true;
    }
    return false;
  }

  /** A longer prefix takes over the filters of the shorter ones that contain it. */
  #rebuild(): void {
    const byPrefix = new Map<string, { prefix: Prefix; filters: TrafficFilter[] }>();
    const entries = [...this.#grants.values()].flatMap(({ resource, filter }) =>
      prefixesOf(resource).map((prefix) => ({ prefix, filter }))
    );
    for (const { prefix } of entries) {
      if (byPrefix.has(prefix.text)) continue;
      const filters = entries
        .filter((other) => other.prefix.length <= prefix.length && other.prefix.contains(prefix.ip))
        .map((other) => other.filter);
      byPrefix.set(prefix.text, { prefix, filters });
    }
    this.#table = new PrefixTable();
    this.#slots = [];
    for (const { prefix, filters } of byPrefix.values()) {
      this.#table.insert(prefix, this.#slots.push(filters) - 1);
    }
    this.#hasInternet = false;
    for (const { resource } of this.#grants.values()) {
      if (resource.type === "internet") this.#hasInternet = true;
    }
  }
}

function anyAdmits(filters: readonly TrafficFilter[], protocol: number, port: number): boolean {
  for (let i = 0; i < filters.length; i++) {
    if (filters[i]!.admits(protocol, port)) return true;
  }
  return false;
}

function prefixesOf(resource: GatewayResource): Prefix[] {
  return resource.type === "cidr" ? [resource.prefix] : [];
}

/** The addresses of a client inside the tunnel. */
export interface TunnelAddresses {
  /** From 100.64.0.0/11. */
  readonly ipv4: IpAddress;
  /** From fd00:2021:1111::/107. */
  readonly ipv6: IpAddress;
}
