/**
 * X25519 (RFC 7748) over `node:crypto` (50 µs), or in TypeScript where that fails its self-test.
 *
 * A shared secret of zeros, which is what points of small order give, is refused (RFC 7748 §6.1).
 * @module
 */

import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject } from "node:crypto";
import { Buffer } from "node:buffer";
import { x25519 as nobleX25519 } from "@noble/curves/ed25519.js";
import { bytesEqual, fromHex } from "../bytes/mod.ts";
import type { RandomBytes } from "../random.ts";

/** Bytes of a private key, a public key and a shared secret. */
export const X25519_LENGTH = 32;

/** The base point, whose multiple is the public key. */
const BASE = new Uint8Array(X25519_LENGTH);
BASE[0] = 9;

// What DER (RFC 8410) puts in front of the 32 bytes of a private and of a public key.
const PKCS8_HEADER = fromHex("302e020100300506032b656e04220420")!;
const SPKI_HEADER = fromHex("302a300506032b656e032100")!;

/** Scalar times point; `undefined` where an implementation refuses the point. */
export type Multiply = (scalar: Uint8Array, point: Uint8Array) => Uint8Array | undefined;

const multiply: Multiply = passesSelfTest(multiplyWithNode) ? multiplyWithNode : multiplyWithNoble;

/**
 * The secret shared by our private and their public key.
 *
 * @param privateKey 32 bytes, clamped here
 * @param publicKey 32 bytes from anyone
 * @returns 32 bytes, or `undefined` when they are all zero or an input has another length
 */
export function x25519(privateKey: Uint8Array, publicKey: Uint8Array): Uint8Array | undefined {
  if (privateKey.length !== X25519_LENGTH || publicKey.length !== X25519_LENGTH) return undefined;
  const secret = multiply(privateKey, publicKey);
  return secret === undefined || isZero(secret) ? undefined : secret;
}

/** The public key of a private key of 32 bytes. @throws RangeError for another length */
export function x25519Public(privateKey: Uint8Array): Uint8Array {
  const publicKey = x25519(privateKey, BASE);
  if (publicKey !== undefined) return publicKey;
  throw new RangeError(`Cannot use a private key of ${privateKey.length} bytes: expected 32`);
}

/** A fresh private key in clamped form (RFC 7748 §5). */
export function x25519PrivateKey(random: RandomBytes): Uint8Array {
  const key = random(X25519_LENGTH).slice();
  key[0] = key[0]! & 248;
  key[31] = key[31]! & 127 | 64;
  return key;
}

/** The quick implementation. */
export function multiplyWithNode(scalar: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  try {
    const secret = diffieHellman({
      privateKey: importPrivate(scalar),
      publicKey: importPublic(point),
    });
    return new Uint8Array(secret);
  } catch {
    // OpenSSL refuses points of small order by itself.
    return undefined;
  }
}

function importPrivate(key: Uint8Array): KeyObject {
  const der = Buffer.concat([PKCS8_HEADER, key]);
  const imported = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  der.fill(0);
  return imported;
}

function importPublic(key: Uint8Array): KeyObject {
  return createPublicKey({
    key: Buffer.concat([SPKI_HEADER, key]),
    format: "der",
    type: "spki",
  });
}

/** The one that is always there. */
export function multiplyWithNoble(scalar: Uint8Array, point: Uint8Array): Uint8Array | undefined {
  try {
    return nobleX25519.getSharedSecret(scalar, point);
  } catch {
    return undefined;
  }
}

/** Whether Alice's private and Bob's public key give the secret K of RFC 7748 §6.1. */
export function passesSelfTest(multiply: Multiply): boolean {
  const secret = multiply(
    fromHex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")!,
    fromHex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")!,
  );
  return secret !== undefined && bytesEqual(
    secret,
    fromHex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")!,
  );
}

function isZero(bytes: Uint8Array): boolean {
  let any = 0;
  for (let i = 0; i < bytes.length; i++) any |= bytes[i]!;
  return any === 0;
}
