/**
 * Events that the machines of client and gateway have in common, and what becomes of them.
 * @module
 */

import { pathKind, type PathStatus, type RelayEvent } from "../connectivity/mod.ts";
import type { IpAddress } from "../ip/mod.ts";
import type { LogFields, Logger } from "../telemetry/mod.ts";
import type { DataPlaneNotice } from "./data_plane_messages.ts";

/** See the head of this file. */
export type CommonEvent =
  | {
    readonly tag: "interface-changed";
    readonly interface: { readonly ipv4: IpAddress; readonly ipv6: IpAddress };
  }
  | RelayEvent;

/** What the main thread is told; what is only news is logged. */
export function toCommonNotice(
  log: Logger,
  event: CommonEvent,
): DataPlaneNotice<never> | undefined {
  switch (event.tag) {
    case "interface-changed": {
      const { ipv4, ipv6 } = event.interface;
      return { tag: "interface", ipv4: ipv4.text, ipv6: ipv6.text };
    }
    case "no-relays":
      return { tag: "no-relays" };
    case "relay-failed":
      log.info("A relay does not answer", { relay: event.relayId, reason: event.reason });
      return undefined;
    case "relay-refused": {
      const { relayId, request, code } = event;
      log.warn("A relay refused a request", { relay: relayId, request, code });
      return undefined;
    }
  }
}

/** Logs that packets take another path now; whose addresses are on it only for debugging. */
export function logPath(log: Logger, message: string, peer: LogFields, path: PathStatus): void {
  log.info(message, { ...peer, path: pathKind(path) });
  log.debug("The addresses of the path", { ...peer, ...path });
}
