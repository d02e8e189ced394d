/**
 * What a relay counts: application data by direction, answers by kind, drops by reason.
 * @module
 */

import { Distribution } from "@firezone/core/telemetry";

/** Upper ends of the size classes of application data, in bytes; one more class has no end. */
export const PACKET_SIZE_BOUNDS: readonly number[] = Array.from(
  { length: 15 },
  (_, i) => (i + 1) * 100,
);

/** Packets and bytes; only ever grow. */
export interface PacketCounters {
  /** Application data to peers, in packets. */
  packetsToPeers: number;
  /** Application data to peers, in bytes. */
  bytesToPeers: number;
  /** Application data to clients, in packets. */
  packetsToClients: number;
  /** Application data to clients, in bytes. */
  bytesToClients: number;
  /** Neither STUN nor ChannelData, or broken beyond an answer. */
  malformed: number;
  /** STUN messages that ask nothing. */
  unasked: number;
  /** ChannelData on a channel that is not bound. */
  unknownChannel: number;
  /** From a peer that no channel is bound to. */
  unknownPeer: number;
  /** Requests of strangers beyond what a source gets answered. */
  overBudget: number;
}

/** Answers of one kind. */
export interface ResponseCount {
  /** Method of the request, a value of `METHOD`. */
  readonly method: number;
  /** Error code; 0 is success. */
  readonly code: number;
  /** How many. */
  readonly count: number;
}

/** What a relay has done since its start. */
export class RelayCounters implements PacketCounters {
  /** See {@link PacketCounters}. */
  packetsToPeers = 0;
  /** See {@link PacketCounters}. */
  bytesToPeers = 0;
  /** See {@link PacketCounters}. */
  packetsToClients = 0;
  /** See {@link PacketCounters}. */
  bytesToClients = 0;
  /** See {@link PacketCounters}. */
  malformed = 0;
  /** See {@link PacketCounters}. */
  unasked = 0;
  /** See {@link PacketCounters}. */
  unknownChannel = 0;
  /** See {@link PacketCounters}. */
  unknownPeer = 0;
  /** See {@link PacketCounters}. */
  overBudget = 0;
  /** Sizes of application data, in bytes. */
  readonly sizes: Distribution = new Distribution(PACKET_SIZE_BOUNDS);
  readonly #responses = new Map<number, number>();

  /** Nothing has been counted. */
  constructor() {}

  /** Counts an answer. @param code error code; 0 is success */
  countResponse(method: number, code: number): void {
    const key = method << 10 | code;
    this.#responses.set(key, (this.#responses.get(key) ?? 0) + 1);
  }

  /** Answers by kind; their number is bounded by those of methods and codes. */
  get responses(): readonly ResponseCount[] {
    return [...this.#responses].map(([key, count]) => ({
      method: key >> 10,
      code: key & 0x3ff,
      count,
    }));
  }
}
