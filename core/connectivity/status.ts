/**
 * Connections and their paths in words, for status pages and logs.
 * @module
 */

import type { Millis } from "../units.ts";
import type { Connection } from "./connection.ts";
import type { Path } from "./path.ts";

/** A path in words, for status pages and logs. */
export interface PathStatus {
  /** Whether our own relay is in between. */
  readonly kind: "direct" | "relayed";
  /** Our address as the peer sees it, or our socket's. */
  readonly local: string;
  /** The peer's address as our end sees it. */
  readonly remote: string;
  /** Whether the peer's end goes through a relay. */
  readonly remoteRelayed: boolean;
  /** Our relay, when `kind` is `relayed`. */
  readonly relay?: string;
}

/** How a connection is doing, for status pages and logs. */
export interface ConnectionStatus {
  /** The peer's id at the portal. */
  readonly peerId: string;
  /** `connecting` until the first handshake. */
  readonly state: "connecting" | "connected" | "idle";
  /** The nominated path. */
  readonly path?: PathStatus;
  /** Round-trip time of the last check on the path, in milliseconds. */
  readonly rttMs?: number;
  /** Milliseconds since the last handshake. */
  readonly lastHandshakeMs?: number;
  /** Bytes of WireGuard data messages sent. */
  readonly txBytes: number;
  /** Bytes of WireGuard data messages received. */
  readonly rxBytes: number;
  /** WireGuard data messages sent. */
  readonly txPackets: number;
  /** WireGuard data messages received. */
  readonly rxPackets: number;
  /** WireGuard data messages that the peer sent and that did not arrive. */
  readonly rxLost: number;
}

/** Whose relays a path goes through, as logs and metrics name it. */
export type PathKind = "direct" | "relayed" | "relayed-by-peer" | "relayed-twice";

/** The kind of a path. */
export function pathKind({ kind, remoteRelayed }: PathStatus): PathKind {
  if (kind === "direct") return remoteRelayed ? "relayed-by-peer" : "direct";
  return remoteRelayed ? "relayed-twice" : "relayed";
}

/** Describes a connection as it is now. */
export function connectionStatus(now: Millis, connection: Connection): ConnectionStatus {
  const { path, tunnel, peerId } = connection;
  const rttMs = connection.agent.nominated?.rttMs;
  return {
    peerId,
    state: !connection.isEstablished ? "connecting" : connection.isIdle ? "idle" : "connected",
    ...path && { path: pathStatus(path) },
    ...rttMs !== undefined && { rttMs },
    ...tunnel.lastHandshakeAt !== undefined && { lastHandshakeMs: now - tunnel.lastHandshakeAt },
    txBytes: tunnel.txBytes,
    rxBytes: tunnel.rxBytes,
    txPackets: tunnel.txPackets,
    rxPackets: tunnel.rxPackets,
    rxLost: tunnel.rxLost,
  };
}

/** Describes a path. */
export function pathStatus(path: Path): PathStatus {
  const relay = path.kind === "relayed" ? path.allocation.activeServer : undefined;
  return {
    kind: path.kind,
    local: path.local.key,
    remote: path.remote.key,
    remoteRelayed: path.remoteKind === "relay",
    ...relay && { relay: relay.key },
  };
}
