/**
 * The client as a state machine, for its program and for simulated networks.
 * @module
 */
export * from "./client_state.ts";
export type { ClientStatus, ResourceStatus } from "./client_status.ts";
export { type SiteStatus } from "./site_statuses.ts";
export { type DomainRecord } from "./domain_table.ts";
