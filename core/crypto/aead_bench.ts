/**
 * What a packet of 1280 bytes costs in each backend, in buffers like those of the packet path.
 * @module
 */

import { AEAD_NAMES, loadAead } from "./select.ts";
import { x25519, x25519Public } from "./x25519.ts";

const LENGTH = 1280;
const STRIDE = 1312;
const PACKETS = 48;

for (const name of AEAD_NAMES) {
  const key = loadAead(name)?.key(new Uint8Array(32).fill(7));
  if (key === undefined) continue;
  const plain = new Uint8Array(65_536);
  const sealed = new Uint8Array(65_536);
  let i = 0;
  Deno.bench(`seal 1280 B, ${name}`, { group: "seal" }, () => {
    i = (i + 1) % PACKETS;
    key.seal(i, plain, i * STRIDE, i * STRIDE + LENGTH, sealed, i * STRIDE);
  });
  for (let j = 0; j < PACKETS; j++) {
    key.seal(j, plain, j * STRIDE, j * STRIDE + LENGTH, sealed, j * STRIDE);
  }
  Deno.bench(`open 1280 B, ${name}`, { group: "open" }, () => {
    i = (i + 1) % PACKETS;
    const start = i * STRIDE;
    if (!key.open(i, sealed, start, start + LENGTH + 16, plain, start)) throw new Error("forged");
  });
}

const privateKey = new Uint8Array(32).fill(77);
const publicKey = x25519Public(new Uint8Array(32).fill(78));
Deno.bench("x25519", () => {
  x25519(privateKey, publicKey);
});
