/**
 * The client as a state machine, for its program and for simulated networks.
 * @module
 */
export * from "./client_state.ts";
export { type RouteStatus } from "./resource_table.ts";
export { type DomainRecord } from "./domain_table.ts";
