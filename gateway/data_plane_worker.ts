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
  logPath,
  serveDataPlane,
  toCommonNotice,
} from "@firezone/core/runtime";
import { logger } from "@firezone/core/telemetry";
import { type GatewayEvent, GatewayState } from "./gateway_state.ts";
import type { GatewayCommand, GatewayNotice } from "./worker_messages.ts";

const log = logger("gateway");

serveDataPlane({
  make: (options, _settings: undefined) => new GatewayState(options),
  parse: parseGatewayMessage,
  toNotice,
  handleCommand(now, machine, { id, addresses }: GatewayCommand): undefined {
    machine.handleResolved(now, id, addresses?.flatMap((text) => parseIpAddress(text) ?? []));
  },
});

function toNotice(event: GatewayEvent): DataPlaneNotice<GatewayNotice> | undefined {
  switch (event.tag) {
    case "flow-authorized":
      return { tag: "send", message: flowAuthorized(event.ref) };
    case "candidates":
      return { tag: "send", message: candidatesToClient(event.clientId, event.candidates) };
    case "candidates-invalidated": {
      const { clientId, candidates } = event;
      return { tag: "send", message: invalidatedCandidatesToClient(clientId, candidates) };
    }
    case "resolve":
      return {
        tag: "program",
        notice: { id: event.requestId, domain: event.domain },
      };
    case "client-connected":
      log.info("A client connected", { client: event.clientId });
      return undefined;
    case "path-changed":
      logPath(log, "Path to a client changed", { client: event.clientId }, event.path);
      return undefined;
    case "client-gone":
      log.info("A client is gone", { client: event.clientId, reason: event.reason });
      return undefined;
    case "access-revoked":
      log.info("Access ended", { client: event.clientId, resource: event.resourceId });
      return undefined;
    default:
      return toCommonNotice(log, event);
  }
}
