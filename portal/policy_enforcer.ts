/**
 * Holds what was authorized against what is granted now.
 *
 * Spec: portal-protocol §6.8. What ended by itself at the gateway is not announced; what was cut
 * short, or changed in a way that access must not survive, is taken back there.
 * @module
 */

import type { Millis, UnixSeconds } from "@firezone/core/units";
import { resourceKey } from "./config/config.ts";
import type { PortalContext } from "./context.ts";
import type { Authorization } from "./device.ts";
import { type Flows, rejectAccess } from "./flows.ts";

/** Revises authorizations. */
export class PolicyEnforcer {
  readonly #context: PortalContext;
  readonly #flows: Flows;

  /** Uses the flows to tell gateways of authorizations that last longer. */
  constructor(context: PortalContext, flows: Flows) {
    this.#context = context;
    this.#flows = flows;
  }

  /** Revises these authorizations. */
  enforce(now: Millis, authorizations: readonly Authorization[]): void {
    for (const authorization of authorizations) this.#enforceOne(now, authorization);
  }

  /** Ends an authorization that is granted no longer; moves its end where that has moved. */
  #enforceOne(now: Millis, authorization: Authorization): void {
    const at = this.#context.unixTime(now);
    const { accountId, resourceId, gatewayId, clientId, expiresAt } = authorization;
    const bearer = this.#context.directory().bearer(authorization.tokenHash);
    const resource = this.#context.directory().resource(resourceId);
    const isSame = bearer?.role === "client" && bearer.account.id === accountId &&
      resource !== undefined && resourceKey(resource) === authorization.resourceKey &&
      resource.siteIds.includes(this.#context.devices.get(gatewayId)?.ownerId ?? "");
    if (!isSame) return this.#revoke(at, authorization);
    const client = this.#context.registry.client(clientId);
    const access = this.#context.directory().access(at, accountId, resourceId, client?.remoteIp);
    if (access.tag === "granted") {
      const moved = { ...authorization, expiresAt: access.expiresAt };
      if (moved.expiresAt !== expiresAt) this.#context.authorizations.save(moved);
      if (moved.expiresAt > moved.toldExpiresAt) {
        this.#flows.prolong(now, moved, access.policyId);
      }
      return;
    }
    // Where a client that is away will connect from is not known: it keeps what it has.
    const mayStay = access.tag === "forbidden" && client === undefined && expiresAt > at;
    if (!mayStay) this.#revoke(at, authorization);
  }

  #revoke(at: UnixSeconds, authorization: Authorization): void {
    this.#context.authorizations.delete(authorization);
    const gateway = this.#context.registry.gateway(authorization.gatewayId);
    // What ends by itself need not be ended.
    if (!gateway || authorization.toldExpiresAt <= at) return;
    rejectAccess(this.#context.registry, gateway, authorization);
  }
}
