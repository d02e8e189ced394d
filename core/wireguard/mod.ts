/**
 * WireGuard without sockets and clocks: a node that all tunnels share, and a tunnel per peer.
 * @module
 */
export { INNER_MTU } from "./constants.ts";
export { type IdentifiedInitiation, LocalIdentity, SymmetricState } from "./handshake.ts";
export { type ReceiverMacKeys } from "./macs.ts";
export {
  DATA,
  DATA_OVERHEAD,
  MessageType,
  peekReceiverIndex,
  readDataCounter,
} from "./messages.ts";
export * from "./node.ts";
export * from "./tunnel.ts";
