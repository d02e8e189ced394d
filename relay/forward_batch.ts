/**
 * Application data on its way out: what one read brought is gathered by destination and sent from
 * where it lies.
 *
 *     add, addFramed  (per packet, no objects, no copy)  ──►  lane of socket and destination
 *     flush           (before the buffer is read into again)  ──►  one sendmsg per lane
 *
 * The packets of a lane leave in the order in which they came. A lane takes what the kernel can cut
 * apart again: packets of one length, but for a shorter last one, and one ECN field.
 *
 * Owns: which bytes go where. Does not own: the bytes, the sockets.
 * Cost: allocates nothing unless a socket is full.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { GatherBatch } from "@firezone/core/os/linux";
import { channelDataHeader, type ChannelNumber } from "@firezone/core/turn";
import type { BufferedSender } from "./buffered_sender.ts";

/** Destinations that are collected for at the same time. */
const LANES = 16;

interface Lane {
  readonly batch: GatherBatch;
  sender: BufferedSender | undefined;
  destination: SocketAddress | undefined;
  ecn: number;
}

/** See the head of this file. */
export class ForwardBatch {
  readonly #lanes: readonly Lane[];
  /** Lanes `[0, #used)` hold something. */
  #used = 0;
  #current: Lane;

  /** An empty batch. @param buffer all packets lie in it; never resized or transferred */
  constructor(buffer: Uint8Array) {
    this.#lanes = Array.from(
      { length: LANES },
      () => ({
        batch: new GatherBatch(buffer),
        sender: undefined,
        destination: undefined,
        ecn: 0,
      }),
    );
    this.#current = this.#lanes[0]!;
  }

  /** Takes `buffer[start, end)` as a datagram. @param ecn ECN field, 0 to 3 */
  add(
    sender: BufferedSender,
    destination: SocketAddress,
    ecn: number,
    start: number,
    end: number,
  ): void {
    const lane = this.#laneFor(sender, destination, ecn);
    if (lane.batch.add(start, end - start)) return;
    this.#send(lane);
    lane.batch.add(start, end - start);
  }

  /** The same behind a ChannelData header. */
  addFramed(
    sender: BufferedSender,
    destination: SocketAddress,
    ecn: number,
    channel: ChannelNumber,
    start: number,
    end: number,
  ): void {
    const header = channelDataHeader(channel, end - start);
    const lane = this.#laneFor(sender, destination, ecn);
    if (lane.batch.addPrefixed(header, start, end - start)) return;
    this.#send(lane);
    lane.batch.addPrefixed(header, start, end - start);
  }

  /** Sends everything. */
  flush(): void {
    for (let i = 0; i < this.#used; i++) {
      const lane = this.#lanes[i]!;
      this.#send(lane);
      lane.sender = undefined;
      lane.destination = undefined;
    }
    this.#used = 0;
  }

  /** Destinations are those of channels and allocations, so each has one object. */
  #laneFor(sender: BufferedSender, destination: SocketAddress, ecn: number): Lane {
    let lane = this.#current;
    if (lane.destination !== destination || lane.sender !== sender) {
      lane = this.#current = this.#find(sender, destination);
    }
    if (lane.ecn !== ecn) {
      this.#send(lane);
      lane.ecn = ecn;
    }
    return lane;
  }

  #find(sender: BufferedSender, destination: SocketAddress): Lane {
    for (let i = 0; i < this.#used; i++) {
      const lane = this.#lanes[i]!;
      if (lane.destination === destination && lane.sender === sender) return lane;
    }
    if (this.#used === LANES) this.flush();
    const lane = this.#lanes[this.#used++]!;
    lane.sender = sender;
    lane.destination = destination;
    return lane;
  }

  #send({ sender, destination, batch, ecn }: Lane): void {
    if (batch.count === 0) return;
    sender!.sendGathered(destination!, batch, ecn);
    batch.clear();
  }
}
