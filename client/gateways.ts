/**
 * The gateways that carry resources of ours: their addresses inside the tunnel, their sites, and
 * which of them were connected lately.
 *
 * Owns: what is known of gateways and, through them, of sites. Does not own: connections, and which
 * resource goes through which gateway.
 * @module
 */

import { type IpAddress, isAddressAt, type PacketRef } from "@firezone/core/ip";
import type { FlowCreated } from "@firezone/core/portal";
import type { Millis } from "@firezone/core/units";
import { isInTunnelRange } from "./address_plan.ts";
import { type SiteStatus, SiteStatuses } from "./site_statuses.ts";

/** Gateways remembered as connected lately, for the portal's choice. */
const MAX_RECENT = 100;

interface Gateway {
  /** Its addresses inside the tunnel; older portals do not tell them. */
  readonly ips: FlowCreated["gatewayIps"];
  readonly siteId: string;
}

/** See the head of this file. */
export class Gateways {
  readonly #known = new Map<string, Gateway>();
  readonly #sites = new SiteStatuses();
  /** Most recent first. */
  #recent: string[] = [];

  /** A gateway carries a resource from now on. @param isConnected whether that works already */
  add({ gatewayId, gatewayIps, siteId }: FlowCreated, isConnected: boolean): void {
    this.#known.set(gatewayId, { ips: gatewayIps, siteId });
    if (isConnected) this.#sites.noteOnline(siteId);
  }

  /** A connection to a gateway stands. */
  noteConnected(gatewayId: string): void {
    const others = this.#recent.filter((id) => id !== gatewayId);
    this.#recent = [gatewayId, ...others].slice(0, MAX_RECENT);
    const siteId = this.#known.get(gatewayId)?.siteId;
    if (siteId !== undefined) this.#sites.noteOnline(siteId);
  }

  /** A gateway carries nothing any more. */
  forget(gatewayId: string): void {
    const siteId = this.#known.get(gatewayId)?.siteId;
    this.#known.delete(gatewayId);
    for (const other of this.#known.values()) if (other.siteId === siteId) return;
    if (siteId !== undefined) this.#sites.forget(siteId);
  }

  /** A gateway is lost: whoever asks again should get one that answers. */
  lose(gatewayId: string): void {
    this.forget(gatewayId);
    this.#recent = this.#recent.filter((id) => id !== gatewayId);
  }

  /** The portal finds no gateway in these sites. */
  noteOffline(now: Millis, siteIds: readonly string[]): void {
    for (const id of siteIds) this.#sites.noteOffline(now, id);
  }

  /** Forgets all but who was connected lately. */
  clear(): void {
    this.#known.clear();
    this.#sites.clear();
  }

  /** The order in which the portal is to look. @param wished comes first */
  preferred(wished?: string): readonly string[] {
    const others = this.#recent.filter((id) => id !== wished);
    return wished === undefined ? others : [wished, ...others];
  }

  /** A gateway's IPv4 address inside the tunnel. */
  ipv4Of(gatewayId: string): IpAddress | undefined {
    return this.#known.get(gatewayId)?.ips?.ipv4;
  }

  /** The gateway whose tunnel address is at `buf[offset]`, in a packet that `packet` describes. */
  at(buf: Uint8Array, packet: PacketRef, offset: number): string | undefined {
    if (!isInTunnelRange(buf, packet, offset)) return undefined;
    for (const [gatewayId, { ips }] of this.#known) {
      if (ips && isAddressAt(packet.version === 4 ? ips.ipv4 : ips.ipv6, buf, offset)) {
        return gatewayId;
      }
    }
    return undefined;
  }

  /** What is known of these sites, taken together. */
  siteStatus(siteIds: readonly string[]): SiteStatus {
    return this.#sites.of(siteIds);
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#sites.handleTimeout(now);
  }

  /** The earliest deadline. */
  pollTimeout(): Millis {
    return this.#sites.pollTimeout();
  }
}
