/**
 * What clients were let through to, in memory and in the store at once.
 * @module
 */

import type { UnixSeconds } from "@firezone/core/units";
import { type Authorization, authorizationKey, type Store } from "./device.ts";

/** All authorizations in force. */
export class Authorizations {
  readonly #store: Store;
  readonly #all = new Map<string, Authorization>();

  /** Knows what the store knows. */
  constructor(store: Store) {
    this.#store = store;
    for (const authorization of store.authorizations()) {
      this.#all.set(authorizationKey(authorization), authorization);
    }
  }

  /** A copy of the list, so that the caller may add and remove meanwhile. */
  list(): Authorization[] {
    return [...this.#all.values()];
  }

  /** What one gateway lets through. */
  ofGateway(gatewayId: string): Authorization[] {
    return this.list().filter((authorization) => authorization.gatewayId === gatewayId);
  }

  /** What one client is let through to. */
  ofClient(clientId: string): Authorization[] {
    return this.list().filter((authorization) => authorization.clientId === clientId);
  }

  /** Whether a client is let through to this resource by this gateway. */
  has(clientId: string, resourceId: string, gatewayId: string): boolean {
    return this.#all.has(authorizationKey({ clientId, resourceId, gatewayId }));
  }

  /** Whether a client is let through to anything by this gateway. */
  connects(clientId: string, gatewayId: string): boolean {
    for (const authorization of this.#all.values()) {
      if (authorization.clientId === clientId && authorization.gatewayId === gatewayId) return true;
    }
    return false;
  }

  /** Adds an authorization, or takes another one's place. */
  save(authorization: Authorization): void {
    this.#all.set(authorizationKey(authorization), authorization);
    this.#store.saveAuthorization(authorization);
  }

  /** Removes an authorization. */
  delete(authorization: Authorization): void {
    this.#all.delete(authorizationKey(authorization));
    this.#store.deleteAuthorization(authorization);
  }

  /** When the next authorization ends. */
  nextEnd(): UnixSeconds | undefined {
    let next: UnixSeconds | undefined;
    for (const { expiresAt } of this.#all.values()) {
      if (next === undefined || expiresAt < next) next = expiresAt;
    }
    return next;
  }
}
