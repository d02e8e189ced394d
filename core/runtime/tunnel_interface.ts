/**
 * The operating system's side of the tunnel: addresses, routes and the rules that lead to them.
 *
 *     packet of an application       90  to the portal       ──► main table
 *              │                    100  not marked as ours  ──► 0x2021fd00  ranges of resources
 *              └──► rules, in order 200  not marked as ours  ──► 0x2021fd01  networks of our links
 *                                   300  not marked as ours  ──► 0x2021fd02  everything else
 *     datagram of our own, marked ──────────────────────────────► main table
 *
 * Without the mark a resource that contains the address of a peer or a relay would lead the tunnel's
 * own datagrams into the tunnel. Connections that cannot be marked get a rule each that comes first.
 *
 * A default route into the tunnel (the Internet resource) comes after copies of the routes to our
 * neighbours, so that printers and the like stay where they are; a resource that is one of them
 * comes before.
 *
 * Rules, and copies of routes through other devices, outlive a killed process. The next start takes
 * the rules over and removes the rest.
 * @module
 */

import { type Family, type IpAddress, Prefix, type SocketAddress } from "../ip/mod.ts";
import { MAIN_TABLE, OsError, type Route, Rtnetlink, type Rule } from "../os/linux/mod.ts";
import { type Logger, logger } from "../telemetry/logging.ts";
import { FIREZONE_MARK } from "./data_plane.ts";

/** Largest packet inside the tunnel, in bytes. */
export const TUNNEL_MTU = 1280;

/** The routing table of ranges that go into the tunnel. */
export const TUNNEL_TABLE = 0x2021fd00;

/** The routing table of our neighbours' networks, while {@link DEFAULT_TABLE} is in use. */
export const LINK_TABLE = 0x2021fd01;

/** The routing table that leads everything else into the tunnel, if that is wanted. */
export const DEFAULT_TABLE = 0x2021fd02;

/** All routing tables of ours. */
export const TUNNEL_TABLES: readonly number[] = [TUNNEL_TABLE, LINK_TABLE, DEFAULT_TABLE];

const FIRST_PRIORITY = 100;
const BYPASS_PRIORITY = 90;
/** Marks rules as ours, among the protocols that nobody has claimed (rtnetlink.h). */
const BYPASS_PROTOCOL = 242;
const TRANSMIT_QUEUE_LENGTH = 10_000;
const FAMILIES = [4, 6] as const;

/** See the head of this file. */
export class TunnelInterface {
  readonly #netlink: Rtnetlink;
  readonly #index: number;
  readonly #log: Logger;
  readonly #routes = new Map<string, Route>();
  readonly #linkRoutes = new Map<string, Route>();
  readonly #bypass = new Map<string, Rule>();
  readonly #addresses = new Map<Family, IpAddress>();
  #services: readonly IpAddress[] = [];
  #wanted: readonly Prefix[] = [];

  /**
   * Takes charge of a TUN device that exists.
   *
   * @throws OsError when the network may not be configured
   */
  static attach(name: string, log: Logger = logger("network")): TunnelInterface {
    const netlink = new Rtnetlink();
    try {
      const link = netlink.link(name);
      if (!link) throw new Error(`There is no interface ${name}`);
      netlink.changeLink(link.index, {
        mtu: TUNNEL_MTU,
        transmitQueueLength: TRANSMIT_QUEUE_LENGTH,
        noLinkLocalAddress: true,
        up: true,
      });
      for (const rule of leftBypassRules(netlink)) netlink.removeRule(rule);
      for (const family of FAMILIES) netlink.flushRoutes(family, LINK_TABLE);
      for (const rule of rules()) {
        if (netlink.addRule(rule) === "unsupported") {
          log.warn("The kernel cannot route by rules", { family: rule.family });
        }
      }
      return new TunnelInterface(netlink, link.index, log);
    } catch (error) {
      netlink.close();
      throw error;
    }
  }

  private constructor(netlink: Rtnetlink, index: number, log: Logger) {
    this.#netlink = netlink;
    this.#index = index;
    this.#log = log;
  }

  /** Gives the device these addresses, beside {@link setServiceAddresses}, and no others. @throws OsError */
  setAddresses(ipv4: IpAddress, ipv6: IpAddress): void {
    const isSame = this.#addresses.get(4)?.equals(ipv4) && this.#addresses.get(6)?.equals(ipv6);
    // Routes name the address that they are the way from; the kernel would keep some without it.
    if (!isSame) this.#removeRoutes();
    this.#addresses.set(4, ipv4).set(6, ipv6);
    this.#applyAddresses();
    this.#applyRoutes();
  }

  /**
   * Gives the device further addresses, at which something on this machine listens. Nothing is sent
   * from them into the tunnel.
   *
   * @throws OsError
   */
  setServiceAddresses(addresses: readonly IpAddress[]): void {
    this.#services = addresses;
    if (this.#addresses.size > 0) this.#applyAddresses();
  }

  /** Leads these ranges and no others into the tunnel, as soon as there are addresses. @throws OsError */
  setRoutes(routes: readonly Prefix[]): void {
    this.#wanted = routes;
    this.#applyRoutes();
  }

  /**
   * Copies the routes to our neighbours anew, to be called after links, addresses or routes of the
   * machine changed. Does nothing unless everything goes into the tunnel.
   */
  refreshLinkRoutes(): void {
    const wanted = new Map<string, Route>();
    const isNeeded = [...this.#routes.values()].some((route) => route.table === DEFAULT_TABLE);
    if (isNeeded) { for (const route of this.#neighbours()) wanted.set(routeKey(route), route); }
    for (const [key, route] of this.#linkRoutes) {
      if (wanted.has(key)) continue;
      this.#netlink.removeRoute(route);
      this.#linkRoutes.delete(key);
    }
    // The kernel drops routes of a link that goes down, so all are added each time.
    for (const [key, route] of wanted) {
      try {
        this.#netlink.addRoute(route);
        this.#linkRoutes.set(key, route);
      } catch (error) {
        // Its link or address is gone since it was listed; that is a change, which leads here again.
        if (!(error instanceof OsError)) throw error;
        this.#log.debug("Cannot copy a route", { route: key, reason: error.message });
      }
    }
  }

  /**
   * Keeps TCP connections of any program to these endpoints, and no others, out of the tunnel.
   *
   * @throws OsError
   */
  setBypass(endpoints: readonly SocketAddress[]): void {
    const wanted = new Map(endpoints.map((endpoint) => [endpoint.key, bypassRule(endpoint)]));
    for (const [key, rule] of this.#bypass) {
      if (wanted.has(key)) continue;
      this.#netlink.removeRule(rule);
      this.#bypass.delete(key);
    }
    for (const [key, rule] of wanted) {
      if (this.#bypass.has(key)) continue;
      this.#netlink.addRule(rule);
      this.#bypass.set(key, rule);
    }
  }

  /** Removes rules and routes; the device goes with its descriptor. */
  close(): void {
    const leftovers = [
      () => rules().forEach((rule) => this.#netlink.removeRule(rule)),
      () => this.#bypass.forEach((rule) => this.#netlink.removeRule(rule)),
      () => this.#linkRoutes.forEach((route) => this.#netlink.removeRoute(route)),
      () => this.#removeRoutes(),
    ];
    const failures: unknown[] = [];
    for (const remove of leftovers) {
      try {
        remove();
      } catch (error) {
        failures.push(error);
      }
    }
    this.#netlink.close();
    if (failures.length > 0) throw failures[0];
  }

  #applyAddresses(): void {
    const all = [...this.#addresses.values(), ...this.#services];
    const wanted = new Map(all.map((ip) => [ip.text, ip]));
    for (const { ip, prefixLength } of this.#netlink.addresses(this.#index)) {
      if (!wanted.delete(ip.text)) this.#netlink.removeAddress(this.#index, ip, prefixLength);
    }
    for (const ip of wanted.values()) {
      this.#netlink.addAddress(this.#index, ip, ip.bytes.length * 8);
    }
  }

  #removeRoutes(): void {
    for (const route of this.#routes.values()) this.#netlink.removeRoute(route);
    this.#routes.clear();
  }

  #applyRoutes(): void {
    if (this.#addresses.size === 0) return;
    const wanted = new Map(this.#wanted.map((prefix) => [prefix.text, this.#route(prefix)]));
    for (const [text, route] of this.#routes) {
      if (wanted.has(text)) continue;
      this.#netlink.removeRoute(route);
      this.#routes.delete(text);
    }
    // Also those that should be there: somebody may have removed them.
    for (const [text, route] of wanted) {
      this.#netlink.addRoute(route);
      this.#routes.set(text, route);
    }
    this.refreshLinkRoutes();
  }

  #route(destination: Prefix): Route {
    const source = this.#addresses.get(destination.family);
    return {
      destination,
      table: destination.length === 0 ? DEFAULT_TABLE : TUNNEL_TABLE,
      interfaceIndex: this.#index,
      // Left to itself the kernel may choose a service address, which peers do not accept.
      ...source && { source },
    };
  }

  /** Routes to what is on our links. A default route "on the link" (PPP) is not to a neighbour. */
  #neighbours(): Route[] {
    const running = new Set(
      this.#netlink.links()
        .filter((link) => link.isRunning && link.index !== this.#index)
        .map((link) => link.index),
    );
    return FAMILIES.flatMap((family) => this.#netlink.routes(family))
      .filter((route) =>
        route.scope === "link" && route.gateway === undefined && route.destination.length > 0 &&
        running.has(route.interfaceIndex ?? 0) && !isScoped(route.destination)
      )
      .map((route) => ({ ...route, table: LINK_TABLE }));
  }
}

/** Link-local and multicast packets name their interface, which decides for them. */
function isScoped(destination: Prefix): boolean {
  const [first, second] = destination.ip.bytes;
  return destination.family === 6 &&
    (first === 0xff || first === 0xfe && (second! & 0xc0) === 0x80);
}

function routeKey(route: Route): string {
  const { destination, interfaceIndex, metric = 0, source } = route;
  return `${destination} ${interfaceIndex} ${metric} ${source}`;
}

function rules(): Rule[] {
  return FAMILIES.flatMap((family) =>
    TUNNEL_TABLES.map((table, i) => ({
      family,
      priority: FIRST_PRIORITY * (i + 1),
      table,
      mark: FIREZONE_MARK,
      inverted: true,
    }))
  );
}

function bypassRule({ ip, port }: SocketAddress): Rule {
  return {
    family: ip.family,
    priority: BYPASS_PRIORITY,
    table: MAIN_TABLE,
    destination: new Prefix(ip, ip.bytes.length * 8),
    tcpPort: port,
    protocol: BYPASS_PROTOCOL,
  };
}

function leftBypassRules(netlink: Rtnetlink): Rule[] {
  return FAMILIES.flatMap((family) => netlink.rules(family)).filter((rule) =>
    rule.priority === BYPASS_PRIORITY && rule.protocol === BYPASS_PROTOCOL
  );
}
