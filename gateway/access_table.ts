/**
 * What one client may reach: the resources that the portal authorised, until they expire.
 *
 * Owns: which resources, and until when. Does not own: what they admit, see `access_rules.ts`.
 * @module
 */

import type { IpAddress, PacketRef } from "@firezone/core/ip";
import type { GatewayResource } from "@firezone/core/portal";
import type { UnixSeconds } from "@firezone/core/units";
import { type AccessRules, AccessRulesPool, type Verdict } from "./access_rules.ts";

interface Grant {
  resource: GatewayResource;
  /** Undefined when it does not expire by itself. */
  expiresAt: UnixSeconds | undefined;
}

/** See the head of this file. */
export class AccessTable {
  readonly #grants = new Map<string, Grant>();
  readonly #pool: AccessRulesPool;
  #rules: AccessRules;

  /** Nothing is allowed.
   * @param pool of the rules that it shares with other tables, until all is withdrawn */
  constructor(pool: AccessRulesPool = new AccessRulesPool()) {
    this.#pool = pool;
    this.#rules = pool.acquire([]);
  }

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
    this.#grants.set(resource.id, { resource, expiresAt });
    this.#renewRules();
  }

  /** Withdraws a resource; false when it was not authorised. */
  revoke(resourceId: string): boolean {
    const had = this.#grants.delete(resourceId);
    if (had) this.#renewRules();
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
    const { name, filters } = resource;
    grant.resource = { ...grant.resource, name, filters };
    this.#renewRules();
  }

  /** Withdraws what has expired and names it. */
  expire(now: UnixSeconds): string[] {
    const expired = [...this.#grants.values()]
      .filter(({ expiresAt }) => expiresAt !== undefined && expiresAt <= now)
      .map(({ resource }) => resource.id);
    for (const id of expired) this.revoke(id);
    return expired;
  }

  /** See {@link AccessRules.mayResolve}. */
  mayResolve(resourceId: string, domain: string): boolean {
    return this.#rules.mayResolve(resourceId, domain);
  }

  /** See {@link AccessRules.checkOutbound}. */
  checkOutbound(buf: Uint8Array, packet: PacketRef): Verdict {
    return this.#rules.checkOutbound(buf, packet);
  }

  /** See {@link AccessRules.admitsInbound}. */
  admitsInbound(buf: Uint8Array, packet: PacketRef): boolean {
    return this.#rules.admitsInbound(buf, packet);
  }

  /** See {@link AccessRules.admitsName}. */
  admitsName(resourceIds: readonly string[], protocol: number, port: number): boolean {
    return this.#rules.admitsName(resourceIds, protocol, port);
  }

  #renewRules(): void {
    const former = this.#rules;
    // The new ones first: mostly they are the former ones.
    this.#rules = this.#pool.acquire(Array.from(this.resources()));
    this.#pool.release(former);
  }
}

/** The addresses of a client inside the tunnel. */
export interface TunnelAddresses {
  /** From 100.64.0.0/11. */
  readonly ipv4: IpAddress;
  /** From fd00:2021:1111::/107. */
  readonly ipv6: IpAddress;
}
