/**
 * What tests share: assertions, replayable randomness, a simulated network, a collector.
 * @module
 */
export * from "./aead.ts";
export * from "./directory.ts";
export * from "./heap_growth.ts";
export * from "./host.ts";
export * from "./link.ts";
export * from "./mailbox.ts";
export * from "./nat.ts";
export * from "./network.ts";
export * from "./otlp_collector.ts";
export * from "./random.ts";
export * from "./router.ts";
export * from "./transmit_queue.ts";
