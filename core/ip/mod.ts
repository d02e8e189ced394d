/**
 * IP as bytes: addresses, packets, checksums, prefix tables, segmentation and coalescing.
 * @module
 */
export * from "./address.ts";
