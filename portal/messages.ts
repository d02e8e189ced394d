/**
 * What peers that have joined may say, and what follows.
 *
 * Spec: portal-protocol §2.5 (clients), §2.7 (gateways), §2.10 (names by generation). What is not
 * understood is answered as newer portals do, with the reason `unknown_message`.
 * @module
 */

import type { Millis } from "@firezone/core/units";
import type { ClientConnection, Connection, GatewayConnection } from "./connection.ts";
import type { ConnectionRegistry } from "./connection_registry.ts";
import { EVENTS, type Flows } from "./flows.ts";
import type { Notifier } from "./notifier.ts";
import { asRecord, asTexts, OK, refusal, type Reply } from "./phoenix.ts";

/** Candidates that are passed on: under which event, and where their receivers stand. */
interface CandidateEvent {
  readonly event: "ice_candidates" | "invalidate_ice_candidates";
  readonly targets: "gateway_ids" | "gateway_id" | "client_ids";
}

const CANDIDATE_EVENTS: Record<"client" | "gateway", ReadonlyMap<string, CandidateEvent>> = {
  client: new Map([
    ["broadcast_ice_candidates", { event: "ice_candidates", targets: "gateway_ids" }],
    [
      "broadcast_invalidated_ice_candidates",
      { event: "invalidate_ice_candidates", targets: "gateway_ids" },
    ],
    ["new_gateway_ice_candidates", { event: "ice_candidates", targets: "gateway_id" }],
    [
      "invalidate_gateway_ice_candidates",
      { event: "invalidate_ice_candidates", targets: "gateway_id" },
    ],
  ]),
  gateway: new Map([
    ["broadcast_ice_candidates", { event: "ice_candidates", targets: "client_ids" }],
    [
      "broadcast_invalidated_ice_candidates",
      { event: "invalidate_ice_candidates", targets: "client_ids" },
    ],
  ]),
};

/** Understands the messages of clients and gateways; relays have nothing to say. */
export class Messages {
  readonly #registry: ConnectionRegistry;
  readonly #flows: Flows;
  readonly #notifier: Notifier;

  /** Passes on to the others what is meant for them. */
  constructor(registry: ConnectionRegistry, flows: Flows, notifier: Notifier) {
    this.#registry = registry;
    this.#flows = flows;
    this.#notifier = notifier;
  }

  /** The answer to a joined peer's message, if it gets one. */
  handle(
    now: Millis,
    connection: Connection,
    event: string,
    payload: unknown,
  ): Reply | undefined {
    const unknown = refusal("unknown_message");
    const fields = asRecord(payload);
    if (connection.role === "relay" || !fields) return unknown;
    switch (event) {
      case "no_relays":
        this.#notifier.sendAllRelays(connection);
        return undefined;
      case "set_snownet_capabilities":
      case "request_device_access":
        return undefined;
    }
    const kind = CANDIDATE_EVENTS[connection.role].get(event);
    if (kind) {
      const targets = fields[kind.targets];
      const ids = kind.targets.endsWith("_id") ? [targets] : targets;
      return this.#forward(connection, kind.event, ids, fields.candidates);
    }
    return connection.role === "client"
      ? this.#handleClientEvent(now, connection, event, fields)
      : this.#handleGatewayEvent(now, connection, event, fields);
  }

  #handleClientEvent(
    now: Millis,
    client: ClientConnection,
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ): Reply | undefined {
    const unknown = refusal("unknown_message");
    const resourceId = fields.resource_id;
    switch (event) {
      case EVENTS[client.era].request: {
        if (typeof resourceId !== "string") return unknown;
        const connected = asTexts(fields.connected_gateway_ids ?? []);
        if (!connected) return unknown;
        const address = fields.ipv4 ?? fields.ipv6;
        if (address !== undefined && address !== null) return this.#denyDevice(client, fields);
        this.#flows.request(now, client, resourceId, connected);
        return undefined;
      }
      case "new_client_ice_candidates":
      case "invalidate_client_ice_candidates": {
        if (typeof fields.client_id !== "string") return unknown;
        const payload = { client_id: fields.client_id, reason: "not_found" };
        this.#registry.push(client, "client_ice_candidate_error", payload);
        return undefined;
      }
      case "resolve_device_pool_domain": {
        const { domain } = fields;
        if (typeof resourceId !== "string" || typeof domain !== "string") return unknown;
        const payload = { resource_id: resourceId, domain, reason: "not_found" };
        this.#registry.push(client, "device_pool_domain_resolution_failed", payload);
        return undefined;
      }
      case "create_log_sink":
        return refusal("disabled");
      default:
        return unknown;
    }
  }

  /** There are no device pools here. */
  #denyDevice(
    client: ClientConnection,
    fields: Readonly<Record<string, unknown>>,
  ): undefined {
    const text = (value: unknown) => typeof value === "string" ? value : null;
    this.#registry.push(client, "client_device_access_denied", {
      resource_id: text(fields.resource_id),
      ipv4: text(fields.ipv4),
      ipv6: text(fields.ipv6),
      reason: "not_found",
    });
  }

  #handleGatewayEvent(
    now: Millis,
    gateway: GatewayConnection,
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ): Reply | undefined {
    switch (event) {
      case EVENTS[gateway.era].authorized:
        return typeof fields.ref === "string"
          ? this.#flows.acknowledge(now, gateway, fields.ref)
          : refusal("invalid_ref");
      case "metrics":
        return OK;
      default:
        return refusal("unknown_message");
    }
  }

  /** Passes candidates on as they are, to those that the sender has to do with and that are online. */
  #forward(
    from: ClientConnection | GatewayConnection,
    event: string,
    targets: unknown,
    candidates: unknown,
  ): Reply | undefined {
    const ids = asTexts(targets);
    const texts = asTexts(candidates);
    if (!ids || !texts) return refusal("unknown_message");
    for (const id of new Set(ids)) {
      const [clientId, gatewayId] = from.role === "client"
        ? [from.device.id, id]
        : [id, from.device.id];
      const to = from.role === "client" ? this.#registry.gateway(id) : this.#registry.client(id);
      if (!to || !this.#flows.connects(clientId, gatewayId)) continue;
      const key = from.role === "client" ? "client_id" : "gateway_id";
      this.#registry.push(to, event, { [key]: from.device.id, candidates: texts });
    }
    return undefined;
  }
}
