/**
 * The relay as a state machine, for its program and for simulated networks.
 * @module
 */
export * from "./allocation_table.ts";
export * from "./allocator.ts";
export * from "./counters.ts";
export * from "./forwarding.ts";
export * from "./peer_policy.ts";
export * from "./port_pool.ts";
export * from "./response_budget.ts";
export * from "./server.ts";
