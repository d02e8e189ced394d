/**
 * What each gateway knows about the names that we use through it: it must be told which addresses
 * stand for a name before it can translate them.
 *
 *     none ── packet ──► pending, packets wait ── Active ──► confirmed ── name asked again ──┐
 *                           │                                    ▲                           ▼
 *                           └── Inactive ──► failed              └──── Active ──── renewing, packets go on
 *                                              └── name asked again ──► none
 *
 * The message may be lost like any packet; it is repeated by later packets and queries, two seconds
 * apart at least.
 * @module
 */

import { WaitingPackets } from "@firezone/core/ip";
import { after, type Millis } from "@firezone/core/units";

/** An unanswered message is repeated no sooner. */
export const ASSIGN_INTERVAL_MS = 2_000;

/** Packets kept per name while the gateway sets up; the oldest goes first. */
export const MAX_PACKETS_PER_DOMAIN = 32;

/** A name at a gateway. */
export interface DomainAtGateway {
  /** The gateway. */
  readonly gatewayId: string;
  /** The resource by which the name is reached. */
  readonly resourceId: string;
  /** The name. */
  readonly domain: string;
}

type State =
  | { readonly tag: "pending"; readonly packets: WaitingPackets; readonly repeatAt: Millis }
  | { readonly tag: "renewing"; readonly repeatAt: Millis }
  | { readonly tag: "confirmed" }
  | { readonly tag: "failed" };

interface Entry extends DomainAtGateway {
  state: State;
}

/** See the head of this file. */
export class DomainNats {
  /** A name is known to few gateways, so they are looked through. */
  readonly #byDomain = new Map<string, Entry[]>();
  readonly #assignments: DomainAtGateway[] = [];

  /** What to do with a packet: `kept` means that it was taken. */
  handlePacket(
    now: Millis,
    gatewayId: string,
    resourceId: string,
    domain: string,
    buf: Uint8Array,
    start: number,
    end: number,
  ): "send" | "kept" | "dropped" {
    const entry = this.#find(gatewayId, resourceId, domain) ??
      this.#add(now, { gatewayId, resourceId, domain });
    const state: State = entry.state;
    switch (state.tag) {
      case "confirmed":
        return "send";
      case "failed":
        return "dropped";
      case "renewing":
        this.#assign(now, entry);
        return "send";
      case "pending":
        this.#assign(now, entry);
        state.packets.add(buf, start, end);
        return "kept";
    }
  }

  /** The name was asked for again, so its addresses may be others now. */
  handleQuery(now: Millis, domain: string): void {
    this.#keep(domain, ({ state }) => state.tag !== "failed");
    for (const entry of this.#byDomain.get(domain) ?? []) {
      if (entry.state.tag === "confirmed") entry.state = { tag: "renewing", repeatAt: now };
      this.#assign(now, entry);
    }
  }

  /** The gateway's answer; returns the packets that waited for it. */
  handleStatus(at: DomainAtGateway, isActive: boolean): readonly Uint8Array[] {
    const entry = this.#find(at.gatewayId, at.resourceId, at.domain);
    if (!entry || entry.state.tag === "failed") return [];
    const waiting = entry.state.tag === "pending" && isActive ? entry.state.packets.take() : [];
    entry.state = { tag: isActive ? "confirmed" : "failed" };
    return waiting;
  }

  /** A gateway is gone, and what it knew with it. */
  dropGateway(gatewayId: string): void {
    this.#keepAll((entry) => entry.gatewayId !== gatewayId);
  }

  /** A resource is gone. */
  dropResource(resourceId: string): void {
    this.#keepAll((entry) => entry.resourceId !== resourceId);
  }

  /** A name has no addresses any more. */
  dropDomain(domain: string): void {
    this.#byDomain.delete(domain);
  }

  /** Forgets everything. */
  clear(): void {
    this.#byDomain.clear();
    this.#assignments.length = 0;
  }

  /** The next name that a gateway has to be told about. */
  pollAssignment(): DomainAtGateway | undefined {
    return this.#assignments.shift();
  }

  /** Allocates nothing. */
  #find(gatewayId: string, resourceId: string, domain: string): Entry | undefined {
    const entries = this.#byDomain.get(domain);
    if (!entries) return undefined;
    for (let i = 0; i < entries.length; i++) {
      const entry = entries[i]!;
      if (entry.gatewayId === gatewayId && entry.resourceId === resourceId) return entry;
    }
    return undefined;
  }

  #add(now: Millis, at: DomainAtGateway): Entry {
    const packets = new WaitingPackets(MAX_PACKETS_PER_DOMAIN);
    const entry: Entry = { ...at, state: { tag: "pending", packets, repeatAt: now } };
    const entries = this.#byDomain.get(at.domain);
    if (entries) entries.push(entry);
    else this.#byDomain.set(at.domain, [entry]);
    return entry;
  }

  #keepAll(isKept: (entry: Entry) => boolean): void {
    for (const domain of this.#byDomain.keys()) this.#keep(domain, isKept);
  }

  #keep(domain: string, isKept: (entry: Entry) => boolean): void {
    const kept = this.#byDomain.get(domain)?.filter(isKept) ?? [];
    if (kept.length > 0) this.#byDomain.set(domain, kept);
    else this.#byDomain.delete(domain);
  }

  #assign(now: Millis, entry: Entry): void {
    const { state, gatewayId, resourceId, domain } = entry;
    if (!("repeatAt" in state) || now < state.repeatAt) return;
    entry.state = { ...state, repeatAt: after(now, ASSIGN_INTERVAL_MS) };
    this.#assignments.push({ gatewayId, resourceId, domain });
  }
}
