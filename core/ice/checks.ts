/**
 * Checks under way, by their transaction ids: of one agent, or of all that share a socket, so that
 * an answer finds its agent without asking each.
 * @module
 */

import type { Millis } from "../units.ts";
import type { IceAgent } from "./agent.ts";
import type { CandidatePair } from "./pair.ts";

/** A check that was sent. */
export interface Check {
  /** Who sent it. */
  readonly agent: IceAgent;
  /** On which pair. */
  readonly pair: CandidatePair;
  /** When it left. */
  readonly sentAt: Millis;
  /** The role that it claimed; an answer "role conflict" is stale once the role has changed. */
  readonly controlling: boolean;
}

/** See the head of this file. */
export class Checks {
  readonly #byId = new Map<string, Check>();

  /** None is under way. */
  constructor() {}

  /** How many may still be answered. */
  get size(): number {
    return this.#byId.size;
  }

  /** The check with this transaction id. */
  get(id: string): Check | undefined {
    return this.#byId.get(id);
  }

  /** Remembers a check. */
  add(id: string, check: Check): void {
    this.#byId.set(id, check);
  }

  /** Forgets a check. */
  delete(id: string): void {
    this.#byId.delete(id);
  }
}
