/**
 * Bytes that look random and are the same everywhere, to see whether a file arrives as it was sent.
 * @module
 */

/** The file of that many bytes, made by a linear congruential generator. */
export function testFile(length: number): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  let state = length;
  for (let i = 0; i < words.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** Its SHA-256, as `sha256sum` prints it. */
export async function testFileSum(length: number): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", testFile(length))).toHex();
}
