/**
 * What a set of resources admits, ready for the packet path; shared by all clients with that set.
 *
 *     proxy address of a name        any DNS resource that the name belongs to admits it
 *     address of a CIDR resource     any CIDR resource that contains it admits it
 *     any other                      the Internet resource, unless the address is not public
 *
 * The portal decides which resource a name belongs to by the pattern of the resource; which address
 * stands for which name is known to the client's NAT.
 *
 * A gateway has many clients and few sets of resources. Shared, the tables stay in the processor's
 * cache; one of its own for every client would be fetched from memory for most of its packets.
 * @module
 */

import { NamePattern } from "@firezone/core/dns";
import { type PacketRef, type Prefix, PrefixTable, TrafficFilter } from "@firezone/core/ip";
import type { GatewayResource } from "@firezone/core/portal";
import { isPublicAddress } from "./public_addresses.ts";

/** What happens to a packet that a client sends. */
export type Verdict =
  | "admitted"
  /** No resource admits it. */
  | "prohibited"
  /** The Internet resource is all that could admit it, and does not lead there. */
  | "unreachable";

/** A DNS resource whose pattern makes sense. */
interface Name {
  readonly pattern: NamePattern;
  readonly filter: TrafficFilter;
}

/** See the head of this file; does not change. */
export class AccessRules {
  /** Per distinct prefix, the filters of the resources that contain all of it. */
  readonly #slots: (readonly TrafficFilter[])[] = [];
  readonly #table = new PrefixTable();
  readonly #names = new Map<string, Name>();
  readonly #hasInternet: boolean;

  /** The rules of some resources with different ids. */
  constructor(resources: readonly GatewayResource[]) {
    this.#hasInternet = resources.some(({ type }) => type === "internet");
    const entries: { prefix: Prefix; filter: TrafficFilter }[] = [];
    for (const resource of resources) {
      if (resource.type === "internet") continue;
      const filter = new TrafficFilter(resource.filters);
      if (resource.type === "cidr") entries.push({ prefix: resource.prefix, filter });
      else {
        const pattern = NamePattern.parse(resource.pattern);
        if (pattern !== undefined) this.#names.set(resource.id, { pattern, filter });
      }
    }
    // A longer prefix takes over the filters of the shorter ones that contain it.
    for (const { prefix } of entries) {
      if (this.#table.get(prefix) >= 0) continue;
      const filters = entries
        .filter((other) => other.prefix.length <= prefix.length && other.prefix.contains(prefix.ip))
        .map((other) => other.filter);
      this.#table.insert(prefix, this.#slots.push(filters) - 1);
    }
  }

  /** Whether a name belongs to a DNS resource that is authorised.
   * @param domain in lower case, without a final dot */
  mayResolve(resourceId: string, domain: string): boolean {
    return this.#names.get(resourceId)?.pattern.matches(domain) ?? false;
  }

  /** What happens to a packet of the client, for any destination but a proxy address. */
  checkOutbound(buf: Uint8Array, packet: PacketRef): Verdict {
    const slot = this.#table.lookup(packet.version, buf, packet.destinationOffset);
    if (slot >= 0) {
      const { protocol, destinationPort } = packet;
      return anyAdmits(this.#slots[slot]!, protocol, destinationPort) ? "admitted" : "prohibited";
    }
    if (!this.#hasInternet) return "prohibited";
    const { version, destinationOffset } = packet;
    return isPublicAddress(version, buf, destinationOffset) ? "admitted" : "unreachable";
  }

  /** Whether this packet of a resource may go to the client; for any source but a proxy address. */
  admitsInbound(buf: Uint8Array, packet: PacketRef): boolean {
    const slot = this.#table.lookup(packet.version, buf, packet.sourceOffset);
    if (slot >= 0) return anyAdmits(this.#slots[slot]!, packet.protocol, packet.sourcePort);
    return this.#hasInternet && isPublicAddress(packet.version, buf, packet.sourceOffset);
  }

  /**
   * Whether traffic with a name is allowed, in either direction.
   *
   * @param resourceIds the resources that the name belongs to, as its client says
   * @param port on the resource's side
   */
  admitsName(resourceIds: readonly string[], protocol: number, port: number): boolean {
    for (let i = 0; i < resourceIds.length; i++) {
      if (this.#names.get(resourceIds[i]!)?.filter.admits(protocol, port)) return true;
    }
    return false;
  }
}

/** The rules of clients without resources, which are never let go. */
const NOTHING = new AccessRules([]);

/** Lends the same rules to everybody with the same resources, as long as there is somebody. */
export class AccessRulesPool {
  readonly #byContent = new Map<string, { readonly rules: AccessRules; users: number }>();
  readonly #contents = new Map<AccessRules, string>();

  /** Distinct rules that are in use. */
  get size(): number {
    return this.#byContent.size;
  }

  /** The rules of these resources; each call is answered by one of {@link release}. */
  acquire(resources: readonly GatewayResource[]): AccessRules {
    if (resources.length === 0) return NOTHING;
    const content = resources.map(textOf).sort().join("\n");
    let entry = this.#byContent.get(content);
    if (entry === undefined) {
      entry = { rules: new AccessRules(resources), users: 0 };
      this.#byContent.set(content, entry);
      this.#contents.set(entry.rules, content);
    }
    entry.users++;
    return entry.rules;
  }

  /** Somebody does not use these rules any more. */
  release(rules: AccessRules): void {
    const content = this.#contents.get(rules);
    if (content === undefined) return;
    const entry = this.#byContent.get(content)!;
    if (--entry.users > 0) return;
    this.#byContent.delete(content);
    this.#contents.delete(rules);
  }
}

function anyAdmits(filters: readonly TrafficFilter[], protocol: number, port: number): boolean {
  for (let i = 0; i < filters.length; i++) {
    if (filters[i]!.admits(protocol, port)) return true;
  }
  return false;
}

/** All of a resource that its rules are made of. */
function textOf(resource: GatewayResource): string {
  const { type, filters } = resource;
  switch (type) {
    case "cidr":
      return JSON.stringify([type, resource.prefix.text, filters]);
    case "dns":
      return JSON.stringify([type, resource.id, resource.pattern, filters]);
    case "internet":
      return type;
  }
}
