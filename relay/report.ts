/**
 * What a worker tells of itself when the main thread asks: levels, and what happened since it was
 * asked last.
 *
 *     main ── ask ──► worker        WorkerReporter.take()  reads and clears
 *     main ◄─ report ─ worker       ReportCollector        see `report_collector.ts`
 *
 * Asking instead of telling keeps an idle worker asleep and brings fresh values to whoever reads
 * them.
 * @module
 */

import { Distribution, type DistributionValues } from "@firezone/core/telemetry";
import type { RelayCounters, ResponseCount } from "./counters.ts";

/** A worker's report; plain data. */
export interface RelayReport {
  /** How many there are now. */
  readonly allocations: number;
  /** How many there are now. */
  readonly channels: number;
  /** Answers. */
  readonly responses: readonly ResponseCount[];
  /** Relayed packets by bytes of application data. */
  readonly packetSizes: DistributionValues;
  /** Turns of the loop by seconds, after which nothing was left to read. */
  readonly turns: DistributionValues;
  /** Turns of the loop by seconds, that ended because others must have theirs. */
  readonly exhaustedTurns: DistributionValues;
  /** Datagrams that led to nothing, by reason. */
  readonly dropped: Readonly<Record<DropReason, number>>;
}

/** Why a datagram led to nothing. */
export type DropReason =
  | "malformed"
  | "unasked"
  | "unknown-channel"
  | "unknown-peer"
  | "over-budget"
  | "oversized"
  | "refused"
  | "queue-full"
  | "worker-busy";

/** What a loop has dropped; only ever grows. */
export interface LoopDrops {
  /** Too long to be sent with a header in front. */
  readonly oversized: number;
  /** The system refused to send them. */
  readonly refused: number;
  /** A socket was full, and so was its queue. */
  readonly queueFull: number;
  /** Another worker did not keep up. */
  readonly workerBusy: number;
}

/** What is reported on. */
export interface ReportedServer {
  /** See {@link RelayReport}. */
  readonly allocationCount: number;
  /** See {@link RelayReport}. */
  readonly channelCount: number;
  /** What is counted. */
  readonly counters: RelayCounters;
}

/** Upper ends of the buckets in which turns are counted, in seconds. */
export const TURN_BOUNDS: readonly number[] = [
  ...[5e-6, 10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6],
  ...[1e-3, 2.5e-3, 5e-3, 10e-3],
];

/** The worker's end. */
export class WorkerReporter {
  readonly #server: ReportedServer;
  readonly #loop: () => LoopDrops;
  readonly #turns = new Distribution(TURN_BOUNDS);
  readonly #exhaustedTurns = new Distribution(TURN_BOUNDS);
  #droppedBefore: Readonly<Record<DropReason, number>> = NOTHING_DROPPED;
  #responsesBefore: readonly ResponseCount[] = [];

  /** Counts from now on.
   * @param loop what the server's loop has dropped by now */
  constructor(server: ReportedServer, loop: () => LoopDrops) {
    this.#server = server;
    this.#loop = loop;
  }

  /** Counts a turn of the loop. Allocates nothing. */
  noteTurn(seconds: number, isExhausted: boolean): void {
    (isExhausted ? this.#exhaustedTurns : this.#turns).record(seconds);
  }

  /** What happened since the last call. */
  take(): RelayReport {
    const { allocationCount, channelCount, counters } = this.#server;
    return {
      allocations: allocationCount,
      channels: channelCount,
      responses: this.#takeResponses(),
      packetSizes: counters.sizes.take(),
      turns: this.#turns.take(),
      exhaustedTurns: this.#exhaustedTurns.take(),
      dropped: this.#takeDropped(),
    };
  }

  #takeResponses(): ResponseCount[] {
    const { responses } = this.#server.counters;
    const before = new Map(this.#responsesBefore.map((r) => [kindOf(r), r.count]));
    this.#responsesBefore = responses;
    return responses
      .map((r) => ({ ...r, count: r.count - (before.get(kindOf(r)) ?? 0) }))
      .filter((r) => r.count > 0);
  }

  #takeDropped(): Record<DropReason, number> {
    const { counters } = this.#server;
    const loop = this.#loop();
    const now: Record<DropReason, number> = {
      "malformed": counters.malformed,
      "unasked": counters.unasked,
      "unknown-channel": counters.unknownChannel,
      "unknown-peer": counters.unknownPeer,
      "over-budget": counters.overBudget,
      "oversized": loop.oversized,
      "refused": loop.refused,
      "queue-full": loop.queueFull,
      "worker-busy": loop.workerBusy,
    };
    const before = this.#droppedBefore;
    this.#droppedBefore = { ...now };
    for (const reason of Object.keys(now) as DropReason[]) now[reason] -= before[reason];
    return now;
  }
}

/** Zero of each kind. */
export const NOTHING_DROPPED: Readonly<Record<DropReason, number>> = {
  "malformed": 0,
  "unasked": 0,
  "unknown-channel": 0,
  "unknown-peer": 0,
  "over-budget": 0,
  "oversized": 0,
  "refused": 0,
  "queue-full": 0,
  "worker-busy": 0,
};

function kindOf({ method, code }: ResponseCount): string {
  return `${method}/${code}`;
}
