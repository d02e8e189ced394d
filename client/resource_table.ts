/**
 * The resources that the portal lets us reach, and the one that a packet is meant for.
 *
 *     address of a CIDR resource   of all that contain it, one whose filters admit the packet
 *     address of the tunnel        none
 *     any other                    the Internet resource, if it is switched on
 *
 * Among those that admit the packet, or among all if none does, the longest prefix wins, then the
 * larger id, so that the choice is the same after every restart.
 * @module
 */

import { type PacketRef, type Prefix, prefix, PrefixTable, TrafficFilter } from "@firezone/core/ip";
import type { Connection } from "@firezone/core/connectivity";
import type { ClientResource, Filter } from "@firezone/core/portal";
import { isInProxyRange, isInTunnelRange } from "./address_plan.ts";
import { hasFamily } from "./ip_stack.ts";

const EVERYTHING = [prefix("0.0.0.0/0"), prefix("::/0")];

/** A resource together with the way its packets take now. */
export class Route {
  /** What the resource admits. */
  readonly filter: TrafficFilter;
  /** The gateway that carries it, once the portal named one. */
  gatewayId: string | undefined;
  /** The connection to that gateway, while there is one. */
  connection: Connection | undefined;

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
  }

  /** Has no gateway any more; the next packet asks for one. */
  detach(): void {
    this.gatewayId = undefined;
    this.connection = undefined;
  }
}

/** All routes by resource id, and by address. */
export class ResourceTable {
  readonly #routes = new Map<string, Route>();
  /** Per distinct prefix, the routes that contain all of it, in the order of preference. */
  #slots: Route[][] = [];
  #table = new PrefixTable();
  /** Routes of Internet resources; larger ids first. */
  #internet: Route[] = [];
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
    const routes = this.#routesAt(buf, packet, packet.destinationOffset);
    return admitting(routes, packet.protocol, packet.destinationPort);
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
    const routes = this.#routesAt(buf, packet, packet.sourceOffset);
    for (let i = 0; i < routes.length; i++) if (routes[i]!.connection === connection) return true;
    return false;
  }

  /** The routes of an address, in the order of preference. */
  #routesAt(buf: Uint8Array, packet: PacketRef, offset: number): readonly Route[] {
    const slot = this.#table.lookup(packet.version, buf, offset);
    if (slot >= 0) return this.#slots[slot]!;
    if (!this.#usesInternet) return NO_ROUTES;
    const isOfTunnel = isInTunnelRange(buf, packet, offset) || isInProxyRange(buf, packet, offset);
    return isOfTunnel ? NO_ROUTES : this.#internet;
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

  /** A longer prefix is followed by the shorter ones that contain it. */
  #rebuild(): void {
    const entries = [...this.#routes.values()].flatMap((route) =>
      route.resource.type === "cidr" ? [{ prefix: route.resource.prefix, route }] : []
    ).sort((a, b) => b.prefix.length - a.prefix.length || byId(a.route, b.route));
    const distinct = new Map(entries.map(({ prefix }) => [prefix.text, prefix]));
    this.#table = new PrefixTable();
    this.#slots = [];
    for (const prefix of distinct.values()) {
      const routes = entries.filter(({ prefix: other }) =>
        other.length <= prefix.length && other.contains(prefix.ip)
      ).map(({ route }) => route);
      this.#table.insert(prefix, this.#slots.push(routes) - 1);
    }
    this.#internet = [...this.#routes.values()]
      .filter((route) => route.resource.type === "internet").sort(byId);
  }
}

const NO_ROUTES: readonly Route[] = [];

function byId(a: Route, b: Route): number {
  return a.resource.id < b.resource.id ? 1 : -1;
}

/** The first that admits the packet, else the first of all. */
function admitting(routes: readonly Route[], protocol: number, port: number): Route | undefined {
  for (let i = 0; i < routes.length; i++) {
    if (routes[i]!.filter.admits(protocol, port)) return routes[i];
  }
  return routes[0];
}

/** Whether two versions of a resource give access to the same, by the same sites. */
export function sameAccess(a: ClientResource, b: ClientResource): boolean {
  return a.type === b.type && addressOf(a) === addressOf(b) &&
    JSON.stringify(a.sites.map((site) => site.id)) ===
      JSON.stringify(b.sites.map((site) => site.id)) &&
    JSON.stringify(filtersOf(a)) === JSON.stringify(filtersOf(b));
}

function addressOf(resource: ClientResource): string | undefined {
  switch (resource.type) {
    case "cidr":
      return resource.prefix.text;
    case "dns":
      return `${resource.pattern} ${resource.ipStack}`;
    case "internet":
      return undefined;
  }
}

function filtersOf(resource: ClientResource): readonly Filter[] {
  return resource.type === "internet" ? [] : resource.filters;
}
