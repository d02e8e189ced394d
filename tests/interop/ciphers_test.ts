/**
 * All AEAD backends that there are for this processor understand each other.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { AEAD_NAMES, loadAead } from "@firezone/core/crypto";
import { seededRandom } from "@firezone/core/testing";
import { requires } from "../requirements.ts";

const LENGTHS = [0, 1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 1023, 1024, 1280, 1420, 9000];

Deno.test("what one AEAD backend seals, every other opens", requires("ciphers"), () => {
  const random = seededRandom(11);
  const backends = AEAD_NAMES.map((name) => loadAead(name)).filter((it) => it !== undefined);
  assert(backends.length >= 3);
  const secret = random(32);
  const keys = backends.map((backend) => backend.key(secret));
  for (const [i, length] of LENGTHS.entries()) {
    const counter = 2 ** 31 + i;
    const plain = random(length);
    const sealed = backends.map(() => new Uint8Array(length + 16));
    for (const [k, key] of keys.entries()) {
      key.seal(counter, plain, 0, length, sealed[k]!, 0);
      assertEquals(sealed[k], sealed[0]);
      const opened = new Uint8Array(length);
      for (const other of keys) {
        assert(other.open(counter, sealed[k]!, 0, length + 16, opened, 0));
        assertEquals(opened, plain);
        opened.fill(0);
      }
    }
  }
  for (const key of keys) key.dispose();
});
