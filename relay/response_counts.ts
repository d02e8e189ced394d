/**
 * Answers by what was asked and how it ended.
 * @module
 */

import { METHOD } from "@firezone/core/stun";

/** What clients ask for, in the words of metrics. */
export type MessageType =
  | "binding"
  | "allocate"
  | "refresh"
  | "channelbind"
  | "createpermission"
  | "unknown";

/** So many answers of a kind. */
export interface ResponseCount {
  /** What was asked. */
  readonly messageType: MessageType;
  /** Error code; 0 is success. */
  readonly code: number;
  /** How many. */
  readonly count: number;
}

const MESSAGE_TYPES: ReadonlyMap<number, MessageType> = new Map([
  [METHOD.binding, "binding"],
  [METHOD.allocate, "allocate"],
  [METHOD.refresh, "refresh"],
  [METHOD.channelBind, "channelbind"],
  [METHOD.createPermission, "createpermission"],
]);

/** No code takes more bits (RFC 8489 §14.8: below 800). */
const CODE_BITS = 10;

/** Counts answers. Methods that nobody defined share one line, so strangers cannot grow it. */
export class ResponseCounts {
  readonly #counts = new Map<number, number>();

  /** None yet. */
  constructor() {}

  /** Counts an answer to a request of a method; code 0 is success. */
  count(method: number, code: number): void {
    const key = (MESSAGE_TYPES.has(method) ? method : 0) << CODE_BITS | code;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }

  /** What was counted since the last call. */
  take(): ResponseCount[] {
    const counts = [...this.#counts].map(([key, count]) => ({
      messageType: MESSAGE_TYPES.get(key >> CODE_BITS) ?? "unknown" as const,
      code: key & (1 << CODE_BITS) - 1,
      count,
    }));
    this.#counts.clear();
    return counts;
  }
}
