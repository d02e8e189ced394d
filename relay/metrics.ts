/**
 * The relay's metrics, made of what its workers report.
 *
 * Names, units, attributes and bounds are those of Firezone's relay, so that its dashboards work;
 * `relay.active_channels` and `relay.dropped` are ours.
 * @module
 */

import { METHOD } from "@firezone/core/stun";
import {
  type Counter,
  countOf,
  type Histogram,
  Metrics,
  type UpDownCounter,
} from "@firezone/core/telemetry";
import { PACKET_SIZE_BOUNDS } from "./counters.ts";
import { type RelayReport, TURN_BOUNDS } from "./report.ts";

/** What clients ask for, as metrics have it. */
export const MESSAGE_TYPES: ReadonlyMap<number, string> = new Map([
  [METHOD.binding, "binding"],
  [METHOD.allocate, "allocate"],
  [METHOD.refresh, "refresh"],
  [METHOD.channelBind, "channelbind"],
  [METHOD.createPermission, "createpermission"],
]);

/** What all workers have and did together. */
export interface RelayTotals {
  /** Now. */
  readonly allocations: number;
  /** Now. */
  readonly channels: number;
  /** Application data relayed since the start. */
  readonly bytes: number;
  /** Packets relayed since the start. */
  readonly packets: number;
}

/** See the head of this file. */
export class RelayMetrics {
  /** All instruments. */
  readonly all: Metrics = new Metrics("relay");
  readonly #activeAllocations: UpDownCounter = this.all.upDownCounter({
    name: "relay.active_allocations",
    unit: "{allocation}",
    description: "Allocations that exist now.",
  });
  readonly #activeChannels: UpDownCounter = this.all.upDownCounter({
    name: "relay.active_channels",
    unit: "{channel}",
    description: "Channels that are bound now, those in their cool-down included.",
  });
  readonly #responses: Counter = this.all.counter({
    name: "relay.responses",
    unit: "{response}",
    description: "STUN and TURN answers sent.",
  });
  readonly #packetSizes: Histogram = this.all.histogram({
    name: "relay.packet.size",
    unit: "By",
    description: "Size of relayed packets without the ChannelData header.",
    bounds: PACKET_SIZE_BOUNDS,
  });
  readonly #dropped: Counter = this.all.counter({
    name: "relay.dropped",
    unit: "{packet}",
    description: "Datagrams that led to nothing.",
  });
  readonly #turns: Histogram = this.all.histogram({
    scope: "connlib",
    name: "eventloop.poll.duration",
    unit: "s",
    description: "Duration of a single event-loop poll.",
    bounds: TURN_BOUNDS,
  });
  readonly #levels = new Map<number, { readonly allocations: number; readonly channels: number }>();
  #bytes = 0;
  #packets = 0;

  /** Nothing reported yet. */
  constructor() {
    this.#showLevels();
  }

  /** Takes in what a worker reports; `worker` is its number. */
  apply(worker: number, report: RelayReport): void {
    const { allocations, channels } = report;
    this.#levels.set(worker, { allocations, channels });
    this.#showLevels();
    for (const { method, code, count } of report.responses) {
      const message_type = MESSAGE_TYPES.get(method) ?? "unknown";
      this.#responses.add(
        count,
        code === 0
          ? { response_class: "success", message_type }
          : { response_class: "error", message_type, error_code: code },
      );
    }
    this.#packetSizes.merge(report.packetSizes, { "relay.datapath": "userspace" });
    for (const [reason, count] of Object.entries(report.dropped)) {
      if (count > 0) this.#dropped.add(count, { reason });
    }
    const name = { "eventloop.name": "relay" };
    this.#turns.merge(report.turns, { "eventloop.exhausted": false, ...name });
    this.#turns.merge(report.exhaustedTurns, { "eventloop.exhausted": true, ...name });
    this.#bytes += report.packetSizes.sum;
    this.#packets += countOf(report.packetSizes);
  }

  /** As far as it was reported. */
  get totals(): RelayTotals {
    let [allocations, channels] = [0, 0];
    for (const level of this.#levels.values()) {
      allocations += level.allocations;
      channels += level.channels;
    }
    return { allocations, channels, bytes: this.#bytes, packets: this.#packets };
  }

  #showLevels(): void {
    const { allocations, channels } = this.totals;
    this.#activeAllocations.set(allocations);
    this.#activeChannels.set(channels);
  }
}
