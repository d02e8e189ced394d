/**
 * The gateway as a state machine, for its program and for simulated networks.
 * @module
 */
export * from "./gateway_state.ts";
export { type TunnelAddresses } from "./access_table.ts";
export { type PeerStatus } from "./peer.ts";
