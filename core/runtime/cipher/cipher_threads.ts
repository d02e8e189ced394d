/**
 * Starts and ends cipher threads, for the main thread of a program.
 * @module
 */

import type { AeadName } from "../../crypto/mod.ts";
import { spawnWorker, type WorkerHandlers } from "../worker_channel.ts";
import { CipherMemory } from "./cipher_memory.ts";

/** What a thread is started with. */
export interface CipherThreadStart {
  /** Of a {@link CipherMemory}. */
  readonly memory: SharedArrayBuffer;
  /** Which thread it is. */
  readonly index: number;
  /** AEAD to use; undefined picks the fastest. */
  readonly crypto: AeadName | undefined;
}

/** Threads that seal, open and send for a data plane. */
export class CipherThreads implements AsyncDisposable {
  /** What the data plane is to be started with; undefined: it does everything by itself. */
  readonly memory: SharedArrayBuffer | undefined;
  readonly #memory: CipherMemory | undefined;
  readonly #handles: { close(): Promise<void> }[] = [];

  /**
   * Starts threads, none for 0.
   *
   * @param onFatal takes what ends one of them before its time
   */
  constructor(
    count: number,
    crypto: AeadName | undefined,
    onFatal: WorkerHandlers<never>["onFatal"],
  ) {
    if (count <= 0) return;
    const memory = this.#memory = CipherMemory.create(count);
    this.memory = memory.buffer;
    const entry = new URL("./cipher_thread_worker.ts", import.meta.url);
    for (let index = 0; index < count; index++) {
      const start: CipherThreadStart = { memory: memory.buffer, index, crypto };
      const handlers: WorkerHandlers<never> = {
        onMessage: () => {},
        onFatal: (error) => {
          memory.stop(); // or the loop would wait for it
          onFatal(error);
        },
      };
      this.#handles.push(spawnWorker<never, never, CipherThreadStart>(entry, start, handlers));
    }
  }

  /** Ends all; to be called when the data plane has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#memory?.stop();
    for (const handle of this.#handles) await handle.close();
  }
}
