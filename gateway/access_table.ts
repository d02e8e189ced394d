/**
 * What one client may reach: the resources that the portal authorised, until they expire.
 *
 * A packet is allowed when any resource that contains its address admits it.
 * @module
 */

import {
  type IpAddress,
  type PacketRef,
  type Prefix,
  PrefixTable,
  TrafficFilter,
} from "@firezone/core/ip";
import type { GatewayResource } from "@firezone/core/portal";
import type { UnixSeconds } from "@firezone/core/units";

interface Grant {
  resource: GatewayResource;
  filter: TrafficFilter;
  /** Undefined when it does not expire by itself. */
  expiresAt: UnixSeconds | undefined;
}

/** See the head of this file. */
export class AccessTable {
  readonly #grants = new Map<string, Grant>();
  /** Per distinct prefix, the filters of the resources that contain all of it. */
  #slots: TrafficFilter[][] = [];
  #table = new PrefixTable();

  /** Whether nothing is allowed. */
  get isEmpty(): boolean {
    return this.#grants.size === 0;
  }

  /** Ids of the authorised resources. */
  resourceIds(): Iterable<string> {
    return this.#grants.keys();
  }

  /** Authorises a resource, or prolongs and replaces an authorisation there was. */
  allow(resource: GatewayResource, expiresAt: UnixSeconds | undefined): void {
    const filter = new TrafficFilter(resource.filters);
    this.#grants.set(resource.id, { resource, filter, expiresAt });
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

  /** Whether the client may send this packet to its destination. */
  admitsOutbound(buf: Uint8Array, packet: PacketRef): boolean {
    return this.#admits(buf, packet, packet.destinationOffset, packet.destinationPort);
  }

  /** Whether this packet of a resource may go to the client. */
  admitsInbound(buf: Uint8Array, packet: PacketRef): boolean {
    return this.#admits(buf, packet, packet.sourceOffset, packet.sourcePort);
  }

  #admits(buf: Uint8Array, packet: PacketRef, address: number, port: number): boolean {
    const slot = this.#table.lookup(packet.version, buf, address);
    if (slot < 0) return false;
    const filters = this.#slots[slot]!;
    for (let i = 0; i < filters.length; i++) {
      if (filters[i]!.admits(packet.protocol, port)) return true;
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
  }
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
