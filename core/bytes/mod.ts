/**
 * Bytes as numbers and text: big-endian and little-endian fields, hex, base64, base32, comparison.
 * @module
 */
export * from "./compare.ts";
export * from "./fields.ts";
export * from "./text.ts";
