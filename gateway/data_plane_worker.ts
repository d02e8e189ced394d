/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * The gateway's data-plane worker: {@link GatewayState} in the loop of `core/runtime`.
 * @module
 */

import { parseIpAddress } from "@firezone/core/ip";
import {
  candidatesToClient,
  flowAuthorized,
  invalidatedCandidatesToClient,
  parseGatewayMessage,
} from "@firezone/core/portal";
import {
  type DataPlaneNotice,
  type DataPlaneProgram,
  type MachineOptions,
  serveDataPlane,
} from "@firezone/core/runtime";
import { logger } from "@firezone/core/telemetry";
import type { Millis } from "@firezone/core/units";
import { type GatewayEvent, GatewayState } from "./gateway_state.ts";

/** The gateway's machine with its words for the main thread. */
class GatewayProgram implements DataPlaneProgram {
  readonly state: GatewayState;
  readonly #log = logger("gateway");

  constructor(options: MachineOptions) {
    this.state = new GatewayState(options);
  }

  get publicKey(): Uint8Array {
    return this.state.publicKey;
  }

  handlePortalMessage(now: Millis, event: string, payload: unknown): void {
    const message = parseGatewayMessage(event, payload);
    if (message.tag === "unknown") this.#log.debug("Ignored a message", { event });
    else if (message.tag === "malformed") {
      this.#log.warn("Cannot read a message of the portal", { event, reason: message.reason });
    } else this.state.handlePortalMessage(now, message);
  }

  handleResolved(now: Millis, id: number, addresses: readonly string[] | undefined): void {
    this.state.handleResolved(now, id, addresses?.flatMap((text) => parseIpAddress(text) ?? []));
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

  #toNotice(event: GatewayEvent): DataPlaneNotice | undefined {
    switch (event.tag) {
      case "flow-authorized":
        return { tag: "send", message: flowAuthorized(event.ref) };
      case "candidates":
        return { tag: "send", message: candidatesToClient(event.clientId, event.candidates) };
      case "candidates-invalidated": {
        const { clientId, candidates } = event;
        return { tag: "send", message: invalidatedCandidatesToClient(clientId, candidates) };
      }
      case "interface-changed": {
        const { ipv4, ipv6 } = event.interface;
        return { tag: "interface", ipv4: ipv4.text, ipv6: ipv6.text };
      }
      case "resolve":
        return { tag: "resolve", id: event.requestId, domain: event.domain };
      case "no-relays":
        return { tag: "no-relays" };
      case "client-connected":
        this.#log.info("A client connected", { client: event.clientId });
        return undefined;
      case "path-changed":
        this.#log.info("Path to a client changed", { client: event.clientId, path: event.path });
        return undefined;
      case "client-gone":
        this.#log.info("A client is gone", { client: event.clientId, reason: event.reason });
        return undefined;
      case "access-revoked":
        this.#log.info("Access ended", { client: event.clientId, resource: event.resourceId });
        return undefined;
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
    }
  }
}

serveDataPlane((options) => new GatewayProgram(options));
