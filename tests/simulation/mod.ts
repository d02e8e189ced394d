/**
 * Client, gateway and relay on a simulated network, for tests and benches.
 * @module
 */

export { EPOCH_SECONDS, RELAY_PORT, RelayHost } from "./relay_host.ts";
export { ADDRESSES, TunnelWorld, udpPacket } from "./tunnel_world.ts";
