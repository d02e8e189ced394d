/**
 * From a client's request to a gateway that expects it.
 *
 *     client               portal                                gateway
 *       | create_flow        |                                      |
 *       |------------------->| policy, choice, credentials          |
 *       |                    | authorize_flow{ref}                  |
 *       |                    |------------------------------------->|
 *       |                    |                  flow_authorized{ref}|
 *       |                    |<-------------------------------------|
 *       |        flow_created|                                      |
 *       |<-------------------|                                      |
 *
 * (names of v1; v2 calls them otherwise, see EVENTS.) The client is told nothing before the gateway
 * has answered, so no candidate reaches a gateway that does not know its client yet. Of requests for
 * one resource by one client the newest counts; a gateway that is silent for 15 s is given up.
 *
 * Spec: portal-protocol §2.4, §2.5, §2.10, §6.4, §8.6, §8.7.
 * @module
 */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { constantTimeEqual, utf8 } from "@firezone/core/bytes";
import { Deadlines } from "@firezone/core/deadlines";
import { randomUuid } from "@firezone/core/random";
import { after, type Millis } from "@firezone/core/units";
import { type Resource, resourceKey } from "./config/config.ts";
import type { Era } from "./connect_request.ts";
import type { ClientConnection, GatewayConnection } from "./connection.ts";
import type { ConnectionRegistry } from "./connection_registry.ts";
import type { PortalContext } from "./context.ts";
import { iceCredentials, presharedKey } from "./credentials.ts";
import type { Authorization } from "./device.ts";
import type { Access } from "./directory.ts";
import { base64Url, flowLogToken } from "./flow_log_token.ts";
import { OK, refusal, type Reply } from "./phoenix.ts";
import { isCompatible, versionText, wantsSites } from "./user_agent.ts";
import { namedUuid } from "./uuid.ts";
import { gatewayResourceView, interfaceView, type JsonObject } from "./views.ts";

/** How long a gateway may take to answer. */
export const ANSWER_TIMEOUT_MS = 15_000;

/** How long a gateway that did not answer is avoided, if there are others. */
const AVOID_MS = 60_000;

/** How the messages are called (§2.10). */
export const EVENTS = {
  v1: {
    request: "create_flow",
    created: "flow_created",
    failed: "flow_creation_failed",
    authorize: "authorize_flow",
    authorized: "flow_authorized",
  },
  v2: {
    request: "request_authorization",
    created: "authorization_created",
    failed: "authorization_creation_failed",
    authorize: "create_authorization",
    authorized: "authorization_created",
  },
} as const satisfies Record<Era, Record<string, string>>;

type FailReason = "not_found" | "offline" | "forbidden" | "version_mismatch";

/** A request that a gateway has not answered yet. */
interface Pending {
  readonly ref: string;
  readonly client: ClientConnection;
  readonly gateway: GatewayConnection;
  readonly resource: Resource;
  readonly policyId: string;
  readonly authorization: Authorization;
  readonly connectedGatewayIds: readonly string[];
}

/** The requests under way. */
export class Flows {
  readonly #context: PortalContext;
  readonly #refKey: Uint8Array;
  readonly #tokenKey: Uint8Array;
  readonly #byRef = new Map<string, Pending>();
  readonly #due = new Deadlines<string>();

  /** No request yet. */
  constructor(context: PortalContext) {
    this.#context = context;
    this.#refKey = context.random(32);
    this.#tokenKey = context.random(32);
  }

  /** A client asks for a resource. */
  request(
    now: Millis,
    client: ClientConnection,
    resourceId: string,
    connectedGatewayIds: readonly string[],
  ): void {
    const at = this.#context.unixTime(now);
    const directory = this.#context.directory();
    const access = directory.access(at, client.ownerId, resourceId, client.remoteIp);
    const resource = directory.resource(resourceId);
    if (access.tag !== "granted" || resource === undefined) {
      this.#supersede(client, resourceId, undefined);
      const reason = access.tag === "forbidden" ? "forbidden" : "not_found";
      const violated = access.tag === "forbidden" ? access.violatedProperties : undefined;
      return this.#fail(client, resourceId, reason, violated);
    }
    const gateway = this.#choose(now, client, resource, connectedGatewayIds);
    this.#supersede(client, resourceId, typeof gateway === "string" ? undefined : gateway);
    if (typeof gateway === "string") return this.#fail(client, resourceId, gateway);
    const authorization = this.#newAuthorization(client, gateway, resource, access);
    this.#ask(now, {
      ref: this.#newRef(gateway),
      client,
      gateway,
      resource,
      policyId: access.policyId,
      authorization,
      connectedGatewayIds,
    });
  }

  /** A gateway returns a ref. */
  acknowledge(now: Millis, gateway: GatewayConnection, ref: string): Reply {
    if (!this.#isOurRef(gateway, ref)) return refusal("invalid_ref");
    gateway.avoidUntil = now;
    const pending = this.#take(ref);
    // An answer that comes too late is right but of no use any more.
    if (pending === undefined || pending.gateway !== gateway) return OK;
    this.#context.authorizations.save(pending.authorization);
    pending.client.givenGateways.set(pending.resource.id, gateway.device.id);
    this.#context.registry.push(
      pending.client,
      EVENTS[pending.client.era].created,
      this.#createdView(now, pending),
    );
    return OK;
  }

  /** Whether candidates of the two are to be forwarded. */
  connects(clientId: string, gatewayId: string): boolean {
    for (const { client, gateway } of this.#byRef.values()) {
      if (client.device.id === clientId && gateway.device.id === gatewayId) return true;
    }
    return this.#context.authorizations.connects(clientId, gatewayId);
  }

  /** Tells a gateway that an authorization lasts longer than it knows. */
  prolong(now: Millis, authorization: Authorization, policyId: string): void {
    const { registry, authorizations } = this.#context;
    const client = registry.client(authorization.clientId);
    const gateway = registry.gateway(authorization.gatewayId);
    const resource = this.#context.directory().resource(authorization.resourceId);
    if (!client || !gateway || !resource) return;
    const told = { ...authorization, toldExpiresAt: authorization.expiresAt };
    authorizations.save(told);
    // Nobody waits for the answer: its ref is ours, but not pending.
    this.#authorize(now, {
      ref: this.#newRef(gateway),
      client,
      gateway,
      resource,
      policyId,
      authorization: told,
      connectedGatewayIds: [],
    });
  }

  /** Drops the requests that the configuration in force does not grant any more. */
  dropForbidden(now: Millis): void {
    const at = this.#context.unixTime(now);
    const directory = this.#context.directory();
    for (const pending of [...this.#byRef.values()]) {
      const { client, gateway, authorization } = pending;
      const resource = directory.resource(authorization.resourceId);
      const access = directory.access(
        at,
        client.ownerId,
        authorization.resourceId,
        client.remoteIp,
      );
      const isSame = resource !== undefined && access.tag === "granted" &&
        resourceKey(resource) === authorization.resourceKey &&
        resource.siteIds.includes(gateway.ownerId);
      if (isSame) continue;
      this.#take(pending.ref);
      this.#withdraw(pending);
    }
  }

  /** A client is gone; nobody waits for its requests. */
  handleClientGone(client: ClientConnection): void {
    for (const pending of [...this.#byRef.values()]) {
      if (pending.client !== client) continue;
      this.#take(pending.ref);
      this.#withdraw(pending);
    }
  }

  /** A gateway is gone; what it was asked is asked of another. */
  handleGatewayGone(now: Millis, gateway: GatewayConnection): void {
    for (const pending of [...this.#byRef.values()]) {
      if (pending.gateway !== gateway) continue;
      this.#take(pending.ref);
      this.request(now, pending.client, pending.resource.id, pending.connectedGatewayIds);
    }
  }

  /** Gives up on gateways that did not answer in time. */
  handleTimeout(now: Millis): void {
    for (let ref = this.#due.takeDue(now); ref !== undefined; ref = this.#due.takeDue(now)) {
      const pending = this.#take(ref);
      if (pending === undefined) continue;
      pending.gateway.avoidUntil = after(now, AVOID_MS);
      this.#withdraw(pending);
      this.#fail(pending.client, pending.resource.id, "offline");
    }
  }

  /** When the next gateway is given up. */
  pollTimeout(): Millis {
    return this.#due.next;
  }

  /** A gateway for the resource, or why there is none. */
  #choose(
    now: Millis,
    client: ClientConnection,
    resource: Resource,
    connectedGatewayIds: readonly string[],
  ): GatewayConnection | FailReason {
    const { registry } = this.#context;
    const online = registry.gateways.filter((g) => resource.siteIds.includes(g.ownerId));
    if (online.length === 0) return "offline";
    const version = client.agent.version;
    const fit = online.filter((g) => version && isCompatible(version, g.agent.version));
    // Clients of the first generation know no better word.
    if (fit.length === 0) return client.era === "v1" ? "not_found" : "version_mismatch";
    const clientId = client.device.id;
    // In the client's order: it names the one first that carried the resource before it moved.
    for (const id of connectedGatewayIds) {
      const connected = fit.find((g) => g.device.id === id);
      if (connected) return connected;
    }
    const answering = unlessNone(fit, (g) => g.avoidUntil <= now);
    // Who asks again without naming the gateway that it was given has lost it.
    const lost = client.givenGateways.get(resource.id);
    const candidates = unlessNone(answering, (g) => g.device.id !== lost);
    return candidates.find((g) => this.connects(clientId, g.device.id)) ??
      this.#leastBusy(clientId, candidates);
  }

  /** The gateway with the fewest clients that are online; among equals the client's own favourite. */
  #leastBusy(clientId: string, gateways: readonly GatewayConnection[]): GatewayConnection {
    const clients = new Map<string, Set<string>>();
    const count = (gatewayId: string, id: string) => {
      clients.set(gatewayId, (clients.get(gatewayId) ?? new Set()).add(id));
    };
    for (const { gatewayId, clientId } of this.#context.authorizations.list()) {
      if (this.#context.registry.client(clientId)) count(gatewayId, clientId);
    }
    for (const { gateway, client } of this.#byRef.values()) {
      count(gateway.device.id, client.device.id);
    }
    const ranked = gateways.map((gateway) => ({
      gateway,
      load: clients.get(gateway.device.id)?.size ?? 0,
      rank: namedUuid("rank", `${clientId} ${gateway.device.id}`),
    }));
    ranked.sort((a, b) => a.load - b.load || (a.rank < b.rank ? -1 : 1));
    return ranked[0]!.gateway;
  }

  #newAuthorization(
    client: ClientConnection,
    gateway: GatewayConnection,
    resource: Resource,
    access: Extract<Access, { tag: "granted" }>,
  ): Authorization {
    return {
      id: randomUuid(this.#context.random),
      clientId: client.device.id,
      accountId: client.ownerId,
      gatewayId: gateway.device.id,
      resourceId: resource.id,
      resourceKey: resourceKey(resource),
      tokenHash: client.tokenHash,
      expiresAt: access.expiresAt,
      toldExpiresAt: access.expiresAt,
    };
  }

  #ask(now: Millis, pending: Pending): void {
    this.#byRef.set(pending.ref, pending);
    this.#due.set(pending.ref, after(now, ANSWER_TIMEOUT_MS));
    this.#authorize(now, pending);
  }

  #authorize(now: Millis, pending: Pending): void {
    const { gateway } = pending;
    this.#context.registry.push(
      gateway,
      EVENTS[gateway.era].authorize,
      this.#authorizeView(now, pending),
    );
  }

  #take(ref: string): Pending | undefined {
    const pending = this.#byRef.get(ref);
    this.#byRef.delete(ref);
    this.#due.delete(ref);
    return pending;
  }

  /** A newer request takes the place of an older one for the same resource. */
  #supersede(
    client: ClientConnection,
    resourceId: string,
    next: GatewayConnection | undefined,
  ): void {
    for (const pending of [...this.#byRef.values()]) {
      if (pending.client !== client || pending.resource.id !== resourceId) continue;
      this.#take(pending.ref);
      if (pending.gateway !== next) this.#withdraw(pending);
    }
  }

  /** The gateway may have let the client through already, and would be alone in knowing. */
  #withdraw({ authorization, gateway }: Pending): void {
    const { clientId, resourceId, gatewayId } = authorization;
    if (this.#context.authorizations.has(clientId, resourceId, gatewayId)) return;
    rejectAccess(this.#context.registry, gateway, authorization);
  }

  #fail(
    client: ClientConnection,
    resourceId: string,
    reason: FailReason,
    violatedProperties?: readonly string[],
  ): void {
    this.#context.registry.push(client, EVENTS[client.era].failed, {
      resource_id: resourceId,
      reason,
      ...(violatedProperties && { violated_properties: violatedProperties }),
    });
    this.#context.registry.log("debug", "refused a connection", {
      client: client.device.name,
      resource: resourceId,
      reason,
    });
  }

  #newRef(gateway: GatewayConnection): string {
    const nonce = base64Url(this.#context.random(12));
    return `${nonce}.${base64Url(this.#refMac(gateway, nonce))}`;
  }

  #isOurRef(gateway: GatewayConnection, ref: string): boolean {
    const [nonce = "", mac = "", ...rest] = ref.split(".");
    const expected = utf8(base64Url(this.#refMac(gateway, nonce)));
    return rest.length === 0 && constantTimeEqual(utf8(mac), expected);
  }

  /** Binds a ref to its gateway, so that no other can answer for it. */
  #refMac(gateway: GatewayConnection, nonce: string): Uint8Array {
    return hmac(sha256, this.#refKey, utf8(`${gateway.device.id} ${nonce}`)).subarray(0, 12);
  }

  /** What gateway and client must agree on. */
  #secrets({ client, gateway }: Pending) {
    return {
      ice: iceCredentials(client.device, gateway.device),
      psk: presharedKey(
        client.device,
        client.device.pskBase,
        gateway.device,
        gateway.device.pskBase,
      ),
    };
  }

  #authorizeView(now: Millis, pending: Pending): JsonObject {
    const { client, authorization, gateway } = pending;
    const { ice, psk } = this.#secrets(pending);
    const account = this.#context.directory().account(client.ownerId);
    return {
      ref: pending.ref,
      // Only the first generation has these two, and even it does not read them.
      ...(gateway.era === "v1" && { flow_id: authorization.id, actor: { id: client.ownerId } }),
      resource: gatewayResourceView(pending.resource),
      gateway_ice_credentials: { ...ice.gateway },
      client_ice_credentials: { ...ice.client },
      expires_at: authorization.expiresAt,
      use_iceless: false,
      flow_logs_ingest_token: this.#flowLogToken(now, pending, "responder"),
      client: {
        id: client.device.id,
        public_key: client.device.publicKey,
        preshared_key: psk,
        ...interfaceView(client.device),
        version: versionText(client.agent.version),
        device_os_name: client.agent.os.name,
        device_os_version: client.agent.os.version,
        ...client.params.hardware,
      },
      subject: {
        actor_id: client.ownerId,
        actor_name: account?.name ?? "",
        actor_email: null,
        actor_type: "service_account",
        auth_provider_id: null,
        ip: client.remoteIp?.text ?? null,
        ip_region: null,
        ip_city: null,
        ip_lat: null,
        ip_lon: null,
        user_agent: client.agent.text,
      },
    };
  }

  #createdView(now: Millis, pending: Pending): JsonObject {
    const { client, gateway, authorization } = pending;
    const { ice, psk } = this.#secrets(pending);
    const gatewayAddresses = interfaceView(gateway.device);
    return {
      resource_id: authorization.resourceId,
      gateway_id: gateway.device.id,
      gateway_public_key: gateway.device.publicKey,
      gateway_ipv4: gatewayAddresses.ipv4,
      gateway_ipv6: gatewayAddresses.ipv6,
      [wantsSites(client.agent) ? "site_id" : "gateway_group_id"]: gateway.ownerId,
      preshared_key: psk,
      client_ice_credentials: { ...ice.client },
      gateway_ice_credentials: { ...ice.gateway },
      use_iceless: false,
      flow_logs_ingest_token: this.#flowLogToken(now, pending, "initiator"),
    };
  }

  #flowLogToken(now: Millis, pending: Pending, role: "initiator" | "responder"): string {
    const { client, gateway, authorization, resource } = pending;
    const directory = this.#context.directory();
    return flowLogToken({
      accountId: namedUuid("installation", directory.config.accountSlug),
      role,
      initiatorId: client.device.id,
      responderId: gateway.device.id,
      authorizationId: authorization.id,
      policyId: pending.policyId,
      resource: { id: resource.id, name: resource.name },
      actor: { id: client.ownerId, name: directory.account(client.ownerId)?.name ?? "" },
      authorizedAt: this.#context.unixTime(now),
      expiresAt: authorization.expiresAt,
    }, this.#tokenKey);
  }
}

/** Tells a gateway to let a client through to a resource no longer. */
export function rejectAccess(
  registry: ConnectionRegistry,
  gateway: GatewayConnection,
  { id, clientId, resourceId }: Authorization,
): void {
  registry.push(gateway, "reject_access", {
    ...(gateway.era === "v1" && { flow_id: id }),
    client_id: clientId,
    resource_id: resourceId,
  });
}

/** Those that are as wanted; all when none is. */
function unlessNone<T>(all: readonly T[], isWanted: (one: T) => boolean): readonly T[] {
  const wanted = all.filter(isWanted);
  return wanted.length > 0 ? wanted : all;
}
