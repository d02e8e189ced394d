/**
 * IP as bytes: addresses, packets, checksums, prefix tables, segmentation and coalescing.
 * @module
 */
export * from "./address.ts";
export * from "./checksum.ts";
export * from "./checksum_check.ts";
export * from "./coalescing.ts";
export * from "./icmp.ts";
export * from "./icmp_errors.ts";
export * from "./packet.ts";
export { packetMemory } from "./packet_memory.ts";
export * from "./prefix_table.ts";
export * from "./segmentation.ts";
export * from "./traffic_filter.ts";
export * from "./virtio_header.ts";
export * from "./waiting_packets.ts";
