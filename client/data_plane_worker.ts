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
  logPath,
  serveDataPlane,
  toCommonNotice,
} from "@firezone/core/runtime";
import { logger } from "@firezone/core/telemetry";
import type { Millis } from "@firezone/core/units";
import { type ClientEvent, ClientState } from "./client_state.ts";
import type { ClientCommand, ClientNotice, ClientSettings } from "./worker_messages.ts";

const log = logger("client");

serveDataPlane({
  make: (options, settings: ClientSettings) => new ClientState(options, settings.usesInternet),
  parse: parseClientMessage,
  toNotice,
  handleCommand,
});

function handleCommand(
  now: Millis,
  machine: ClientState,
  command: ClientCommand,
): ClientNotice | undefined {
  switch (command.tag) {
    case "domains":
      machine.setDomains(command.domains);
      return undefined;
    case "domain-resolved":
      machine.handleDomainResolved(now, command.domain);
      return undefined;
    case "domain-evicted":
      machine.removeDomain(command.domain);
      return undefined;
    case "packet":
      machine.sendToSystem(command.packet);
      return undefined;
    case "site-gateway": {
      const { id, resourceId } = command;
      return { tag: "site-gateway", id, address: machine.siteGateway(now, resourceId)?.text };
    }
  }
}

function toNotice(event: ClientEvent): DataPlaneNotice<ClientNotice> | undefined {
  switch (event.tag) {
    case "request-flow": {
      const { resourceId, connectedGatewayIds } = event;
      log.debug("Requesting a gateway", { resource: resourceId });
      return { tag: "send", message: createFlow(resourceId, connectedGatewayIds) };
    }
    case "candidates":
      return { tag: "send", message: candidatesToGateway(event.gatewayId, event.candidates) };
    case "candidates-invalidated": {
      const { gatewayId, candidates } = event;
      return { tag: "send", message: invalidatedCandidatesToGateway(gatewayId, candidates) };
    }
    case "routes-changed":
      return { tag: "routes", routes: event.routes.map((route) => route.text) };
    case "dns-changed": {
      const { upstreamDns, upstreamDoh, searchDomain } = event;
      const servers = upstreamDns.map((server) => server.key);
      const notice = {
        tag: "dns-settings",
        upstreamDns: servers,
        upstreamDoh,
        searchDomain,
      } as const;
      return { tag: "program", notice };
    }
    case "names-changed": {
      const resources = event.resources.map(({ id, pattern, ipStack }) => ({
        id,
        pattern,
        ipStack,
      }));
      return { tag: "program", notice: { tag: "names", resources } };
    }
    case "llmnr-query":
      return { tag: "program", notice: event };
    case "gateway-connected":
      log.info("Connected to a gateway", { gateway: event.gatewayId });
      return undefined;
    case "path-changed":
      logPath(log, "Path to a gateway changed", { gateway: event.gatewayId }, event.path);
      return undefined;
    case "gateway-failed": {
      const { gatewayId, reason } = event;
      log.info("Connection to a gateway ended", { gateway: gatewayId, reason });
      return undefined;
    }
    case "flow-failed":
      log.warn("The portal gave no gateway", {
        resource: event.resourceId,
        reason: event.reason,
      });
      return undefined;
    default:
      return toCommonNotice(log, event);
  }
}
