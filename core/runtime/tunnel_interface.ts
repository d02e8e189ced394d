/**
 * The operating system's side of the tunnel: addresses, routes and the rules that lead to them.
 *
 *     packet of an application ──► rule: not marked as ours ──► table 0x2021fd00 ──► TUN
 *     datagram of our own, marked ──────────────────────────► main table
 *
 * Without the mark a resource that contains the address of a peer or a relay would lead the tunnel's
 * own datagrams into the tunnel.
 *
 * The rules outlive a killed process; without the routes, which go with the device, they do nothing.
 * The next start takes them over.
 * @module
 */

import type { IpAddress, Prefix } from "../ip/mod.ts";
import { type Route, Rtnetlink, type Rule } from "../os/linux/mod.ts";
import { FIREZONE_MARK } from "./data_plane.ts";

/** Largest packet inside the tunnel, in bytes. */
export const TUNNEL_MTU = 1280;

/** The routing table that holds nothing but what goes into the tunnel. */
export const TUNNEL_TABLE = 0x2021fd00;

const RULE_PRIORITY = 100;
const TRANSMIT_QUEUE_LENGTH = 10_000;

/** See the head of this file. */
export class TunnelInterface {
  readonly #netlink: Rtnetlink;
  readonly #index: number;
  readonly #routes = new Map<string, Prefix>();
  #wanted: readonly Prefix[] = [];
  #hasAddresses = false;

  /**
   * Takes charge of a TUN device that exists.
   *
   * @throws OsError when the network may not be configured
   */
  static attach(name: string): TunnelInterface {
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
      for (const rule of rules()) netlink.addRule(rule);
      return new TunnelInterface(netlink, link.index);
    } catch (error) {
      netlink.close();
      throw error;
    }
  }

  private constructor(netlink: Rtnetlink, index: number) {
    this.#netlink = netlink;
    this.#index = index;
  }

  /** Gives the device these addresses and no others. @throws OsError */
  setAddresses(ipv4: IpAddress, ipv6: IpAddress): void {
    const wanted = new Map([ipv4, ipv6].map((ip) => [ip.text, ip]));
    for (const { ip, prefixLength } of this.#netlink.addresses(this.#index)) {
      if (!wanted.delete(ip.text)) this.#netlink.removeAddress(this.#index, ip, prefixLength);
    }
    for (const ip of wanted.values()) {
      this.#netlink.addAddress(this.#index, ip, ip.bytes.length * 8);
    }
    this.#hasAddresses = true;
    // Removing an address takes the routes along that it was the source of.
    this.#routes.clear();
    this.#applyRoutes();
  }

  /** Leads these ranges and no others into the tunnel, as soon as there are addresses. @throws OsError */
  setRoutes(routes: readonly Prefix[]): void {
    this.#wanted = routes;
    this.#applyRoutes();
  }

  /** Removes rules and routes; the device goes with its descriptor. */
  close(): void {
    for (const rule of rules()) this.#netlink.removeRule(rule);
    for (const prefix of this.#routes.values()) this.#netlink.removeRoute(this.#route(prefix));
    this.#netlink.close();
  }

  #applyRoutes(): void {
    if (!this.#hasAddresses) return;
    const wanted = new Map(this.#wanted.map((prefix) => [prefix.text, prefix]));
    for (const [text, prefix] of this.#routes) {
      if (wanted.has(text)) continue;
      this.#netlink.removeRoute(this.#route(prefix));
      this.#routes.delete(text);
    }
    for (const [text, prefix] of wanted) {
      if (this.#routes.has(text)) continue;
      this.#netlink.addRoute(this.#route(prefix));
      this.#routes.set(text, prefix);
    }
  }

  #route(destination: Prefix): Route {
    return { destination, table: TUNNEL_TABLE, interfaceIndex: this.#index };
  }
}

function rules(): Rule[] {
  return ([4, 6] as const).map((family) => ({
    family,
    priority: RULE_PRIORITY,
    table: TUNNEL_TABLE,
    mark: FIREZONE_MARK,
    inverted: true,
  }));
}
