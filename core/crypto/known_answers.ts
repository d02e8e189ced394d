/**
 * Known answers that a backend must give before anything is entrusted to it.
 * @module
 */

import { bytesEqual, fromHex, utf8 } from "../bytes/mod.ts";
import { type AeadBackend, TAG_LENGTH } from "./aead.ts";

/** RFC 8439 §2.8.2. */
const RFC8439 = {
  key: fromHex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f")!,
  nonce: fromHex("070000004041424344454647")!,
  associatedData: fromHex("50515253c0c1c2c3c4c5c6c7")!,
  plaintext: utf8(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  ),
  tag: fromHex("1ae10b594f09e26a7e902ecbd0600691")!,
  ciphertextStart: fromHex("d31a8d34648e60db7b86afbc53ef7ec2")!,
};

/** The same key and plaintext under the nonce of counter 2^32 + 2, made with two implementations. */
const COUNTED = {
  counter: 0x1_0000_0002,
  tag: fromHex("dcb080bf20f2e97d74604287f7ab56ab")!,
  ciphertextStart: fromHex("222ba83b6fc944a7abd8d7006d0bb417")!,
};

/** Whether the backend gives the known answers and refuses what was tampered with. */
export function passesSelfTest(backend: AeadBackend): boolean {
  try {
    return passesRfc8439(backend) && passesCounted(backend);
  } catch {
    return false;
  }
}

function passesRfc8439(backend: AeadBackend): boolean {
  const { key, nonce, associatedData, plaintext } = RFC8439;
  const sealed = backend.sealOnce(key, nonce, associatedData, plaintext);
  if (!matches(sealed, 0, RFC8439.ciphertextStart)) return false;
  if (!matches(sealed, plaintext.length, RFC8439.tag)) return false;
  const opened = backend.openOnce(key, nonce, associatedData, sealed);
  if (opened === undefined || !bytesEqual(opened, plaintext)) return false;
  sealed[0] = sealed[0]! ^ 1;
  return backend.openOnce(key, nonce, associatedData, sealed) === undefined;
}

function passesCounted(backend: AeadBackend): boolean {
  const { plaintext } = RFC8439;
  const length = plaintext.length;
  const sealed = new Uint8Array(3 + length + TAG_LENGTH);
  const opened = new Uint8Array(5 + length);
  const key = backend.key(RFC8439.key);
  try {
    key.seal(COUNTED.counter, plaintext, 0, length, sealed, 3);
    if (!matches(sealed, 3, COUNTED.ciphertextStart)) return false;
    if (!matches(sealed, 3 + length, COUNTED.tag)) return false;
    if (!key.open(COUNTED.counter, sealed, 3, sealed.length, opened, 5)) return false;
    if (!matches(opened, 5, plaintext)) return false;
    sealed[sealed.length - 1] = sealed[sealed.length - 1]! ^ 0x80;
    return !key.open(COUNTED.counter, sealed, 3, sealed.length, opened, 5);
  } finally {
    key.dispose();
  }
}

function matches(buf: Uint8Array, start: number, expected: Uint8Array): boolean {
  return bytesEqual(buf.subarray(start, start + expected.length), expected);
}
