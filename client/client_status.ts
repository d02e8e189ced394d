/**
 * The client in words, for status pages.
 * @module
 */

import type { ConnectionStatus } from "@firezone/core/connectivity";
import type { ClientResource } from "@firezone/core/portal";
import type { Route } from "./resource_table.ts";
import type { SiteStatus } from "./site_statuses.ts";

/** A resource, for status pages. */
export interface ResourceStatus {
  /** The portal's id. */
  readonly id: string;
  /** The portal's name. */
  readonly name: string;
  /** `cidr`, `dns`, `internet`. */
  readonly type: ClientResource["type"];
  /** Range or pattern. */
  readonly address?: string;
  /** Whether its site answers. */
  readonly status: SiteStatus;
  /** The gateway that carries it now. */
  readonly gatewayId?: string;
}

/** A snapshot of the client. */
export interface ClientStatus {
  /** Tunnel addresses, once the portal gave them. */
  readonly ipv4?: string;
  /** See {@link ipv4}. */
  readonly ipv6?: string;
  /** Resources that the portal grants. */
  readonly resources: readonly ResourceStatus[];
  /** Connections to gateways. */
  readonly connections: readonly ConnectionStatus[];
  /** Packets from TUN or the tunnel that were dropped, by reason. */
  readonly drops: Readonly<Record<string, number>>;
}

/** Describes a resource. @param status of its sites */
export function resourceStatus(
  { resource, gatewayId }: Route,
  status: SiteStatus,
): ResourceStatus {
  return {
    id: resource.id,
    name: resource.name,
    type: resource.type,
    ...resource.type === "cidr" && { address: resource.prefix.text },
    ...resource.type === "dns" && { address: resource.pattern },
    status,
    ...gatewayId !== undefined && { gatewayId },
  };
}
