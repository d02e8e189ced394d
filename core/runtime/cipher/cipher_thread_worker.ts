/// <reference no-default-lib="true" />
/// <reference lib="deno.worker" />
/**
 * The entry file of a cipher thread.
 * @module
 */

import { type AeadBackend, AeadError, selectAead } from "../../crypto/mod.ts";
import { acceptWorkerSide } from "../worker_channel.ts";
import { CipherMemory } from "./cipher_memory.ts";
import { CipherThread } from "./cipher_thread.ts";
import type { CipherThreadStart } from "./cipher_threads.ts";

acceptWorkerSide<never, never, CipherThreadStart>((_side, { memory, index, crypto }) => {
  let aead: AeadBackend;
  try {
    aead = selectAead(crypto);
  } catch (error) {
    if (error instanceof AeadError) return; // the data plane says so
    throw error;
  }
  new CipherThread(new CipherMemory(memory), index, aead).run();
});
