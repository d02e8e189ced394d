/**
 * The cipher that tests run with.
 * @module
 */

import { AEAD_NAMES, type AeadBackend, type AeadName, selectAead } from "../crypto/mod.ts";

/**
 * The backend that `FIREZONE_CRYPTO` names, as for the programs, so that one and the same test can be
 * run on each; the fastest if it names none.
 *
 * @throws Error when there is no such backend, or not on this machine
 */
export function testAead(): AeadBackend {
  const name = Deno.env.get("FIREZONE_CRYPTO") ?? "";
  if (name === "") return selectAead();
  if ((AEAD_NAMES as readonly string[]).includes(name)) return selectAead(name as AeadName);
  throw new Error(`Cannot test with FIREZONE_CRYPTO=${name}: expected ${AEAD_NAMES.join(", ")}`);
}
