/**
 * What is known of the sites that resources are served from.
 *
 *     unknown ── connected to a gateway of it ──► online ── that connection ended ──► unknown
 *        └────── the portal finds no gateway ──► offline ── five minutes ───────────► unknown
 * @module
 */

import { Deadlines } from "@firezone/core/deadlines";
import { after, type Millis } from "@firezone/core/units";

/** Whether a site answers; `offline` when no gateway of it is there. */
export type SiteStatus = "unknown" | "online" | "offline";

/** After so long nobody knows whether a site is still offline. */
export const OFFLINE_FOR_MS = 300_000;

/** See the head of this file. */
export class SiteStatuses {
  readonly #known = new Map<string, Exclude<SiteStatus, "unknown">>();
  readonly #offlineUntil = new Deadlines<string>();

  /** A gateway of the site carries traffic. */
  noteOnline(siteId: string): void {
    this.#known.set(siteId, "online");
    this.#offlineUntil.delete(siteId);
  }

  /** The portal finds no gateway there. */
  noteOffline(now: Millis, siteId: string): void {
    this.#known.set(siteId, "offline");
    this.#offlineUntil.set(siteId, after(now, OFFLINE_FOR_MS));
  }

  /** What was known does not hold any more. */
  forget(siteId: string): void {
    this.#known.delete(siteId);
    this.#offlineUntil.delete(siteId);
  }

  /** Forgets everything. */
  clear(): void {
    for (const siteId of [...this.#known.keys()]) this.forget(siteId);
  }

  /** The status of something that is served from these sites: one that answers is enough. */
  of(siteIds: readonly string[]): SiteStatus {
    const statuses = siteIds.map((id) => this.#known.get(id) ?? "unknown");
    if (statuses.includes("online")) return "online";
    const isOffline = statuses.length > 0 && statuses.every((status) => status === "offline");
    return isOffline ? "offline" : "unknown";
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    for (let site; (site = this.#offlineUntil.takeDue(now)) !== undefined;) {
      this.#known.delete(site);
    }
  }

  /** The earliest deadline. */
  pollTimeout(): Millis {
    return this.#offlineUntil.next;
  }
}
