/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * The client's data-plane worker: {@link ClientState} in the loop of `core/runtime`.
 * @module
 */

import {
  candidatesToGateway,
  createFlow,
  invalidatedCandidatesToGateway,
  parseClientMessage,
} from "@firezone/core/portal";
import {
  type DataPlaneNotice,
  type DataPlaneProgram,
  type MachineOptions,
  serveDataPlane,
} from "@firezone/core/runtime";
import { logger } from "@firezone/core/telemetry";
import type { Millis } from "@firezone/core/units";
import { type ClientEvent, ClientState } from "./client_state.ts";

/** The client's machine with its words for the main thread. */
class ClientProgram implements DataPlaneProgram {
  readonly state: ClientState;
  readonly #log = logger("client");

  constructor(options: MachineOptions) {
    this.state = new ClientState(options);
  }

  get publicKey(): Uint8Array {
    return this.state.publicKey;
  }

  handlePortalMessage(now: Millis, event: string, payload: unknown): void {
    const message = parseClientMessage(event, payload);
    if (message.tag === "unknown") this.#log.debug("Ignored a message", { event });
    else if (message.tag === "malformed") {
      this.#log.warn("Cannot read a message of the portal", { event, reason: message.reason });
    } else this.state.handlePortalMessage(now, message);
  }

  reset(now: Millis, privateKey: Uint8Array): void {
    this.state.reset(now, privateKey);
  }

  shutDown(now: Millis): void {
    this.state.shutDown(now);
  }

  status(now: Millis): unknown {
    return this.state.status(now);
  }

  pollNotice(): DataPlaneNotice | undefined {
    for (let event; (event = this.state.pollEvent()) !== undefined;) {
      const notice = this.#toNotice(event);
      if (notice) return notice;
    }
    return undefined;
  }

  #toNotice(event: ClientEvent): DataPlaneNotice | undefined {
    switch (event.tag) {
      case "request-flow": {
        const { resourceId, connectedGatewayIds } = event;
        this.#log.debug("Requesting a gateway", { resource: resourceId });
        return { tag: "send", message: createFlow(resourceId, connectedGatewayIds) };
      }
      case "candidates":
        return { tag: "send", message: candidatesToGateway(event.gatewayId, event.candidates) };
      case "candidates-invalidated": {
        const { gatewayId, candidates } = event;
        return { tag: "send", message: invalidatedCandidatesToGateway(gatewayId, candidates) };
      }
      case "interface-changed": {
        const { ipv4, ipv6 } = event.interface;
        return { tag: "interface", ipv4: ipv4.text, ipv6: ipv6.text };
      }
      case "routes-changed":
        return { tag: "routes", routes: event.routes.map((route) => route.text) };
      case "no-relays":
        return { tag: "no-relays" };
      case "gateway-connected":
        this.#log.info("Connected to a gateway", { gateway: event.gatewayId });
        return undefined;
      case "path-changed":
        this.#log.info("Path to a gateway changed", { gateway: event.gatewayId, path: event.path });
        return undefined;
      case "gateway-failed": {
        const { gatewayId, reason } = event;
        this.#log.info("Connection to a gateway ended", { gateway: gatewayId, reason });
        return undefined;
      }
      case "relay-refused":
        this.#log.warn("A relay refused a request", {
          relay: event.relayId,
          request: event.request,
          code: event.code,
        });
        return undefined;
      case "relay-failed":
        this.#log.info("A relay does not answer", { relay: event.relayId, reason: event.reason });
        return undefined;
      case "flow-failed":
        this.#log.warn("The portal gave no gateway", {
          resource: event.resourceId,
          reason: event.reason,
        });
        return undefined;
    }
  }
}

serveDataPlane((options) => new ClientProgram(options));
