/**
 * What tests of relays share: a TURN client over real sockets.
 * @module
 */
export * from "./turn_client.ts";
