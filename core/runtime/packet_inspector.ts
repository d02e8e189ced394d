/**
 * Looks at the packets inside a tunnel for those who operate it: flows are logged when they are over,
 * wrong checksums are warned of. Only what was asked for costs anything.
 *
 * @module
 */

import { wrongChecksum } from "../ip/mod.ts";
import { logger } from "../telemetry/mod.ts";
import type { Millis } from "../units.ts";
import { monotonicNow, unixMillisAtZero } from "./clock.ts";
import { FlowLog, type FlowRecord } from "./flow_log.ts";

/** Which end of flows a program is. */
export type FlowRole = "initiator" | "responder";

/** What is to be looked at. */
export interface Inspection {
  /** Whether packets that come out of the tunnel with a wrong checksum are warned of. */
  readonly validatesChecksums: boolean;
  /** As what flows are logged; undefined: they are not. */
  readonly flowRole: FlowRole | undefined;
}

/** The part of the log that flows go to; a filter names it `flow_logs`. */
const FLOW_LOGS = "flow_logs";

/** See the head of this file. */
export class PacketInspector {
  readonly #flows: FlowLog | undefined;
  readonly #role: FlowRole | undefined;
  readonly #validates: boolean;
  readonly #log = logger("data-plane");
  readonly #flowLog = logger(FLOW_LOGS);

  /** An inspector; undefined when nothing is to be looked at. */
  static make(inspection: Inspection): PacketInspector | undefined {
    const { validatesChecksums, flowRole } = inspection;
    return validatesChecksums || flowRole !== undefined
      ? new PacketInspector(inspection)
      : undefined;
  }

  private constructor({ validatesChecksums, flowRole }: Inspection) {
    this.#validates = validatesChecksums;
    this.#role = flowRole;
    this.#flows = flowRole && new FlowLog();
  }

  /** Looks at the packet `buf[start, end)`, which came out of the tunnel. */
  fromTunnel(buf: Uint8Array, start: number, end: number): void {
    if (this.#validates) {
      const layer = wrongChecksum(buf, start, end);
      if (layer !== undefined) this.#log.warn("A packet has a wrong checksum", { layer });
    }
    this.#flows?.handlePacket(monotonicNow(), buf, start, end);
  }

  /** Looks at the packet `buf[start, end)`, which the system routed into the tunnel. */
  intoTunnel(now: Millis, buf: Uint8Array, start: number, end: number): void {
    this.#flows?.handlePacket(now, buf, start, end);
  }

  /** Logs the flows that are over. */
  handleTurn(now: Millis): void {
    if (this.#flows === undefined) return;
    this.#flows.handleTimeout(now);
    for (let record; (record = this.#flows.pollRecord()) !== undefined;) this.#tell(record);
  }

  /** The tunnel ends. */
  close(now: Millis): void {
    this.#flows?.shutDown(now);
    this.handleTurn(now);
  }

  #tell(record: FlowRecord): void {
    this.#flowLog.info("A flow is over", {
      role: this.#role,
      protocol: record.protocol,
      inner_src_ip: record.source.text,
      inner_src_port: record.sourcePort,
      inner_dst_ip: record.destination.text,
      inner_dst_port: record.destinationPort,
      flow_start: timeText(record.startedAt),
      flow_end: timeText(record.endedAt),
      last_packet: timeText(record.lastPacketAt),
      reason: record.reason,
      rx_packets: record.rxPackets,
      tx_packets: record.txPackets,
      rx_bytes: record.rxBytes,
      tx_bytes: record.txBytes,
    });
  }
}

function timeText(time: Millis): string {
  return new Date(unixMillisAtZero() + time).toISOString();
}
