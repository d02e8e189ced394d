/**
 * The way that a connection's datagrams take: straight to the peer, or through our TURN relay.
 *
 * A peer may itself sit behind a relay; for us that is only a remote address of kind `relay`.
 * @module
 */

import type { Candidate, CandidateKind } from "../ice/mod.ts";
import type { SocketAddress } from "../ip/address.ts";
import type { Transmit } from "../transmit.ts";
import {
  type Allocation,
  CHANNEL_DATA_HEADER_LENGTH,
  writeChannelDataHeader,
} from "../turn/mod.ts";

/** A nominated way to the peer. */
export type Path =
  | {
    readonly kind: "direct";
    /** Our socket's address. */
    readonly local: SocketAddress;
    /** The peer as we see it. */
    readonly remote: SocketAddress;
    /** What the remote address is; `relay` means that the peer's end is relayed. */
    readonly remoteKind: CandidateKind;
  }
  | {
    readonly kind: "relayed";
    /** The relayed address, as the peer sees us. */
    readonly local: SocketAddress;
    /** The peer as our relay sees it. */
    readonly remote: SocketAddress;
    /** What the remote address is; `relay` means that both ends are relayed. */
    readonly remoteKind: CandidateKind;
    /** The allocation that relays. */
    readonly allocation: Allocation;
  };

/** The path between two nominated candidates; `allocation` is the connection's relay, if any. */
export function pathBetween(
  local: Candidate,
  remote: Candidate,
  allocation: Allocation | undefined,
): Path | undefined {
  const remoteKind = remote.kind;
  if (local.kind !== "relay") {
    return { kind: "direct", local: local.base, remote: remote.address, remoteKind };
  }
  if (!allocation) return undefined;
  return { kind: "relayed", local: local.address, remote: remote.address, remoteKind, allocation };
}

/** Whether two paths lead the same way. */
export function samePath(a: Path | undefined, b: Path | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return a.kind === b.kind && a.local.equals(b.local) && a.remote.equals(b.remote);
}

/** The datagram that carries `payload` over `path`; undefined while the relay has no channel. */
export function transmitOver(path: Path, payload: Uint8Array): Transmit | undefined {
  if (path.kind === "direct") {
    return { source: path.local, destination: path.remote, payload };
  }
  return relayedTransmit(path.allocation, path.remote, payload);
}

/** The ChannelData message that brings `payload` to `peer`; undefined while there is no channel. */
export function relayedTransmit(
  allocation: Allocation,
  peer: SocketAddress,
  payload: Uint8Array,
): Transmit | undefined {
  const channel = allocation.channelFor(peer);
  const destination = allocation.activeServer;
  if (channel === undefined || destination === undefined) return undefined;
  const framed = new Uint8Array(CHANNEL_DATA_HEADER_LENGTH + payload.length);
  writeChannelDataHeader(framed, 0, channel, payload.length);
  framed.set(payload, CHANNEL_DATA_HEADER_LENGTH);
  return { source: undefined, destination, payload: framed };
}
