/**
 * A simulated router: translates the families it has an address of, filters what it merely routes.
 * @module
 */

import { type Family, ip, type IpAddress, type Prefix, prefix } from "../ip/address.ts";
import type { SocketAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import type { Millis } from "../units.ts";
import { Link, type LinkOptions } from "./link.ts";
import { Nat, type NatOptions } from "./nat.ts";

/** A router between the Internet, or another router's inside, and a segment of its own. */
export interface RouterOptions {
  /** Its addresses outside, at most one per family: a family that has one is translated. */
  readonly addresses?: readonly string[];
  /** What it routes inside without translating, as usual with IPv6. */
  readonly prefixes?: readonly string[];
  /** How it translates. */
  readonly nat?: NatOptions;
  /**
   * How it filters what it does not translate: as a stateful firewall, to which the options about
   * mappings mean nothing, or not at all. Default: a firewall that lets answers in.
   */
  readonly firewall?: NatOptions | "open";
  /** The router that it is itself behind; default none. */
  readonly behind?: Router | undefined;
  /** Its link to the outside; default 5 ms one way, without loss. */
  readonly link?: LinkOptions;
}

/** Made by `Network.addRouter`. */
export class Router {
  /** Its link to the outside, to be made better or worse at any time. */
  readonly link: Link;
  /** Its addresses outside. */
  readonly addresses: readonly IpAddress[];
  /** What it routes inside without translating. */
  readonly prefixes: readonly Prefix[];
  readonly #nats: readonly Nat[];
  readonly #firewall: Nat | undefined;

  /** A router without mappings. */
  constructor(
    /** For messages. */
    readonly name: string,
    options: RouterOptions,
    random: RandomBytes,
  ) {
    this.link = new Link(options.link);
    this.addresses = (options.addresses ?? []).map(ip);
    this.prefixes = (options.prefixes ?? []).map(prefix);
    this.#nats = this.addresses.map((address) => new Nat(address, options.nat ?? {}, random));
    this.#firewall = options.firewall === "open"
      ? undefined
      : new Nat(undefined, options.firewall ?? {}, random);
  }

  /** The translator of a family, for tests that look at its mappings. */
  nat(family: Family): Nat | undefined {
    return this.#nats.find((nat) => nat.externalIp?.family === family);
  }

  /** Whether it has this address outside. */
  owns(address: IpAddress): boolean {
    return this.addresses.some((own) => own.equals(address));
  }

  /** Whether hosts inside reach each other by this address of the router. */
  hairpins(address: IpAddress): boolean {
    return this.nat(address.family)?.hairpinning ?? false;
  }

  /** Takes a datagram on its way out; returns the source it leaves with, undefined for none. */
  translateOutbound(
    now: Millis,
    from: SocketAddress,
    to: SocketAddress,
  ): SocketAddress | undefined {
    if (this.#isRouted(from.ip)) return this.#firewall?.translateOutbound(now, from, to) ?? from;
    return this.nat(from.family)?.translateOutbound(now, from, to);
  }

  /** Takes a datagram on its way in; returns its destination inside, undefined where filtered. */
  translateInbound(now: Millis, from: SocketAddress, to: SocketAddress): SocketAddress | undefined {
    if (this.owns(to.ip)) return this.nat(to.family)?.translateInbound(now, from, to);
    return this.#firewall ? this.#firewall.translateInbound(now, from, to) : to;
  }

  /** Forgets all mappings, as by a restart. */
  reset(): void {
    for (const nat of this.#nats) nat.reset();
    this.#firewall?.reset();
  }

  #isRouted(address: IpAddress): boolean {
    return this.prefixes.some((prefix) => prefix.contains(address));
  }
}
