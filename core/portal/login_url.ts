/**
 * Where and as whom a program logs in at the portal: the URL and headers of its WebSocket.
 *
 * Everything about a login but the WireGuard key is known at start. The key is part of the URL, so
 * a new key always means a new connection.
 *
 * Deviation: a `ws:` URL without a port means port 80, where upstream dials 443.
 * @module
 */

import type { Secret } from "../secret.ts";
import { externalId } from "./external_id.ts";
import type { HostInfo } from "./host_info.ts";
import type { Era } from "./outgoing.ts";
import { type Role, userAgent } from "./user_agent.ts";

/** Hardware ids that an administrator may verify a client by. */
export interface HardwareIds {
  /** SMBIOS serial number. */
  readonly serial?: string;
  /** SMBIOS UUID. */
  readonly uuid?: string;
}

/** What a client or gateway logs in as. */
export interface DeviceLogin {
  /** Which of the two. */
  readonly role: "client" | "gateway";
  /** The device's id, as stored; its form on the wire depends on the portal. */
  readonly id: string;
  /** Shown to administrators. */
  readonly name: string;
  /** Clients only. */
  readonly hardware?: HardwareIds;
}

/** What a relay logs in as. */
export interface RelayLogin {
  /** It is a relay. */
  readonly role: "relay";
  /** Shown to administrators, if any. */
  readonly name?: string | undefined;
  /** Public IPv4 address, if any. */
  readonly ipv4?: string | undefined;
  /** Public IPv6 address, if any. */
  readonly ipv6?: string | undefined;
  /** UDP port for TURN. */
  readonly port: number;
  /** Hex text from which the portal derives TURN passwords. */
  readonly stampSecret: Secret;
}

/** What a program logs in as. */
export type Login = DeviceLogin | RelayLogin;

/**
 * The base URL of the portal's API with a WebSocket scheme, or `undefined` if the text is not a
 * URL with `ws`, `wss`, `http` or `https`.
 */
export function toApiUrl(text: string): URL | undefined {
  const url = URL.parse(text.trim());
  if (url === null || url.hostname === "") return undefined;
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  return url.protocol === "ws:" || url.protocol === "wss:" ? url : undefined;
}

/**
 * The URL of the socket. On v1 it holds the token, so it must not be logged.
 *
 * @param apiUrl as {@link toApiUrl} gives it; its query is dropped
 * @param publicKey base64 of our WireGuard key; `undefined` for relays
 */
export function loginUrl(
  apiUrl: URL,
  era: Era,
  login: Login,
  token: Secret,
  publicKey: string | undefined,
): URL {
  const url = new URL(apiUrl);
  url.pathname = url.pathname.replace(/\/$/, "") + socketPath(era, login.role);
  url.hash = "";
  const query: [string, string | undefined][] = [
    ["token", era === "v1" ? token.reveal() : undefined],
    ...(login.role === "relay" ? relayQuery(login) : deviceQuery(era, login)),
    ["public_key", publicKey],
  ];
  url.search = new URLSearchParams(
    query.filter((pair): pair is [string, string] => pair[1] !== undefined),
  ).toString();
  return url;
}

/** The headers of the socket beside those of the WebSocket protocol. */
export function loginHeaders(
  era: Era,
  role: Role,
  token: Secret,
  host: HostInfo,
): Record<string, string> {
  return {
    "X-Authorization": `Bearer ${token.reveal()}`,
    "User-Agent": userAgent(era, role, host),
  };
}

function socketPath(era: Era, role: Role): string {
  return era === "v2" && role !== "relay" ? `/${role}/v2/websocket` : `/${role}/websocket`;
}

function deviceQuery(era: Era, login: DeviceLogin): [string, string | undefined][] {
  return [
    ["external_id", externalId(era, login.id)],
    ["name", login.name],
    ["device_serial", login.hardware?.serial],
    ["device_uuid", login.hardware?.uuid],
  ];
}

function relayQuery(login: RelayLogin): [string, string | undefined][] {
  return [
    ["name", login.name],
    ["ipv4", login.ipv4],
    ["ipv6", login.ipv6],
    ["port", String(login.port)],
  ];
}
