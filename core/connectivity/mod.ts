/**
 * Connections to peers: ICE finds the path, WireGuard guards it, TURN relays where nothing else
 * works.
 * @module
 */
export * from "./connection.ts";
export * from "./connectivity.ts";
export * from "./path.ts";
export * from "./status.ts";
export * from "./timing.ts";
