/**
 * IP as bytes: addresses, packets, checksums, prefix tables, segmentation and coalescing.
 * @module
 */
export * from "./address.ts";
export * from "./checksum.ts";
export * from "./coalescing.ts";
export * from "./packet.ts";
export * from "./segmentation.ts";
export * from "./virtio_header.ts";
