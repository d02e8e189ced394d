/**
 * Integer fields inside a buffer. The caller has checked the bounds; nothing here allocates.
 * @module
 */

/** Reads an unsigned 16-bit integer in network order. */
export function readU16(b: Uint8Array, o: number): number {
  return b[o]! << 8 | b[o + 1]!;
}

/** Reads an unsigned 32-bit integer in network order. */
export function readU32(b: Uint8Array, o: number): number {
  return (b[o]! << 24 | b[o + 1]! << 16 | b[o + 2]! << 8 | b[o + 3]!) >>> 0;
}

/** Reads a signed 32-bit integer in network order, which is never an object to V8. */
export function readI32(b: Uint8Array, o: number): number {
  return b[o]! << 24 | b[o + 1]! << 16 | b[o + 2]! << 8 | b[o + 3]!;
}

/** Reads an unsigned 16-bit integer, least significant byte first. */
export function readU16le(b: Uint8Array, o: number): number {
  return b[o]! | b[o + 1]! << 8;
}

/** Reads an unsigned 32-bit integer, least significant byte first. */
export function readU32le(b: Uint8Array, o: number): number {
  return (b[o]! | b[o + 1]! << 8 | b[o + 2]! << 16 | b[o + 3]! << 24) >>> 0;
}

/** Writes the low 16 bits of `v` in network order. */
export function writeU16(b: Uint8Array, o: number, v: number): void {
  b[o] = v >>> 8;
  b[o + 1] = v;
}

/** Writes the low 32 bits of `v` in network order. */
export function writeU32(b: Uint8Array, o: number, v: number): void {
  b[o] = v >>> 24;
  b[o + 1] = v >>> 16;
  b[o + 2] = v >>> 8;
  b[o + 3] = v;
}

/** Writes the low 16 bits of `v`, least significant byte first. */
export function writeU16le(b: Uint8Array, o: number, v: number): void {
  b[o] = v;
  b[o + 1] = v >>> 8;
}

/** Writes the low 32 bits of `v`, least significant byte first. */
export function writeU32le(b: Uint8Array, o: number, v: number): void {
  b[o] = v;
  b[o + 1] = v >>> 8;
  b[o + 2] = v >>> 16;
  b[o + 3] = v >>> 24;
}
