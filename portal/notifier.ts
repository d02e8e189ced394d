/**
 * Tells peers how things are, and later what has changed.
 *
 * What each peer was told is noted at its connection, so that only differences are sent.
 *
 * Spec: portal-protocol §2.2 (clients), §2.6 (gateways), §6.7 and §6.9 (relays).
 * @module
 */

import type { Millis } from "@firezone/core/units";
import { type Resource, resourceKey } from "./config/config.ts";
import type { ClientConnection, GatewayConnection, ToldResource } from "./connection.ts";
import type { PortalContext } from "./context.ts";
import { type Directory, FAR_FUTURE } from "./directory.ts";
import { isSameRelay, type Relay } from "./relay_pool.ts";
import { wantsSites } from "./user_agent.ts";
import {
  clientInterfaceView,
  clientResourceView,
  FLOW_LOGS,
  gatewayInitView,
  gatewayResourceView,
  type Json,
  type JsonObject,
  relayViews,
} from "./views.ts";

/** Keeps peers informed. */
export class Notifier {
  readonly #context: PortalContext;

  /** Has told nobody anything. */
  constructor(context: PortalContext) {
    this.#context = context;
  }

  /** Tells a client that has joined all that it needs. */
  initClient(now: Millis, client: ClientConnection): void {
    const resources = this.#resourcesFor(now, client);
    client.toldResources.clear();
    for (const resource of resources) client.toldResources.set(resource.id, resource);
    const interfaceView = clientInterfaceView(client.device, this.#context.directory().config.dns);
    client.toldInterface = JSON.stringify(interfaceView);
    this.#context.registry.push(client, "init", {
      interface: interfaceView,
      resources: resources.map(({ view }) => view),
      relays: this.#tellRelays(client),
      authorizations: [],
      flow_logs: FLOW_LOGS,
    });
  }

  /** Tells a gateway that has joined all that it needs. */
  initGateway(gateway: GatewayConnection): void {
    const authorizations = this.#context.authorizations.ofGateway(gateway.device.id);
    const view = gatewayInitView(
      gateway.device,
      this.#context.directory().config,
      this.#tellRelays(gateway),
      authorizations,
    );
    this.#context.registry.push(gateway, "init", view);
    for (const authorization of authorizations) {
      const { expiresAt, toldExpiresAt } = authorization;
      if (expiresAt === toldExpiresAt) continue;
      this.#context.authorizations.save({ ...authorization, toldExpiresAt: expiresAt });
    }
    // Filters may have changed while the gateway was away.
    for (const id of new Set(authorizations.map((authorization) => authorization.resourceId))) {
      const resource = this.#context.directory().resource(id);
      if (resource) {
        this.#context.registry.push(gateway, "resource_updated", gatewayResourceView(resource));
      }
    }
  }

  /** Tells a client what has changed for it; what is gone comes first (§2.2.4). */
  updateResources(now: Millis, client: ClientConnection): void {
    const { registry } = this.#context;
    const current = this.#resourcesFor(now, client);
    const keys = new Map(current.map(({ id, key }) => [id, key]));
    for (const [id, { key }] of [...client.toldResources]) {
      if (keys.get(id) === key) continue;
      client.toldResources.delete(id);
      registry.push(client, "resource_deleted", id);
    }
    for (const resource of current) {
      if (client.toldResources.get(resource.id)?.text === resource.text) continue;
      client.toldResources.set(resource.id, resource);
      registry.push(client, "resource_created_or_updated", resource.view);
    }
  }

  /** Tells a client of changed DNS settings. */
  updateInterface(client: ClientConnection): void {
    const view = clientInterfaceView(client.device, this.#context.directory().config.dns);
    const text = JSON.stringify(view);
    if (client.toldInterface === text) return;
    client.toldInterface = text;
    this.#context.registry.push(client, "config_changed", { interface: view });
  }

  /** Tells gateways of a resource that was changed in a way that access survives. */
  notifyOfChange(before: Directory, resource: Resource): void {
    const former = before.resource(resource.id);
    if (!former || resourceKey(former) !== resourceKey(resource)) return;
    const view = gatewayResourceView(resource);
    if (JSON.stringify(gatewayResourceView(former)) === JSON.stringify(view)) return;
    for (const gateway of this.#context.registry.gateways) {
      if (!resource.siteIds.includes(gateway.ownerId)) continue;
      this.#context.registry.push(gateway, "resource_updated", view);
    }
  }

  /** Gives a client relay credentials for as long as its account now lasts. */
  renewRelays(before: Directory, client: ClientConnection): void {
    const end = this.#context.directory().account(client.ownerId)?.expiresAt;
    if (before.account(client.ownerId)?.expiresAt !== end) this.sendAllRelays(client);
  }

  /** Tells everyone whose relays went, changed, or were too few. */
  updateRelays(): void {
    const { clients, gateways } = this.#context.registry;
    for (const peer of [...clients, ...gateways]) {
      const gone = [...peer.toldRelays.keys()].filter((id) => !this.#context.relays.get(id));
      for (const id of gone) peer.toldRelays.delete(id);
      const chosen = this.#chooseRelays(peer);
      const isNews = chosen.some((relay) => !isSameRelay(peer.toldRelays.get(relay.id), relay));
      if (gone.length === 0 && !isNews) continue;
      const connected = this.#tellRelays(peer);
      this.#context.registry.push(peer, "relays_presence", {
        disconnected_ids: gone,
        connected,
      });
    }
  }

  /** A peer has no relay left: it gets what there is, known to it or not. */
  sendAllRelays(peer: ClientConnection | GatewayConnection): void {
    const connected = this.#tellRelays(peer);
    this.#context.registry.push(peer, "relays_presence", { disconnected_ids: [], connected });
  }

  /** What a client may know of, with what is noted when it does. */
  #resourcesFor(now: Millis, client: ClientConnection): NamedView[] {
    const directory = this.#context.directory();
    const sitesKey = wantsSites(client.agent) ? "sites" : "gateway_groups";
    const at = this.#context.unixTime(now);
    return directory.resourcesOf(at, client.ownerId, client.remoteIp).map((resource) => {
      const view = clientResourceView(resource, directory, sitesKey);
      const key = `${resourceKey(resource)} ${resource.siteIds.join()}`;
      return { id: resource.id, view, text: JSON.stringify(view), key };
    });
  }

  #chooseRelays(peer: ClientConnection | GatewayConnection): readonly Relay[] {
    return this.#context.relays.select(peer.device.id, new Set(peer.toldRelays.keys()));
  }

  /** The relays that a peer should use, noted as told. */
  #tellRelays(peer: ClientConnection | GatewayConnection): Json[] {
    const chosen = this.#chooseRelays(peer);
    for (const relay of chosen) peer.toldRelays.set(relay.id, relay);
    const account = this.#context.directory().account(peer.ownerId);
    const expiresAt = account?.expiresAt ?? FAR_FUTURE;
    return relayViews(chosen, peer.device.publicKey, expiresAt);
  }
}

interface NamedView extends ToldResource {
  readonly id: string;
  readonly view: JsonObject;
}
