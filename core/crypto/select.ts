/**
 * Which AEAD backend to use.
 * @module
 */

import type { AeadBackend, AeadName } from "./aead.ts";
import { ipsecMbAead } from "./aead_ipsec_mb.ts";
import { libcryptoAead } from "./aead_libcrypto.ts";
import { nobleAead } from "./aead_noble.ts";
import { nodeAead } from "./aead_node.ts";
import { passesSelfTest } from "./known_answers.ts";

const LOADERS: Readonly<Record<AeadName, () => AeadBackend | undefined>> = {
  "ipsec-mb": ipsecMbAead,
  libcrypto: libcryptoAead,
  node: nodeAead,
  noble: nobleAead,
};

/** All backends, the fastest first. */
export const AEAD_NAMES: readonly AeadName[] = ["ipsec-mb", "libcrypto", "node", "noble"];

/** Why no backend can be used: in one line, for the operator. */
export class AeadError extends Error {
  /** Always `AeadError`. */
  override readonly name = "AeadError";
}

/**
 * The backend of that name, or the fastest that loads here and gives the known answers.
 *
 * What was chosen is in its `name` and `detail`, for the log.
 * @param forced the only one to try
 * @throws AeadError when none passes, or not the one that is forced
 */
export function selectAead(forced?: AeadName): AeadBackend {
  for (const name of forced === undefined ? AEAD_NAMES : [forced]) {
    const backend = LOADERS[name]();
    if (backend !== undefined && passesSelfTest(backend)) return backend;
    if (forced === undefined) continue;
    const reason = backend === undefined ? "it cannot be loaded" : "it fails its self-test";
    throw new AeadError(
      `Cannot use --crypto ${forced}: ${reason} on this machine; leave the option out, or name ` +
        AEAD_NAMES.filter((other) => other !== forced).join(" or "),
    );
  }
  throw new AeadError(
    "No implementation of ChaCha20-Poly1305 passes its self-test on this machine",
  );
}

/** One backend by name, whether or not it passes its self-test; `undefined` where it cannot load. */
export function loadAead(name: AeadName): AeadBackend | undefined {
  return LOADERS[name]();
}
