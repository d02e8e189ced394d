/**
 * The relay's workers, seen from the main thread as if they were one.
 *
 *     start ─► every worker opens its sockets ─► "bound" from all ─► "serve" to all ─► onListening
 *     "allocated", "ended" ─► who is the newest of a user ─► "superseded" to the worker of the others
 *
 * Nobody is served before the listen sockets of all workers are open, see `loop.ts`.
 * A worker that fails ends everything: its clients cannot be moved to another.
 * @module
 */

import type { WorkerError, WorkerHandle, WorkerHandlers } from "@firezone/core/runtime";
import type { RelayReport } from "./report.ts";
import { UserRegistry } from "./user_registry.ts";
import type { RelayNotice, RelayOrder } from "./worker_messages.ts";

/** A worker's other end. */
export type RelayWorker = Pick<WorkerHandle<RelayOrder>, "post" | "close">;

/** Starts a worker; `index` counts from 0. */
export type StartRelayWorker = (
  index: number,
  handlers: WorkerHandlers<RelayNotice>,
) => RelayWorker;

/** What is done about what workers say. */
export interface WorkerPoolHandlers {
  /** All workers serve. */
  readonly onListening: () => void;
  /** A worker cannot start, for a reason that the operator can mend. At most once. */
  readonly onRefused: (reason: string) => void;
  /** A worker tells what it does. */
  readonly onReport: (worker: number, report: RelayReport) => void;
  /** The last allocation of all workers has ended. */
  readonly onIdle: () => void;
  /** A worker failed: a bug, so the program should end. */
  readonly onFatal: (error: WorkerError) => void;
}

/** See the head of this file. */
export class WorkerPool {
  readonly #handlers: WorkerPoolHandlers;
  readonly #workers: readonly RelayWorker[];
  readonly #users = new UserRegistry();
  #bound = 0;
  #allocations = 0;
  #isRefused = false;

  /** Starts the workers. @param count at least 1 */
  constructor(count: number, start: StartRelayWorker, handlers: WorkerPoolHandlers) {
    this.#handlers = handlers;
    this.#workers = Array.from({ length: count }, (_, index) =>
      start(index, {
        onMessage: (notice) => this.#onNotice(index, notice),
        onFatal: handlers.onFatal,
      }));
  }

  /** Number of workers. */
  get size(): number {
    return this.#workers.length;
  }

  /** Allocations of all workers, as far as they have told. */
  get allocationCount(): number {
    return this.#allocations;
  }

  /** Sends an order to all workers. */
  post(order: RelayOrder): void {
    for (const worker of this.#workers) worker.post(order);
  }

  /** Ends all workers. Never rejects. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.close()));
  }

  #onNotice(worker: number, notice: RelayNotice): void {
    switch (notice.tag) {
      case "bound":
        if (++this.#bound < this.size) return;
        this.post({ tag: "serve" });
        return this.#handlers.onListening();
      case "refused":
        if (!this.#isRefused) this.#handlers.onRefused(notice.reason);
        this.#isRefused = true;
        return;
      case "report":
        return this.#handlers.onReport(worker, notice.report);
      case "allocated":
        this.#allocations++;
        return this.#onAllocated(worker, notice.id, notice.soleOf);
      case "ended":
        if (notice.soleOf !== undefined) {
          this.#users.handleEnded(notice.soleOf, { worker, id: notice.id });
        }
        if (--this.#allocations === 0) this.#handlers.onIdle();
        return;
    }
  }

  #onAllocated(worker: number, id: number, username: string | undefined): void {
    if (username === undefined) return;
    const older = this.#users.handleAllocated(username, { worker, id });
    if (older) this.#workers[older.worker]!.post({ tag: "superseded", id: older.id, username });
  }
}
