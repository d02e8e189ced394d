/**
 * A peer that is connected, and what the portal remembers about it meanwhile.
 * @module
 */

import type { IpAddress } from "@firezone/core/ip";
import type { RateLimit } from "@firezone/core/rate_limit";
import type { Brand, Millis, UnixSeconds } from "@firezone/core/units";
import type { TokenHash } from "./config/config.ts";
import type { DeviceParams, Era, RelayParams, Role } from "./connect_request.ts";
import type { Device } from "./device.ts";
import type { Relay } from "./relay_pool.ts";
import type { UserAgent } from "./user_agent.ts";

/** Names a connection; never used twice by one portal. */
export type ConnectionId = Brand<number, "ConnectionId">;

/** What every connection has. */
interface ConnectionBase {
  /** Its name. */
  readonly id: ConnectionId;
  /** By its path. */
  readonly era: Era;
  /** What the peer calls itself. */
  readonly agent: UserAgent;
  /** Where it connects from, if known. */
  readonly remoteIp: IpAddress | undefined;
  /** Of the token that it showed. */
  readonly tokenHash: TokenHash;
  /** Id of the account or site that the token stood for when it connected. */
  readonly ownerId: string;
  /** When it connected. */
  readonly connectedAt: UnixSeconds;
  /** Frames it may still send. */
  readonly rateLimit: RateLimit;
  /** When it last sent a frame. */
  lastHeardAt: Millis;
  /** Whether it has joined the channel of its role. */
  isJoined: boolean;
}

/** What connections with a device have. */
interface DeviceConnection extends ConnectionBase {
  /** The device, as it introduced itself on this connection. */
  readonly device: Device;
  /** What else it said about itself. */
  readonly params: DeviceParams;
  /** Relays that it was told of, by id. */
  readonly toldRelays: Map<string, Relay>;
}

/** A client. */
export interface ClientConnection extends DeviceConnection {
  /** Discriminates. */
  readonly role: "client";
  /** Resources that it was told of, by id. */
  readonly toldResources: Map<string, ToldResource>;
  /** The device of the gateway that it was given last, by resource. */
  readonly givenGateways: Map<string, string>;
  /** The interface that it was told, as JSON. */
  toldInterface: string;
}

/** A resource as a client knows it. */
export interface ToldResource {
  /** The whole view, as JSON. */
  readonly text: string;
  /** What must not change under a client's feet. */
  readonly key: string;
}

/** A gateway. */
export interface GatewayConnection extends DeviceConnection {
  /** Discriminates. */
  readonly role: "gateway";
  /** Until then others are preferred, because it left a request unanswered. */
  avoidUntil: Millis;
}

/** A relay. */
export interface RelayConnection extends ConnectionBase {
  /** Discriminates. */
  readonly role: "relay";
  /** What it said about itself. */
  readonly params: RelayParams;
  /** Known from when it joins. */
  relay: Relay | undefined;
}

/** Any peer. */
export type Connection = ClientConnection | GatewayConnection | RelayConnection;

/** How long a peer may be silent (portal-protocol §1.6), in milliseconds. */
export function idleTimeoutMs(role: Role, era: Era): number {
  switch (role) {
    case "client":
      return era === "v1" ? 307_000 : 37_000;
    case "gateway":
      return 37_000;
    case "relay":
      return 41_000;
  }
}
