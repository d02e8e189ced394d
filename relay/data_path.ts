/**
 * Where application data goes: two look-ups each way, and what went by is counted.
 *
 *     client, channel number ──► peer          from the port of the allocation
 *     port, peer ──────────────► client        from the listen port, behind a ChannelData header
 *
 * Where both ends are clients of ours, the one becomes the other's peer without a detour over the
 * network, which would need a router that sends packets back.
 *
 * Cost: allocates nothing, does not depend on how many allocations there are.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { ChannelDataRef, type ChannelNumber, Parse, parseChannelData } from "@firezone/core/turn";
import type { Millis } from "@firezone/core/units";
import type { AllocationTable, Channel } from "./allocation_table.ts";
import type { RelayCounters } from "./counters.ts";
import type { Forwarding } from "./forwarding.ts";
import { isInRange, type PortRange } from "./port_pool.ts";

/** See the head of this file. */
export class DataPath {
  readonly #table: AllocationTable;
  readonly #counters: RelayCounters;
  readonly #ports: PortRange;
  readonly #lastChannel: ChannelNumber;
  readonly #channelData = new ChannelDataRef();

  /**
   * Forwards between the clients of a table and their peers.
   *
   * @param ports those of the table's allocations; others of this relay belong to siblings
   */
  constructor(
    table: AllocationTable,
    counters: RelayCounters,
    ports: PortRange,
    lastChannel: ChannelNumber,
  ) {
    this.#table = table;
    this.#counters = counters;
    this.#ports = ports;
    this.#lastChannel = lastChannel;
  }

  /** Takes ChannelData, whatever its bytes. @returns whether `out` says where to forward it */
  fromClient(
    now: Millis,
    client: SocketAddress,
    buf: Uint8Array,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    const data = this.#channelData;
    const counters = this.#counters;
    if (parseChannelData(buf, start, end, data, this.#lastChannel) !== Parse.Ok) {
      counters.malformed++;
      return false;
    }
    const channel = this.#table.byClient(client)?.channels.get(data.channel);
    if (channel === undefined || !admitsTraffic(channel, now)) {
      counters.unknownChannel++;
      return false;
    }
    const { peer, knownAs } = channel;
    if (knownAs !== undefined && isInRange(this.#ports, peer.port)) {
      return this.toClient(now, knownAs, peer.port, data.start, data.end, out);
    }
    out.direction = knownAs === undefined ? "peer" : "sibling";
    out.destination = peer;
    out.allocationPort = channel.allocation.port;
    out.start = data.start;
    out.end = data.end;
    // What goes to a sibling is counted there, as what goes to another client of our own is.
    if (knownAs !== undefined) return true;
    const length = data.end - data.start;
    counters.packetsToPeers++;
    counters.bytesToPeers += length;
    counters.sizes.record(length);
    return true;
  }

  /**
   * Takes what came to an allocation.
   *
   * @param peerKey key of the address that it came from
   * @returns whether `out` says where to forward it
   */
  toClient(
    now: Millis,
    peerKey: string,
    allocationPort: number,
    start: number,
    end: number,
    out: Forwarding,
  ): boolean {
    const counters = this.#counters;
    const channel = this.#table.byPort(allocationPort)?.channelsByPeer.get(peerKey);
    if (channel === undefined || !admitsTraffic(channel, now)) {
      counters.unknownPeer++;
      return false;
    }
    out.direction = "client";
    out.destination = channel.allocation.client;
    out.channel = channel.number;
    out.start = start;
    out.end = end;
    counters.packetsToClients++;
    counters.bytesToClients += end - start;
    counters.sizes.record(end - start);
    return true;
  }
}

/** Whether a channel is bound; its allocation may end before it. */
function admitsTraffic(channel: Channel, now: Millis): boolean {
  return now < channel.expiresAt && now < channel.allocation.expiresAt;
}
