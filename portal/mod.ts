/**
 * A small control plane: {@link PortalState} without sockets, and the configuration it runs on.
 *
 * Tests that simulate a whole network parse a configuration with {@link parseConfig}, make a
 * {@link PortalState} over a {@link MemoryStore}, and pass text frames between it and peers.
 * @module
 */
export type { ConnectRequest, Era, Refusal, Role } from "./connect_request.ts";
export * from "./config/mod.ts";
export type { ConnectionId } from "./connection.ts";
export {
  type Authorization,
  type Device,
  type DeviceKind,
  MemoryStore,
  type Store,
} from "./device.ts";
export { type ConnectResult, type PortalOptions, PortalState } from "./portal_state.ts";
export type { DeviceStatus, PortalStatus, RelayStatus } from "./status.ts";
export type { PortalEvent } from "./connection_registry.ts";
