/**
 * What tests of relays share: a TURN client over real sockets, a relay as a process, a portal.
 * @module
 */
export * from "./fake_portal.ts";
export * from "./raw_client.ts";
export * from "./relay_process.ts";
export * from "./turn_client.ts";
export { checkServer, InvariantError } from "../invariants.ts";
