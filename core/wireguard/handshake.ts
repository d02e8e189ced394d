/**
 * The handshake of WireGuard: Noise IKpsk2 with Curve25519, ChaCha20-Poly1305 and BLAKE2s
 * (paper §5.4.2 to §5.4.5).
 *
 *     initiator                                   responder
 *     e, es, s, ss, timestamp  ── initiation ──►
 *                              ◄── response ───   e, ee, se, psk
 *
 * All functions here are pure: ephemeral keys and timestamps come in as arguments, and a message
 * that does not decrypt changes nothing. MACs are added and checked in `macs.ts`.
 * @module
 */

import { readU32le, utf8, writeU32le } from "../bytes/mod.ts";
import {
  type AeadBackend,
  blake2s,
  kdf1,
  kdf2,
  kdf3,
  NONCE_LENGTH,
  TAG_LENGTH,
  x25519,
  x25519Public,
} from "../crypto/mod.ts";
import {
  INITIATION,
  INITIATION_LENGTH,
  MessageType,
  RESPONSE,
  RESPONSE_LENGTH,
} from "./messages.ts";
import { TAI64N_LENGTH } from "./tai64n.ts";

const PUBLIC_KEY_LENGTH = 32;
const NOTHING = new Uint8Array(0);
/** Every key of the handshake seals a single message, under nonce zero. */
const ZERO_NONCE = new Uint8Array(NONCE_LENGTH);

const INITIAL_CHAINING_KEY = blake2s(utf8("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"));
const INITIAL_HASH = blake2s(
  INITIAL_CHAINING_KEY,
  utf8("WireGuard v1 zx2c4 Jason@zx2c4.com"),
);

/** Our long-term key pair and the cipher that handshakes use. */
export class LocalIdentity {
  /** 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Seals and opens. */
  readonly aead: AeadBackend;
  readonly #privateKey: Uint8Array;

  /** The identity of a private key.
   * @param privateKey 32 bytes, copied
   * @throws RangeError for another length */
  constructor(privateKey: Uint8Array, aead: AeadBackend) {
    this.#privateKey = privateKey.slice();
    this.publicKey = x25519Public(privateKey);
    this.aead = aead;
  }

  /** The secret shared with the owner of a public key; `undefined` for keys of small order. */
  shareWith(publicKey: Uint8Array): Uint8Array | undefined {
    return x25519(this.#privateKey, publicKey);
  }

  /** Forgets the private key; no handshake succeeds from now on. */
  wipe(): void {
    this.#privateKey.fill(0);
  }
}

/** The keys of a session, from the point of view of one end. */
export interface TransportKeys {
  /** Seals what we send, 32 bytes. */
  readonly send: Uint8Array;
  /** Opens what we receive, 32 bytes. */
  readonly receive: Uint8Array;
}

/** An initiation that we sent and that awaits its response. */
export interface PendingInitiation {
  /** Our index in it. */
  readonly localIndex: number;
  /** Its bytes; both MACs are still zero. */
  readonly message: Uint8Array;
  /** Secrets; forgotten with {@link wipe}. */
  readonly ephemeral: Uint8Array;
  /** The handshake as it stands after the initiation. */
  readonly state: SymmetricState;
}

/** An initiation of which we know who sent it; whether it is fresh is not known yet. */
export interface IdentifiedInitiation {
  /** The sender's long-term key, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** The sender's index. */
  readonly remoteIndex: number;
  /** The sender's ephemeral key. */
  readonly ephemeral: Uint8Array;
  /** The sealed timestamp. */
  readonly sealedTimestamp: Uint8Array;
  /** The handshake as it stands before the timestamp. */
  readonly state: SymmetricState;
}

/** An initiation that its sender made and nobody else. */
export interface VerifiedInitiation {
  /** When the sender made it, TAI64N. */
  readonly timestamp: Uint8Array;
  /** The handshake as it stands after the initiation. */
  readonly state: SymmetricState;
}

/**
 * Makes an initiation (§5.4.2).
 *
 * @param staticSecret what our and the peer's long-term key share
 * @param ephemeral a private key never used before
 * @returns `undefined` when the peer's key is of small order
 */
export function createInitiation(
  local: LocalIdentity,
  remotePublicKey: Uint8Array,
  staticSecret: Uint8Array,
  localIndex: number,
  timestamp: Uint8Array,
  ephemeral: Uint8Array,
): PendingInitiation | undefined {
  const ephemeralSecret = x25519(ephemeral, remotePublicKey);
  if (ephemeralSecret === undefined) return undefined;
  const message = new Uint8Array(INITIATION_LENGTH);
  const ephemeralPublic = x25519Public(ephemeral);
  writeU32le(message, 0, MessageType.Initiation);
  writeU32le(message, INITIATION.sender, localIndex);
  message.set(ephemeralPublic, INITIATION.ephemeral);

  const state = SymmetricState.initial(local.aead, remotePublicKey);
  state.mixHash(ephemeralPublic);
  state.mixKey(ephemeralPublic);
  const staticKey = state.mixCipherKey(ephemeralSecret);
  message.set(state.seal(staticKey, local.publicKey), INITIATION.static);
  const timestampKey = state.mixCipherKey(staticSecret);
  message.set(state.seal(timestampKey, timestamp), INITIATION.timestamp);
  ephemeralSecret.fill(0);
  return { localIndex, message, ephemeral: ephemeral.slice(), state };
}

/** Finds out who sent the initiation at `buf[start]` (§5.4.2); `undefined` when it was not for us. */
export function identifyInitiation(
  local: LocalIdentity,
  buf: Uint8Array,
  start: number,
): IdentifiedInitiation | undefined {
  const ephemeral = field(buf, start, INITIATION.ephemeral, PUBLIC_KEY_LENGTH);
  const ephemeralSecret = local.shareWith(ephemeral);
  if (ephemeralSecret === undefined) return undefined;
  const state = SymmetricState.initial(local.aead, local.publicKey);
  state.mixHash(ephemeral);
  state.mixKey(ephemeral);
  const staticKey = state.mixCipherKey(ephemeralSecret);
  ephemeralSecret.fill(0);
  const publicKey = state.open(
    staticKey,
    field(buf, start, INITIATION.static, PUBLIC_KEY_LENGTH + TAG_LENGTH),
  );
  if (publicKey === undefined) return undefined;
  return {
    publicKey,
    remoteIndex: readU32le(buf, start + INITIATION.sender),
    ephemeral,
    sealedTimestamp: field(buf, start, INITIATION.timestamp, TAI64N_LENGTH + TAG_LENGTH),
    state,
  };
}

/** Proves that the sender of an initiation holds its long-term key; consumes the identification. */
export function verifyInitiation(
  initiation: IdentifiedInitiation,
  staticSecret: Uint8Array,
): VerifiedInitiation | undefined {
  const { state } = initiation;
  const timestampKey = state.mixCipherKey(staticSecret);
  const timestamp = state.open(timestampKey, initiation.sealedTimestamp);
  if (timestamp !== undefined) return { timestamp, state };
  state.wipe();
  return undefined;
}

/**
 * Answers a verified initiation (§5.4.3), which it consumes.
 *
 * @param ephemeral a private key never used before
 * @returns the message with both MACs zero, and the session's keys; `undefined` when a key of the
 * peer is of small order
 */
export function createResponse(
  initiation: IdentifiedInitiation,
  presharedKey: Uint8Array,
  localIndex: number,
  ephemeral: Uint8Array,
): { message: Uint8Array; keys: TransportKeys } | undefined {
  const ephemeralEphemeral = x25519(ephemeral, initiation.ephemeral);
  const ephemeralStatic = x25519(ephemeral, initiation.publicKey);
  if (ephemeralEphemeral === undefined || ephemeralStatic === undefined) return undefined;
  const message = new Uint8Array(RESPONSE_LENGTH);
  const ephemeralPublic = x25519Public(ephemeral);
  writeU32le(message, 0, MessageType.Response);
  writeU32le(message, RESPONSE.sender, localIndex);
  writeU32le(message, RESPONSE.receiver, initiation.remoteIndex);
  message.set(ephemeralPublic, RESPONSE.ephemeral);

  const { state } = initiation;
  state.mixHash(ephemeralPublic);
  state.mixKey(ephemeralPublic);
  state.mixKey(ephemeralEphemeral);
  state.mixKey(ephemeralStatic);
  const key = state.mixPresharedKey(presharedKey);
  message.set(state.seal(key, NOTHING), RESPONSE.nothing);
  const [receive, send] = state.split();
  ephemeralEphemeral.fill(0);
  ephemeralStatic.fill(0);
  return { message, keys: { send, receive } };
}

/**
 * Reads the response at `buf[start]` (§5.4.3) to an initiation of ours.
 *
 * @returns the session's keys; `undefined` when it does not decrypt, and the initiation still waits
 */
export function readResponse(
  local: LocalIdentity,
  pending: PendingInitiation,
  presharedKey: Uint8Array,
  buf: Uint8Array,
  start: number,
): TransportKeys | undefined {
  const ephemeral = field(buf, start, RESPONSE.ephemeral, PUBLIC_KEY_LENGTH);
  const ephemeralEphemeral = x25519(pending.ephemeral, ephemeral);
  const staticEphemeral = local.shareWith(ephemeral);
  if (ephemeralEphemeral === undefined || staticEphemeral === undefined) return undefined;
  const state = pending.state.copy();
  state.mixHash(ephemeral);
  state.mixKey(ephemeral);
  state.mixKey(ephemeralEphemeral);
  state.mixKey(staticEphemeral);
  const key = state.mixPresharedKey(presharedKey);
  ephemeralEphemeral.fill(0);
  staticEphemeral.fill(0);
  if (state.open(key, field(buf, start, RESPONSE.nothing, TAG_LENGTH)) === undefined) {
    state.wipe();
    return undefined;
  }
  const [send, receive] = state.split();
  return { send, receive };
}

/** Forgets the secrets of an initiation that nobody will answer any more. */
export function wipe(pending: PendingInitiation): void {
  pending.ephemeral.fill(0);
  pending.state.wipe();
}

/** Noise's symmetric state: the chaining key, and the hash of all that was said. */
export class SymmetricState {
  readonly #aead: AeadBackend;
  #chainingKey: Uint8Array;
  #hash: Uint8Array;

  private constructor(aead: AeadBackend, chainingKey: Uint8Array, hash: Uint8Array) {
    this.#aead = aead;
    this.#chainingKey = chainingKey;
    this.#hash = hash;
  }

  /** The state before the first message, which the responder's long-term key is part of. */
  static initial(aead: AeadBackend, responderPublicKey: Uint8Array): SymmetricState {
    return new SymmetricState(
      aead,
      INITIAL_CHAINING_KEY.slice(),
      blake2s(INITIAL_HASH, responderPublicKey),
    );
  }

  /** The same state, to try something on. */
  copy(): SymmetricState {
    return new SymmetricState(this.#aead, this.#chainingKey.slice(), this.#hash.slice());
  }

  /** Adds what was said. */
  mixHash(data: Uint8Array): void {
    this.#hash = blake2s(this.#hash, data);
  }

  /** Adds a secret. */
  mixKey(secret: Uint8Array): void {
    this.#chain(kdf1(this.#chainingKey, secret));
  }

  /** Adds a secret; the answer is a key for the next field. */
  mixCipherKey(secret: Uint8Array): Uint8Array {
    const [chainingKey, key] = kdf2(this.#chainingKey, secret);
    this.#chain(chainingKey);
    return key;
  }

  /** Adds the preshared key, as secret and as said; the answer is a key for the next field. */
  mixPresharedKey(presharedKey: Uint8Array): Uint8Array {
    const [chainingKey, said, key] = kdf3(this.#chainingKey, presharedKey);
    this.#chain(chainingKey);
    this.mixHash(said);
    return key;
  }

  /** Seals a field and adds it; forgets the key. */
  seal(key: Uint8Array, plaintext: Uint8Array): Uint8Array {
    const sealed = this.#aead.sealOnce(key, ZERO_NONCE, this.#hash, plaintext);
    key.fill(0);
    this.mixHash(sealed);
    return sealed;
  }

  /** Opens a field and adds it; forgets the key. */
  open(key: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    const plaintext = this.#aead.openOnce(key, ZERO_NONCE, this.#hash, sealed);
    key.fill(0);
    if (plaintext !== undefined) this.mixHash(sealed);
    return plaintext;
  }

  /** The keys from initiator to responder and back (§5.4.5); forgets all else. */
  split(): [Uint8Array, Uint8Array] {
    const keys = kdf2(this.#chainingKey, NOTHING);
    this.wipe();
    return keys;
  }

  /** Forgets everything. */
  wipe(): void {
    this.#chainingKey.fill(0);
    this.#hash.fill(0);
  }

  #chain(chainingKey: Uint8Array): void {
    this.#chainingKey.fill(0);
    this.#chainingKey = chainingKey;
  }
}

/** A copy of a field, since the buffer belongs to the caller. */
function field(buf: Uint8Array, start: number, offset: number, length: number): Uint8Array {
  return buf.slice(start + offset, start + offset + length);
}
