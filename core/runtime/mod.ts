/**
 * The thread that moves packets: its loop, its send batches, and how the main thread talks to it.
 * @module
 */

export { monotonicNow, unixMillisAtZero, wallClockNow } from "./clock.ts";
export {
  type DatagramSink,
  SendBatch,
  type SendBatchCounters,
  type SendBatchOptions,
  SinkResult,
} from "./send_batch.ts";
export {
  acceptWorkerSide,
  spawnWorker,
  WorkerError,
  WorkerHandle,
  type WorkerHandlers,
  WorkerSide,
} from "./worker_channel.ts";
