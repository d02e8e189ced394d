/**
 * What we call ourselves to the portal.
 *
 * Portals read a component and its version from it and adapt: they hide resources from components
 * they take for too old and refuse text they cannot read.
 * @module
 */

import type { HostInfo } from "./host_info.ts";
import type { Era } from "./outgoing.ts";

/** The version that is announced. */
export const PORTAL_CLIENT_VERSION = "1.5.0";

/** Which program is talking. */
export type Role = "client" | "gateway" | "relay";

/** Names that portals know; up to 2025 they knew but one for clients and gateways. */
const COMPONENTS: Readonly<Record<Era, Readonly<Record<Role, string>>>> = {
  v1: { client: "connlib", gateway: "connlib", relay: "relay" },
  v2: { client: "headless-client", gateway: "gateway", relay: "relay" },
};

/** `Linux/6.1.0 headless-client/1.5.0 (x86_64)`. ASCII only, as HTTP libraries demand. */
export function userAgent(era: Era, role: Role, host: HostInfo): string {
  const component = `${COMPONENTS[era][role]}/${PORTAL_CLIENT_VERSION}`;
  // Relays of the first generation say nothing about their machine.
  if (era === "v1" && role === "relay") return component;
  return `${word(host.os)}/${word(host.osVersion)} ${component} (${word(host.arch)})`;
}

/** A single word: portals split at spaces. */
function word(text: string): string {
  return text.replace(/[^A-Za-z0-9._+~-]+/g, "-") || "unknown";
}
