/**
 * Control packets inside the tunnel.
 * @module
 */
export * from "./control_message.ts";
export * from "./control_packet.ts";
