/**
 * Who may connect: the token, then what the peer says about itself in the URL.
 *
 * Spec: portal-protocol §1.1 (parameters), §1.2 (token), §1.8 (refusals), §5.3 (validation).
 * @module
 */

import { fromBase64 } from "@firezone/core/bytes";
import { type IpAddress, parseIpAddress } from "@firezone/core/ip";
import { toPort, type UnixSeconds } from "@firezone/core/units";
import type { TokenHash } from "./config/config.ts";
import { tokenHash } from "./config/values.ts";
import { type Bearer, type Directory, FAR_FUTURE } from "./directory.ts";
import type { UserAgent } from "./user_agent.ts";

/** What a peer is. */
export type Role = "client" | "gateway" | "relay";

/** Generation of the protocol, by the path that a peer chose; relays have but one. */
export type Era = "v1" | "v2";

/** A peer that asks to connect. */
export interface ConnectRequest {
  /** By its path. */
  readonly role: Role;
  /** By its path. */
  readonly era: Era;
  /** From the header, else from the query. */
  readonly token: string | undefined;
  /** The header, or an empty text. */
  readonly userAgent: string;
  /** Where it connects from, if known. */
  readonly remoteIp: IpAddress | undefined;
  /** The query. */
  readonly params: ReadonlyMap<string, string>;
}

/** Why a peer may not connect: an HTTP status, and RFC 9457's words for it. */
export interface Refusal {
  /** HTTP status. */
  readonly status: number;
  /** What programs look at. */
  readonly code:
    | "missing_token"
    | "invalid_token"
    | "invalid_connect_params"
    | "gateway_already_connected"
    | "rate_limit"
    | "unhandled_connect_error";
  /** What people look at. */
  readonly detail: string;
  /** How long to wait before another attempt. */
  readonly retryAfterSeconds?: number;
}

/** A token that is in force. */
export interface Authenticated {
  /** Whom it stands for. */
  readonly bearer: Bearer;
  /** What is kept of it. */
  readonly tokenHash: TokenHash;
}

/** Whether a refusal. */
export function isRefusal(value: object): value is Refusal {
  return "status" in value;
}

/** Checks the token alone. */
export function authenticate(
  at: UnixSeconds,
  directory: Directory,
  role: Role,
  token: string | undefined,
): Authenticated | Refusal {
  if (token === undefined || token.trim() === "") {
    return { status: 401, code: "missing_token", detail: "There is no token in the request." };
  }
  const hash = tokenHash(token.replace(/\s+/g, ""));
  const bearer = directory.bearer(hash);
  if (bearer === undefined || bearer.role !== role || bearerEnd(bearer) <= at) {
    const detail = "The token is unknown, expired, or not meant for this kind of peer.";
    return { status: 401, code: "invalid_token", detail };
  }
  return { bearer, tokenHash: hash };
}

/** When a bearer's token stops working. */
export function bearerEnd(bearer: Bearer): UnixSeconds {
  return bearer.role === "client" ? bearer.account.expiresAt ?? FAR_FUTURE : FAR_FUTURE;
}

/** Whom a bearer's devices belong to. */
export function bearerOwnerId(bearer: Bearer): string {
  switch (bearer.role) {
    case "client":
      return bearer.account.id;
    case "gateway":
      return bearer.site.id;
    case "relay":
      return "";
  }
}

/** What clients and gateways say about themselves. */
export interface DeviceParams {
  /** Their own id. */
  readonly externalId: string;
  /** For people. */
  readonly name: string;
  /** WireGuard key in base64. */
  readonly publicKey: string;
  /** Hardware ids, by their key on the wire. */
  readonly hardware: Readonly<Record<typeof HARDWARE_KEYS[number], string | null>>;
}

const HARDWARE_KEYS = [
  "device_serial",
  "device_uuid",
  "identifier_for_vendor",
  "firebase_installation_id",
] as const;

/** Reads what a client or gateway says about itself. */
export function deviceParams(
  role: "client" | "gateway",
  params: ReadonlyMap<string, string>,
  agent: UserAgent,
): DeviceParams | Refusal {
  const externalId = params.get("external_id") ?? "";
  if (externalId === "" || externalId.length > 255) {
    return invalid("external_id", "1 to 255 characters");
  }
  const publicKey = params.get("public_key") ?? "";
  if (publicKey.length !== 44 || fromBase64(publicKey)?.length !== 32) {
    return invalid("public_key", "the base64 of 32 bytes");
  }
  if (role === "client" && agent.version === undefined) {
    return invalid("User-Agent", "a component and its version, such as headless-client/1.5.0");
  }
  const name = (params.get("name") ?? "").trim().slice(0, 255);
  return {
    externalId,
    name: name === "" ? externalId.slice(0, 16) : name,
    publicKey,
    hardware: Object.fromEntries(
      HARDWARE_KEYS.map((key) => [key, params.get(key)?.slice(0, 255) ?? null]),
    ) as DeviceParams["hardware"],
  };
}

/** Where a relay says it can be reached. */
export interface RelayParams {
  /** For people. */
  readonly name: string | undefined;
  /** Public address. */
  readonly ipv4: IpAddress | undefined;
  /** Public address. */
  readonly ipv6: IpAddress | undefined;
  /** UDP port of both. */
  readonly port: number;
}

/** STUN's registered port (RFC 8489 §14). */
const DEFAULT_RELAY_PORT = "3478";

/** Reads where a relay can be reached. */
export function relayParams(params: ReadonlyMap<string, string>): RelayParams | Refusal {
  const ipv4 = addressParam(params, "ipv4", 4);
  const ipv6 = addressParam(params, "ipv6", 6);
  if (ipv4 === "invalid") return invalid("ipv4", "an IPv4 address");
  if (ipv6 === "invalid") return invalid("ipv6", "an IPv6 address");
  if (!ipv4 && !ipv6) return invalid("ipv4 or ipv6", "the relay's public address");
  const portText = params.get("port") ?? DEFAULT_RELAY_PORT;
  const port = toPort(/^\d{1,5}$/.test(portText) ? Number(portText) : 0);
  if (port === undefined) return invalid("port", "1 to 65535");
  return { name: params.get("name")?.slice(0, 255), ipv4, ipv6, port };
}

function addressParam(
  params: ReadonlyMap<string, string>,
  key: string,
  family: 4 | 6,
): IpAddress | "invalid" | undefined {
  const text = params.get(key);
  if (text === undefined || text === "") return undefined;
  const address = parseIpAddress(text);
  return address?.family === family ? address : "invalid";
}

function invalid(what: string, shape: string): Refusal {
  const detail = `Cannot use ${what}: expected ${shape}.`;
  return { status: 400, code: "invalid_connect_params", detail };
}
