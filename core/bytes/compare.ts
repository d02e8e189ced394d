/**
 * Comparing byte strings.
 * @module
 */

/** Whether `a` and `b` hold the same bytes, in time that depends on their length alone. */
export function constantTimeEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && constantTimeEqualAt(a, 0, b, 0, a.length);
}

/**
 * Whether `length` bytes from `aStart` and `bStart` on are the same, in time that depends on `length`
 * alone; for the packet path, as it makes no views. Both must have so many bytes.
 */
export function constantTimeEqualAt(
  a: Uint8Array,
  aStart: number,
  b: Uint8Array,
  bStart: number,
  length: number,
): boolean {
  let difference = 0;
  for (let i = 0; i < length; i++) difference |= a[aStart + i]! ^ b[bStart + i]!;
  return difference === 0;
}

/** Whether `a` and `b` hold the same bytes; stops at the first difference. Not for secrets. */
export function bytesEqual(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
