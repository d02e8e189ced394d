/**
 * A simulated network address translator for UDP, in the terms of RFC 4787.
 *
 * *Mapping* (§4.1): which external port an internal endpoint gets, depending on where it sends.
 * *Filtering* (§5): from where datagrams to that port are let in. A device that translates nothing
 * but filters, as homes do with IPv6, is the same with a mapping that keeps address and port.
 *
 * Owns: mappings and their expiry. Does not own: delivery, see `network.ts`.
 * @module
 */

import { type IpAddress, SocketAddress } from "../ip/address.ts";
import { randomBelow, type RandomBytes } from "../random.ts";
import type { Millis } from "../units.ts";

/** Upon what of the remote endpoint a mapping or a filter depends (RFC 4787 §4.1, §5). */
export type Dependence =
  | "endpoint-independent"
  | "address-dependent"
  | "address-and-port-dependent";

/** How a NAT behaves; the defaults are those of most homes. */
export interface NatOptions {
  /** Default `endpoint-independent`; anything else is what people call symmetric. */
  readonly mapping?: Dependence;
  /** Default `address-and-port-dependent`. */
  readonly filtering?: Dependence;
  /**
   * Which external port a new mapping gets (§4.2): the internal one if it is free and the next free
   * one otherwise (default), ports in turn from 1024, or any.
   */
  readonly ports?: "preserved" | "sequential" | "random";
  /** Life of a mapping without outbound traffic, in milliseconds (§4.3); default 120 000. */
  readonly mappingTimeoutMs?: number;
  /** Whether inbound traffic prolongs a mapping too (§4.3); default false. */
  readonly inboundRefresh?: boolean;
  /** Whether hosts inside reach each other by their external endpoints (§6); default false. */
  readonly hairpinning?: boolean;
}

/** The usual kinds under their usual names. */
export const NAT_KINDS = {
  /** Anyone may send to a mapping. */
  fullCone: { filtering: "endpoint-independent" },
  /** Only addresses that were sent to may answer. */
  restrictedCone: { filtering: "address-dependent" },
  /**
   * Only endpoints that were sent to may answer. Linux masquerades UDP like this as long as two
   * hosts behind it do not ask for the same port.
   */
  portRestrictedCone: { filtering: "address-and-port-dependent" },
  /** A random port for every destination, open to that destination alone. */
  symmetric: {
    mapping: "address-and-port-dependent",
    filtering: "address-and-port-dependent",
    ports: "random",
  },
} as const satisfies Record<string, NatOptions>;

/** One internal endpoint's hold on an external port. */
interface Mapping {
  readonly key: string;
  readonly internal: SocketAddress;
  readonly external: SocketAddress;
  expiresAt: number;
  /** When each remote, in the filter's terms, stops being welcome. */
  readonly welcome: Map<string, number>;
}

/** See the head of this file. Handles one address family. */
export class Nat {
  /** Whether hosts inside reach each other by their external endpoints. */
  readonly hairpinning: boolean;
  readonly #externalIp: IpAddress | undefined;
  readonly #mapping: Dependence;
  readonly #filtering: Dependence;
  readonly #ports: "preserved" | "sequential" | "random";
  readonly #timeoutMs: number;
  readonly #inboundRefresh: boolean;
  readonly #random: RandomBytes;
  readonly #byKey = new Map<string, Mapping>();
  readonly #byExternal = new Map<string, Mapping>();
  #nextPort = 1024;

  /** A NAT without mappings.
   * @param externalIp its address outside; undefined for a firewall that translates nothing */
  constructor(externalIp: IpAddress | undefined, options: NatOptions, random: RandomBytes) {
    this.#externalIp = externalIp;
    // A firewall keeps addresses and ports, so every endpoint has exactly one mapping.
    this.#mapping = externalIp && options.mapping || "endpoint-independent";
    this.#filtering = options.filtering ?? "address-and-port-dependent";
    this.#ports = options.ports ?? "preserved";
    this.#timeoutMs = options.mappingTimeoutMs ?? 120_000;
    this.#inboundRefresh = options.inboundRefresh ?? false;
    this.hairpinning = options.hairpinning ?? false;
    this.#random = random;
  }

  /** Its address outside; undefined for a firewall. */
  get externalIp(): IpAddress | undefined {
    return this.#externalIp;
  }

  /** Number of mappings that have not expired. */
  mappings(now: Millis): number {
    this.#expire(now);
    return this.#byKey.size;
  }

  /** Takes a datagram on its way out; returns the source address that it leaves with. */
  translateOutbound(now: Millis, from: SocketAddress, to: SocketAddress): SocketAddress {
    this.#expire(now);
    const key = `${from.key} ${part(this.#mapping, to)}`;
    let mapping = this.#byKey.get(key);
    if (mapping === undefined) {
      const external = this.#externalIp === undefined
        ? from
        : new SocketAddress(this.#externalIp, this.#choosePort(this.#externalIp, from.port));
      mapping = { key, internal: from, external, expiresAt: 0, welcome: new Map() };
      this.#byKey.set(key, mapping);
      this.#byExternal.set(external.key, mapping);
    }
    mapping.expiresAt = now + this.#timeoutMs;
    mapping.welcome.set(part(this.#filtering, to), mapping.expiresAt);
    return mapping.external;
  }

  /** Takes a datagram on its way in; returns the internal endpoint, or undefined: filtered. */
  translateInbound(now: Millis, from: SocketAddress, to: SocketAddress): SocketAddress | undefined {
    this.#expire(now);
    const mapping = this.#byExternal.get(to.key);
    if (mapping === undefined) return undefined;
    const remote = part(this.#filtering, from);
    if (this.#filtering !== "endpoint-independent") {
      const until = mapping.welcome.get(remote);
      if (until === undefined || until <= now) return undefined;
    }
    if (this.#inboundRefresh) {
      mapping.expiresAt = now + this.#timeoutMs;
      mapping.welcome.set(remote, mapping.expiresAt);
    }
    return mapping.internal;
  }

  /** Forgets all mappings, as a router does that restarts. */
  reset(): void {
    this.#byKey.clear();
    this.#byExternal.clear();
  }

  #expire(now: Millis): void {
    for (const mapping of [...this.#byKey.values()]) {
      if (mapping.expiresAt > now) continue;
      this.#byKey.delete(mapping.key);
      this.#byExternal.delete(mapping.external.key);
    }
  }

  #choosePort(ip: IpAddress, internalPort: number): number {
    let port = internalPort;
    if (this.#ports === "sequential") port = this.#nextPort;
    if (this.#ports === "random") port = 1024 + randomBelow(this.#random, 65536 - 1024);
    for (let tries = 0; tries < 65536; tries++) {
      if (!this.#byExternal.has(`${ip.family === 4 ? ip.text : `[${ip.text}]`}:${port}`)) {
        this.#nextPort = port === 65535 ? 1024 : port + 1;
        return port;
      }
      port = port === 65535 ? 1024 : port + 1;
    }
    throw new Error(`No free port left on ${ip}: a simulation must not need so many`);
  }
}

/** The part of a remote endpoint that matters. */
function part(dependence: Dependence, remote: SocketAddress): string {
  if (dependence === "endpoint-independent") return "";
  return dependence === "address-dependent" ? remote.ip.text : remote.key;
}
