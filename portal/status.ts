/**
 * Who is online, for people and monitoring; holds neither tokens nor keys.
 * @module
 */

import type { UnixSeconds } from "@firezone/core/units";
import type { ClientConnection, GatewayConnection } from "./connection.ts";
import type { ConnectionRegistry } from "./connection_registry.ts";
import type { Directory } from "./directory.ts";
import { versionText } from "./user_agent.ts";
import { interfaceView } from "./views.ts";

/** A client or gateway that is online. */
export interface DeviceStatus {
  /** UUID. */
  readonly id: string;
  /** Its own name. */
  readonly name: string;
  /** Name of its account (clients) or site (gateways). */
  readonly owner: string;
  /** Tunnel address. */
  readonly ipv4: string;
  /** Tunnel address. */
  readonly ipv6: string;
  /** Where it connects from, if known. */
  readonly remote_ip: string | null;
  /** Of its program; may be empty. */
  readonly version: string;
  /** Generation of the protocol. */
  readonly protocol: "v1" | "v2";
  /** Seconds since 1970. */
  readonly connected_at: UnixSeconds;
}

/** A relay that is online. */
export interface RelayStatus {
  /** UUID, new with each process. */
  readonly id: string;
  /** Its own name. */
  readonly name: string | null;
  /** Public address. */
  readonly ipv4: string | null;
  /** Public address. */
  readonly ipv6: string | null;
  /** UDP port. */
  readonly port: number;
  /** Seconds since 1970. */
  readonly connected_at: UnixSeconds;
}

/** Who is online. */
export interface PortalStatus {
  /** Seconds since 1970. */
  readonly time: UnixSeconds;
  /** Clients, in the order in which they came. */
  readonly clients: readonly DeviceStatus[];
  /** Gateways, in the order in which they came. */
  readonly gateways: readonly DeviceStatus[];
  /** Relays, in the order in which they came. */
  readonly relays: readonly RelayStatus[];
}

/** Looks at who is online. */
export function portalStatus(
  at: UnixSeconds,
  registry: ConnectionRegistry,
  directory: Directory,
): PortalStatus {
  const owner = ({ role, ownerId }: ClientConnection | GatewayConnection) =>
    (role === "client" ? directory.account(ownerId) : directory.site(ownerId))?.name ?? "";
  const device = (connection: ClientConnection | GatewayConnection): DeviceStatus => ({
    id: connection.device.id,
    name: connection.device.name,
    owner: owner(connection),
    ...interfaceView(connection.device),
    remote_ip: connection.remoteIp?.text ?? null,
    version: versionText(connection.agent.version),
    protocol: connection.era,
    connected_at: connection.connectedAt,
  });
  return {
    time: at,
    clients: registry.clients.map(device),
    gateways: registry.gateways.map(device),
    relays: registry.relays.map(({ relay, params, connectedAt }) => ({
      id: relay?.id ?? "",
      name: params.name ?? null,
      ipv4: params.ipv4?.text ?? null,
      ipv6: params.ipv6?.text ?? null,
      port: params.port,
      connected_at: connectedAt,
    })),
  };
}
