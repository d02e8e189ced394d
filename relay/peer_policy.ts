/**
 * Which peers a client may reach through the relay.
 *
 * A relay stands where its clients do not: what listens on its loopback, on its link or on its own
 * addresses trusts that. So those are refused (403), unless the operator allows them.
 *
 * 1. A port of the allocation range on our own public address is another client of ours: always
 *    reachable, since nothing leaves the relay. Only where that address is on this machine and the
 *    operator has allowed it, its packets go by the kernel, which finds other programs as well.
 * 2. Else the longest prefix that holds the peer decides; of equals the operator's denial before his
 *    allowance before what is built in.
 * 3. What no prefix holds is reachable.
 *
 * The reasons are in `docs/decisions`.
 * @module
 */

import { type IpAddress, Prefix, prefix, type SocketAddress } from "@firezone/core/ip";
import { isInRange, type PortRange } from "./port_pool.ts";

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
  /** Ports that allocations get, of all workers together. */
  readonly ports: PortRange;
  /** All addresses of this machine. */
  readonly ownAddresses?: readonly IpAddress[] | undefined;
  /** What the operator allows. */
  readonly allow?: readonly Prefix[] | undefined;
  /** What the operator denies. */
  readonly deny?: readonly Prefix[] | undefined;
}

/** What a client gets who asks for a peer: a way out, another client of ours, or a refusal. */
export type PeerVerdict = "outside" | "own-allocation" | "denied";

interface Rule {
  readonly prefix: Prefix;
  readonly isAllowed: boolean;
}

/** Judges a peer, once per channel binding. */
export class PeerPolicy {
  readonly #public: ReadonlySet<string>;
  readonly #own: ReadonlySet<string>;
  readonly #ports: PortRange;
  /** Longest prefix first; of equals the one that decides first. */
  readonly #rules: readonly Rule[];

  /** A policy for one machine. */
  constructor(options: PeerPolicyOptions) {
    const { publicAddresses, ports, ownAddresses = [], allow = [], deny = [] } = options;
    this.#public = new Set(publicAddresses.map((ip) => ip.text));
    this.#own = new Set(ownAddresses.map((ip) => ip.text));
    this.#ports = ports;
    // Loopback is covered as a whole; by address it would outrank an allowance of the network.
    const hosts = [...publicAddresses, ...ownAddresses].filter((ip) => !contains(LOOPBACK, ip))
      .map((ip) => new Prefix(ip, ip.bytes.length * 8));
    this.#rules = [
      ...deny.map((prefix) => ({ prefix, isAllowed: false })),
      ...allow.map((prefix) => ({ prefix, isAllowed: true })),
      ...[...hosts, ...DENIED].map((prefix) => ({ prefix, isAllowed: false })),
    ].sort((a, b) => b.prefix.length - a.prefix.length);
  }

  /** Whether a channel may be bound to this peer, and where its packets go. */
  judge(peer: SocketAddress): PeerVerdict {
    const { ip, port } = peer;
    const isAllowed = this.#rules.find(({ prefix }) => prefix.contains(ip))?.isAllowed ?? true;
    const isAllocation = this.#public.has(ip.text) && isInRange(this.#ports, port);
    const isHere = this.#own.has(ip.text) || contains(LOOPBACK, ip);
    if (isAllocation && !(isAllowed && isHere)) return "own-allocation";
    return isAllowed ? "outside" : "denied";
  }
}

function contains(prefixes: readonly Prefix[], ip: IpAddress): boolean {
  return prefixes.some((p) => p.contains(ip));
}
