/**
 * Starts the threads of a program's data plane: the worker that runs the loop, and those that seal,
 * open and send for it.
 * @module
 */

import { logFilterText } from "../telemetry/mod.ts";
import { CipherThreads } from "./cipher/cipher_threads.ts";
import type { DataPlaneCommand, DataPlaneNotice, DataPlaneStart } from "./data_plane_messages.ts";
import { spawnWorker, type WorkerHandle, type WorkerHandlers } from "./worker_channel.ts";

/** See the head of this file. Dispose of it when the worker has ended. */
export class DataPlaneStarter<Command, Notice, Settings> implements AsyncDisposable {
  readonly #entry: URL;
  readonly #start: Omit<DataPlaneStart<Settings>, "cipherMemory" | "logFilter">;
  readonly #threads: number;
  #ciphers: CipherThreads | undefined;

  /**
   * Starts nothing yet.
   *
   * @param entry the worker's entry file, spelled out where it is used so that bundlers find it
   * @param start what the worker gets, beside what it has in common with the main thread
   * @param threads all threads that move packets, the worker's own among them
   */
  constructor(
    entry: URL,
    start: Omit<DataPlaneStart<Settings>, "cipherMemory" | "logFilter">,
    threads: number,
  ) {
    this.#entry = entry;
    this.#start = start;
    this.#threads = threads;
  }

  /** Starts them, once. */
  startWorker(
    handlers: WorkerHandlers<DataPlaneNotice<Notice>>,
  ): WorkerHandle<DataPlaneCommand<Command>> {
    const { crypto } = this.#start;
    const ciphers = this.#ciphers = new CipherThreads(this.#threads - 1, crypto, handlers.onFatal);
    return spawnWorker<
      DataPlaneCommand<Command>,
      DataPlaneNotice<Notice>,
      DataPlaneStart<Settings>
    >(
      this.#entry,
      { ...this.#start, cipherMemory: ciphers.memory, logFilter: logFilterText() },
      handlers,
    );
  }

  /** Ends the threads that help the worker. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#ciphers?.[Symbol.asyncDispose]();
  }
}
