/**
 * The client's side of TURN (RFC 8656): ChannelData framing, credentials, allocations.
 * @module
 */
export * from "./allocation.ts";
export * from "./channel_data.ts";
export * from "./credentials.ts";
