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
  readonly #states = new Map<string, Entry>();
  readonly #assignments: DomainAtGateway[] = [];

  /** What to do with a packet: `kept` means that it was taken. */
  handlePacket(
    now: Millis,
    at: DomainAtGateway,
    buf: Uint8Array,
    start: number,
    end: number,
  ): "send" | "kept" | "dropped" {
    const key = keyOf(at);
    let entry = this.#states.get(key);
    if (!entry) {
      const packets = new WaitingPackets(MAX_PACKETS_PER_DOMAIN);
      entry = { ...at, state: { tag: "pending", packets, repeatAt: now } };
      this.#states.set(key, entry);
    }
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
    for (const [key, entry] of this.#states) {
      if (entry.domain !== domain) continue;
      if (entry.state.tag === "failed") this.#states.delete(key);
      else {
        if (entry.state.tag === "confirmed") entry.state = { tag: "renewing", repeatAt: now };
        this.#assign(now, entry);
      }
    }
  }

  /** The gateway's answer; returns the packets that waited for it. */
  handleStatus(at: DomainAtGateway, isActive: boolean): readonly Uint8Array[] {
    const entry = this.#states.get(keyOf(at));
    if (!entry || entry.state.tag === "failed") return [];
    const waiting = entry.state.tag === "pending" && isActive ? entry.state.packets.take() : [];
    entry.state = { tag: isActive ? "confirmed" : "failed" };
    return waiting;
  }

  /** A gateway is gone, and what it knew with it. */
  dropGateway(gatewayId: string): void {
    for (const [key, entry] of this.#states) {
      if (entry.gatewayId === gatewayId) this.#states.delete(key);
    }
  }

  /** A resource is gone. */
  dropResource(resourceId: string): void {
    for (const [key, entry] of this.#states) {
      if (entry.resourceId === resourceId) this.#states.delete(key);
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#states.clear();
    this.#assignments.length = 0;
  }

  /** The next name that a gateway has to be told about. */
  pollAssignment(): DomainAtGateway | undefined {
    return this.#assignments.shift();
  }

  #assign(now: Millis, entry: Entry): void {
    const { state, gatewayId, resourceId, domain } = entry;
    if (!("repeatAt" in state) || now < state.repeatAt) return;
    entry.state = { ...state, repeatAt: after(now, ASSIGN_INTERVAL_MS) };
    this.#assignments.push({ gatewayId, resourceId, domain });
  }
}

function keyOf({ gatewayId, resourceId, domain }: DomainAtGateway): string {
  return `${gatewayId} ${resourceId} ${domain}`;
}
