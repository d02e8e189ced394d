/**
 * The thread that moves packets: its loop, its send batches, and how the main thread talks to it.
 * @module
 */

export { monotonicNow, unixMillisAtZero, wallClockNow } from "./clock.ts";
export {
  type DatagramSink,
  type LaneSender,
  SendBatch,
  type SendBatchCounters,
  type SendBatchOptions,
  SinkResult,
} from "./send_batch.ts";
export { type Run, SendQueue } from "./send_queue.ts";
export {
  acceptWorkerSide,
  spawnWorker,
  WorkerError,
  WorkerHandle,
  type WorkerHandlers,
  WorkerSide,
} from "./worker_channel.ts";
export { CipherMemory } from "./cipher/cipher_memory.ts";
export { CipherPool } from "./cipher/cipher_pool.ts";
export { CipherThreads } from "./cipher/cipher_threads.ts";
export * from "./common_notices.ts";
export * from "./data_plane.ts";
export * from "./data_plane_messages.ts";
export { DataPlaneStarter } from "./data_plane_starter.ts";
export * from "./data_plane_worker.ts";
export { DnsServer, type DnsServerOptions, type DnsTransport, type Reply } from "./dns_server.ts";
export { NetworkNotifier, type NetworkNotifierOptions } from "./network_notifier.ts";
export { type FlowRole, type Inspection, PacketInspector } from "./packet_inspector.ts";
export { PortalBypass } from "./portal_bypass.ts";
export { requireNetworkAdministration } from "./privileges.ts";
export * from "./status_server.ts";
export * from "./tunnel_host.ts";
export * from "./tunnel_interface.ts";
