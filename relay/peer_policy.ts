/**
 * Which peers a client may reach through the relay.
 *
 * A relay stands where its clients do not: what listens on its loopback, on its link or on its own
 * addresses trusts that. So those are refused (403), unless the operator allows them.
 * @module
 */

import { type IpAddress, type Prefix, prefix, type SocketAddress } from "@firezone/core/ip";
import type { PortRange } from "./port_pool.ts";

/** This network, loopback, link-local, multicast, reserved; IPv4 inside IPv6 would get around it. */
const DENIED: readonly Prefix[] = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/4",
  "240.0.0.0/4",
  "::/96",
  "::ffff:0:0/96",
  "fe80::/10",
  "ff00::/8",
].map(prefix);

/** The loopback networks, for relays that serve this machine alone. */
export const LOOPBACK: readonly Prefix[] = ["127.0.0.0/8", "::1/128"].map(prefix);

/** What a {@link PeerPolicy} decides by. */
export interface PeerPolicyOptions {
  /** Addresses on which allocations are reached. */
  readonly publicAddresses: readonly IpAddress[];
  /** Ports that allocations get. */
  readonly ports: PortRange;
  /** All other addresses of this machine. */
  readonly ownAddresses?: readonly IpAddress[] | undefined;
  /** Reachable whatever else holds. */
  readonly allow?: readonly Prefix[] | undefined;
}

/** What a client gets who asks for a peer: a way out, another client of ours, or a refusal. */
export type PeerVerdict = "outside" | "own-allocation" | "denied";

/** Judges a peer, once per channel binding. */
export class PeerPolicy {
  readonly #public: ReadonlySet<string>;
  readonly #ports: PortRange;
  readonly #own: ReadonlySet<string>;
  readonly #allow: readonly Prefix[];

  /** A policy for one machine. */
  constructor(options: PeerPolicyOptions) {
    this.#public = new Set(options.publicAddresses.map((ip) => ip.text));
    this.#ports = options.ports;
    this.#own = new Set(options.ownAddresses?.map((ip) => ip.text));
    this.#allow = options.allow ?? [];
  }

  /** Whether a channel may be bound to this peer, and where its packets go. */
  judge(peer: SocketAddress): PeerVerdict {
    if (contains(this.#allow, peer.ip)) return "outside";
    if (this.#public.has(peer.ip.text)) {
      const { lowest, highest } = this.#ports;
      return peer.port >= lowest && peer.port <= highest ? "own-allocation" : "denied";
    }
    return this.#own.has(peer.ip.text) || contains(DENIED, peer.ip) ? "denied" : "outside";
  }
}

function contains(prefixes: readonly Prefix[], ip: IpAddress): boolean {
  return prefixes.some((p) => p.contains(ip));
}
