/**
 * Which AEAD backend to use.
 * @module
 */

import type { AeadBackend, AeadName } from "./aead.ts";
import { libcryptoAead } from "./aead_libcrypto.ts";
import { nobleAead } from "./aead_noble.ts";
import { nodeAead } from "./aead_node.ts";
import { passesSelfTest } from "./known_answers.ts";

const LOADERS: Readonly<Record<AeadName, () => AeadBackend | undefined>> = {
  libcrypto: libcryptoAead,
  node: nodeAead,
  noble: nobleAead,
};

/** All backends, the fastest first. */
export const AEAD_NAMES: readonly AeadName[] = ["libcrypto", "node", "noble"];

/**
 * The fastest backend that loads here and gives the known answers.
 *
 * What was chosen is in its `name` and `detail`, for the log.
 * @param preferred tried before all others
 * @throws Error when none passes, which means a broken installation
 */
export function selectAead(preferred?: AeadName): AeadBackend {
  const order = preferred === undefined ? AEAD_NAMES : [preferred, ...AEAD_NAMES];
  for (const name of order) {
    const backend = LOADERS[name]();
    if (backend !== undefined && passesSelfTest(backend)) return backend;
  }
  throw new Error("No implementation of ChaCha20-Poly1305 passes its self-test on this machine");
}

/** One backend by name, whether or not it passes its self-test; `undefined` where it cannot load. */
export function loadAead(name: AeadName): AeadBackend | undefined {
  return LOADERS[name]();
}
