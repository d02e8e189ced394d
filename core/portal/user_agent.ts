/**
 * What we call ourselves to the portal.
 *
 * Portals read a component and its version from it and adapt: they hide resources from components
 * they take for too old and refuse text they cannot read.
 * @module
 */

import type { Era } from "./outgoing.ts";

/** The version that is announced. */
export const PORTAL_CLIENT_VERSION = "1.5.0";

/** Which program is talking. */
export type Role = "client" | "gateway" | "relay";

/** What is told about the machine. */
export interface HostInfo {
  /** `Linux`, `Windows`. */
  readonly os: string;
  /** Version of the system or its kernel. */
  readonly osVersion: string;
  /** `x86_64`, `aarch64`. */
  readonly arch: string;
}

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

/** The machine we run on. */
export function hostInfo(): HostInfo {
  const names: Readonly<Record<string, string>> = {
    linux: "Linux",
    windows: "Windows",
    darwin: "Mac OS",
  };
  return {
    os: names[Deno.build.os] ?? Deno.build.os,
    osVersion: Deno.osRelease(),
    arch: Deno.build.arch,
  };
}

/** A single word: portals split at spaces. */
function word(text: string): string {
  return text.replace(/[^A-Za-z0-9._+~-]+/g, "-") || "unknown";
}
