/**
 * Client, gateway and relay on a simulated network, for tests and benches.
 * @module
 */

export { EPOCH_SECONDS, RELAY_PORT, RelayHost } from "./relay_host.ts";
export {
  ADDRESSES,
  type Machine,
  TunnelHost,
  TunnelWorld,
  udpPacket,
  type WorldOptions,
} from "./tunnel_world.ts";
