/**
 * Allocations and their channels, with every index by which they are found.
 *
 *     client ───► allocation ─┬─ channel number ──► channel      client to peer
 *     port ─────► allocation ─┴─ peer ────────────► channel      peer to client
 *     username ─► allocation                                     where a user may have but one
 *
 * One class holds all indices and alone writes them, so that none can be forgotten. Deadlines are in
 * one heap: what a packet costs does not depend on how many allocations there are.
 * @module
 */

import { Deadlines } from "@firezone/core/deadlines";
import type { Family, SocketAddress } from "@firezone/core/ip";
import type { ChannelNumber } from "@firezone/core/turn";
import { after, type Millis, NEVER, type Port } from "@firezone/core/units";

/** How long a channel admits traffic after it was bound or refreshed (RFC 8656 §12). */
export const CHANNEL_LIFETIME_MS = 600_000;
/** How long number and peer of an expired channel stay tied to each other. */
export const CHANNEL_COOLDOWN_MS = 300_000;

/** A channel of an allocation. */
export interface Channel {
  /** Chosen by the client, unique within its allocation. */
  readonly number: ChannelNumber;
  /** Whom it stands for. */
  readonly peer: SocketAddress;
  /** The allocation it belongs to. */
  readonly allocation: RelayAllocation;
  /**
   * Set where the peer is on our own public address, so another client of ours: the key of the
   * address by which that one knows this allocation.
   */
  readonly knownAs: string | undefined;
  /** Traffic passes before this time. */
  expiresAt: Millis;
  /** Whether traffic passes; false during the cool-down. */
  isBound: boolean;
}

/** An allocation: ports of ours that a client uses as if they were its own. */
export interface RelayAllocation {
  /** Names it in commands and reports. */
  readonly id: number;
  /** Who it belongs to. */
  readonly client: SocketAddress;
  /** Who made it. */
  readonly username: string;
  /** Whose only allocation it is; undefined where a user may have several. */
  readonly soleOf: string | undefined;
  /** The same in all families. */
  readonly port: Port;
  /** IPv4 before IPv6 where there are both. */
  readonly families: readonly Family[];
  /** Of the ALLOCATE that made it, so that its retransmission is known. */
  readonly transactionId: string;
  /** The answer to that ALLOCATE. */
  readonly response: Uint8Array;
  /** It ends at this time unless refreshed. */
  expiresAt: Millis;
  /** By number. Written by {@link AllocationTable} alone. */
  readonly channels: Map<number, Channel>;
  /** By key of the peer's address. Written by {@link AllocationTable} alone. */
  readonly channelsByPeer: Map<string, Channel>;
}

/** What {@link AllocationTable.takeDue} found. */
export type Due =
  | { readonly tag: "allocation-expired"; readonly allocation: RelayAllocation }
  | { readonly tag: "channel-expired"; readonly channel: Channel };

/** Every index of an {@link AllocationTable}, to be looked at by `invariants.ts` and not changed. */
export interface TableIndices {
  /** By key of the client's address. */
  readonly byClient: ReadonlyMap<string, RelayAllocation>;
  /** By port. */
  readonly byPort: ReadonlyMap<number, RelayAllocation>;
  /** By {@link RelayAllocation.soleOf}. */
  readonly byUsername: ReadonlyMap<string, RelayAllocation>;
  /** What ends when. */
  readonly deadlines: Pick<Deadlines<RelayAllocation | Channel>, "of" | "size">;
}

/** All allocations of a relay. */
export class AllocationTable {
  readonly #byClient = new Map<string, RelayAllocation>();
  readonly #byPort = new Map<number, RelayAllocation>();
  readonly #byUsername = new Map<string, RelayAllocation>();
  readonly #deadlines = new Deadlines<RelayAllocation | Channel>();
  #channelCount = 0;

  /** No allocations. */
  constructor() {}

  /** Number of allocations. */
  get size(): number {
    return this.#byClient.size;
  }

  /** Number of channels, those in their cool-down included. */
  get channelCount(): number {
    return this.#channelCount;
  }

  /** When {@link takeDue} has something to do. */
  get nextDeadline(): Millis {
    return this.#deadlines.next;
  }

  /** All indices as they are now. */
  get indices(): TableIndices {
    return {
      byClient: this.#byClient,
      byPort: this.#byPort,
      byUsername: this.#byUsername,
      deadlines: this.#deadlines,
    };
  }

  /** The allocation of a client. */
  byClient(client: SocketAddress): RelayAllocation | undefined {
    return this.#byClient.get(client.key);
  }

  /** The allocation on a port. */
  byPort(port: number): RelayAllocation | undefined {
    return this.#byPort.get(port);
  }

  /** The only allocation of a user. */
  soleOf(username: string): RelayAllocation | undefined {
    return this.#byUsername.get(username);
  }

  /** Adds an allocation. Client, port and `soleOf` must have none. */
  add(allocation: Omit<RelayAllocation, "channels" | "channelsByPeer">): RelayAllocation {
    const added = { ...allocation, channels: new Map(), channelsByPeer: new Map() };
    this.#byClient.set(added.client.key, added);
    this.#byPort.set(added.port, added);
    if (added.soleOf !== undefined) this.#byUsername.set(added.soleOf, added);
    this.#deadlines.set(added, added.expiresAt);
    return added;
  }

  /** Moves the end of an allocation. */
  extend(allocation: RelayAllocation, expiresAt: Millis): void {
    allocation.expiresAt = expiresAt;
    this.#deadlines.set(allocation, expiresAt);
  }

  /** Removes an allocation with all its channels. */
  remove(allocation: RelayAllocation): void {
    for (const channel of allocation.channels.values()) this.#deadlines.delete(channel);
    this.#channelCount -= allocation.channels.size;
    allocation.channels.clear();
    allocation.channelsByPeer.clear();
    this.#deadlines.delete(allocation);
    this.#byClient.delete(allocation.client.key);
    this.#byPort.delete(allocation.port);
    if (allocation.soleOf !== undefined) this.#byUsername.delete(allocation.soleOf);
  }

  /**
   * Binds a number to a peer, or refreshes that binding, also in its cool-down.
   *
   * @returns `undefined` when number or peer is tied to another
   */
  bind(
    now: Millis,
    allocation: RelayAllocation,
    number: ChannelNumber,
    peer: SocketAddress,
    knownAs: string | undefined,
  ): Channel | undefined {
    const byNumber = allocation.channels.get(number);
    const byPeer = allocation.channelsByPeer.get(peer.key);
    if (byNumber !== byPeer) return undefined;
    const expiresAt = after(now, CHANNEL_LIFETIME_MS);
    let channel = byNumber;
    if (channel === undefined) {
      channel = { number, peer, allocation, knownAs, expiresAt, isBound: true };
      allocation.channels.set(number, channel);
      allocation.channelsByPeer.set(peer.key, channel);
      this.#channelCount++;
    }
    channel.expiresAt = expiresAt;
    channel.isBound = true;
    this.#deadlines.set(channel, expiresAt);
    return channel;
  }

  /** Ends one thing whose time has come and says which, until there is none. */
  takeDue(now: Millis): Due | undefined {
    for (let due; (due = this.#deadlines.takeDue(now)) !== undefined;) {
      if ("soleOf" in due) {
        this.remove(due);
        return { tag: "allocation-expired", allocation: due };
      }
      if (due.isBound) {
        due.isBound = false;
        this.#deadlines.set(due, after(due.expiresAt, CHANNEL_COOLDOWN_MS));
        return { tag: "channel-expired", channel: due };
      }
      this.#removeChannel(due);
    }
    return undefined;
  }

  #removeChannel(channel: Channel): void {
    channel.allocation.channels.delete(channel.number);
    channel.allocation.channelsByPeer.delete(channel.peer.key);
    channel.expiresAt = NEVER;
    this.#channelCount--;
  }
}
