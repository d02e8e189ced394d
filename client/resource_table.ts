/**
 * The resources that the portal lets us reach, and the one that a packet is meant for.
 *
 * The longest prefix wins; among resources of one prefix the one whose filters admit the packet,
 * then the one with the larger id, so that the choice is the same after every restart.
 * @module
 */

import {
  IpAddress,
  type PacketRef,
  type Prefix,
  prefix,
  PrefixTable,
  TrafficFilter,
} from "@firezone/core/ip";
import type { Connection } from "@firezone/core/connectivity";
import type { ClientResource } from "@firezone/core/portal";
import { TUNNEL_RANGES } from "./address_plan.ts";
import { hasFamily } from "./ip_stack.ts";

const EVERYTHING = [prefix("0.0.0.0/0"), prefix("::/0")];

/** Whether a resource's site answers; `offline` when no gateway of it is there. */
export type RouteStatus = "unknown" | "online" | "offline";

/** A resource together with the way its packets take now. */
export class Route {
  /** What the resource admits. */
  readonly filter: TrafficFilter;
  /** The gateway that carries it, once the portal named one. */
  gatewayId: string | undefined;
  /** The connection to that gateway, while there is one. */
  connection: Connection | undefined;
  /** What is known of its site. */
  status: RouteStatus = "unknown";

  /** A route without a gateway. */
  constructor(
    /** What the portal told about it. */
    readonly resource: ClientResource,
  ) {
    this.filter = new TrafficFilter(resource.type === "internet" ? [] : resource.filters);
  }

  /** Goes the way that the route before a change of the resource went. */
  takeOver(old: Route): void {
    this.gatewayId = old.gatewayId;
    this.connection = old.connection;
    this.status = old.status;
  }

  /** Has no gateway any more; the next packet asks for one. */
  detach(): void {
    this.gatewayId = undefined;
    this.connection = undefined;
    this.status = "unknown";
  }
}

/** All routes by resource id, and by address. */
export class ResourceTable {
  readonly #routes = new Map<string, Route>();
  /** Per distinct prefix, its routes: larger ids first. */
  #slots: Route[][] = [];
  #table = new PrefixTable();
  #usesInternet = false;

  /** The route to a resource. */
  get(resourceId: string): Route | undefined {
    return this.#routes.get(resourceId);
  }

  /** All routes. */
  routes(): Iterable<Route> {
    return this.#routes.values();
  }

  /** Adds a resource or replaces the one with its id; the new route has no gateway. */
  put(resource: ClientResource): Route {
    const route = new Route(resource);
    this.#routes.set(resource.id, route);
    this.#rebuild();
    return route;
  }

  /** Removes a resource and returns its route. */
  remove(resourceId: string): Route | undefined {
    const route = this.#routes.get(resourceId);
    if (this.#routes.delete(resourceId)) this.#rebuild();
    return route;
  }

  /** Whether the Internet resource, if there is one, takes what no other resource takes. */
  set usesInternet(uses: boolean) {
    this.#usesInternet = uses;
    this.#rebuild();
  }

  /** The prefixes that the operating system has to send into the tunnel. */
  prefixes(): Prefix[] {
    const distinct = new Map<string, Prefix>();
    for (const { resource } of this.#routes.values()) {
      for (const prefix of this.#prefixesOf(resource)) distinct.set(prefix.text, prefix);
    }
    return [...distinct.values()];
  }

  /**
   * The route of a packet towards a resource: the best whose filter admits it, else the best of
   * all, else undefined.
   *
   * @param buf holds the packet that `packet` describes
   */
  match(buf: Uint8Array, packet: PacketRef): Route | undefined {
    const offset = packet.destinationOffset;
    const slot = this.#table.lookup(packet.version, buf, offset);
    if (slot < 0) return undefined;
    return admitting(this.#slots[slot]!, packet);
  }

  /**
   * The best of these DNS resources for a packet, in their order; see {@link match}. One that has no
   * addresses of the packet's family is not among them.
   */
  choose(resourceIds: readonly string[], packet: PacketRef): Route | undefined {
    let first: Route | undefined;
    for (let i = 0; i < resourceIds.length; i++) {
      const route = this.#routes.get(resourceIds[i]!);
      if (route?.resource.type !== "dns") continue;
      if (!hasFamily(route.resource.ipStack, packet.version)) continue;
      if (route.filter.admits(packet.protocol, packet.destinationPort)) return route;
      first ??= route;
    }
    return first;
  }

  /** Whether `connection` carries one of these resources. */
  carriesAny(connection: Connection, resourceIds: readonly string[]): boolean {
    return resourceIds.some((id) => this.#routes.get(id)?.connection === connection);
  }

  /** Whether `connection` carries a resource that the source address of a packet belongs to. */
  mayComeFrom(connection: Connection, buf: Uint8Array, packet: PacketRef): boolean {
    const slot = this.#table.lookup(packet.version, buf, packet.sourceOffset);
    if (slot >= 0) {
      const routes = this.#slots[slot]!;
      for (let i = 0; i < routes.length; i++) if (routes[i]!.connection === connection) return true;
    }
    // A shorter prefix of the same gateway may contain it, too. Rare, so a scan will do.
    const length = packet.version === 4 ? 4 : 16;
    const source = new IpAddress(buf.slice(packet.sourceOffset, packet.sourceOffset + length));
    for (const route of this.#routes.values()) {
      if (route.connection !== connection) continue;
      if (this.#prefixesOf(route.resource).some((prefix) => prefix.contains(source))) return true;
    }
    return false;
  }

  #prefixesOf(resource: ClientResource): readonly Prefix[] {
    switch (resource.type) {
      case "cidr":
        return [resource.prefix];
      case "internet":
        return this.#usesInternet ? EVERYTHING : [];
      case "dns":
        return []; // by the addresses of its names, see `domain_table.ts`
    }
  }

  #rebuild(): void {
    const byPrefix = new Map<string, { prefix: Prefix; routes: Route[] }>();
    for (const route of this.#routes.values()) {
      for (const prefix of this.#prefixesOf(route.resource)) {
        const entry = byPrefix.get(prefix.text) ?? { prefix, routes: [] };
        byPrefix.set(prefix.text, entry);
        entry.routes.push(route);
      }
    }
    this.#table = new PrefixTable();
    // Addresses inside the tunnel never belong to the Internet.
    for (const prefix of TUNNEL_RANGES) byPrefix.set(prefix.text, { prefix, routes: [] });
    this.#slots = [];
    for (const { prefix, routes } of byPrefix.values()) {
      routes.sort((a, b) => a.resource.id < b.resource.id ? 1 : -1);
      this.#table.insert(prefix, this.#slots.push(routes) - 1);
    }
  }
}

/** The first that admits the packet, else the first of all. */
function admitting(routes: readonly Route[], packet: PacketRef): Route | undefined {
  for (let i = 0; i < routes.length; i++) {
    if (routes[i]!.filter.admits(packet.protocol, packet.destinationPort)) return routes[i];
  }
  return routes[0];
}
