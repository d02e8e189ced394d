import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import { socketAddress } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import { after, type Millis } from "@firezone/core/units";
import { NONCE_LIFETIME_SECONDS, Nonces } from "./nonces.ts";

const start = 123_456 as Millis;
const client = socketAddress("198.51.100.1:5000");

Deno.test("Nonces are good for their client, for an hour, and for this relay", () => {
  const nonces = new Nonces(seededRandom(1));
  const nonce = nonces.issue(start, client);
  assert(nonces.isValid(start, client, nonce));
  assert(nonces.isValid(after(start, NONCE_LIFETIME_SECONDS * 1000), client, nonce));
  assert(!nonces.isValid(after(start, (NONCE_LIFETIME_SECONDS + 1) * 1000), client, nonce));
  assert(!nonces.isValid(start, socketAddress("198.51.100.1:5001"), nonce));
  assert(!new Nonces(seededRandom(2)).isValid(start, client, nonce));
  assertNotEquals(nonces.issue(after(start, 1000), client), nonce);
});

Deno.test("Nonces refuse any other text without throwing", () => {
  const nonces = new Nonces(seededRandom(1));
  const nonce = nonces.issue(start, client);
  fc.assert(fc.property(fc.string(), (text) => {
    assertEquals(nonces.isValid(start, client, text), text === nonce);
  }));
  for (let i = 0; i < nonce.length - 1; i++) {
    const changed = nonce.slice(0, i) + (nonce[i] === "A" ? "B" : "A") + nonce.slice(i + 1);
    assert(!nonces.isValid(start, client, changed));
  }
});
