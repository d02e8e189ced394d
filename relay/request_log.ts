/**
 * Log lines about single requests, for those who look for what goes wrong with one client.
 *
 * All of them are debug: strangers decide how many there are, and addresses belong to people. What
 * is refused routinely (401, 437, 438) looks like what succeeds.
 *
 * Cost: nothing but a comparison unless somebody wants the lines.
 * @module
 */

import { parseStunMessage } from "@firezone/core/stun";
import { type Logger, logger } from "@firezone/core/telemetry";
import type { Transmit } from "@firezone/core/transmit";
import { MESSAGE_TYPES } from "./metrics.ts";
import type { RelayCommand } from "./allocator.ts";

/** Tells of answers and allocations. */
export class RequestLog {
  readonly #log: Logger;

  /** Lines are those of `relay.requests` unless said otherwise. */
  constructor(log: Logger = logger("relay", "requests")) {
    this.#log = log;
  }

  /** Whether anybody wants the lines. */
  get isWanted(): boolean {
    return this.#log.isEnabled("debug");
  }

  /** An answer goes out. */
  noteAnswer(transmit: Transmit): void {
    if (!this.isWanted) return;
    const { payload, destination } = transmit;
    const answer = parseStunMessage(payload, 0, payload.length);
    if (answer === undefined) return;
    this.#log.debug("Answered", {
      request: MESSAGE_TYPES.get(answer.method) ?? answer.method,
      error_code: answer.errorCode?.code,
      client: destination.key,
      transaction: answer.transactionId,
      relayed: answer.relayedAddresses.map((address) => address.key).join(" ") || undefined,
    });
  }

  /** An allocation's sockets are to be opened or closed. */
  noteCommand(command: Pick<RelayCommand, "tag" | "id" | "port" | "families">): void {
    if (!this.isWanted) return;
    const { tag, id, port, families } = command;
    const message = tag === "create-allocation" ? "Opening an allocation" : "Closing an allocation";
    this.#log.debug(message, { id, port, families });
  }
}
