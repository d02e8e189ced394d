import { assert, assertEquals, assertNotEquals } from "@std/assert";
import fc from "fast-check";
import { socketAddress } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import type { UnixSeconds } from "@firezone/core/units";
import { NONCE_LIFETIME_SECONDS, Nonces } from "./nonces.ts";

const start = 1_700_000_000 as UnixSeconds;
const later = (seconds: number) => start + seconds as UnixSeconds;
const key = seededRandom(1)(32);
const client = socketAddress("198.51.100.1:5000");

Deno.test("Nonces are good for their client, for an hour, and for whoever has the key", () => {
  const nonces = new Nonces(key);
  const nonce = nonces.issue(start, client);
  assert(nonces.isValid(start, client, nonce));
  assert(new Nonces(key.slice()).isValid(start, client, nonce), "another worker");
  assert(!nonces.isValid(later(-1), client, nonce), "from the future");
  assert(nonces.isValid(later(NONCE_LIFETIME_SECONDS), client, nonce));
  assert(!nonces.isValid(later(NONCE_LIFETIME_SECONDS + 1), client, nonce));
  assert(!nonces.isValid(start, socketAddress("198.51.100.1:5001"), nonce));
  assert(!new Nonces(seededRandom(2)(32)).isValid(start, client, nonce));
  assertNotEquals(nonces.issue(later(1), client), nonce);
});

Deno.test("Nonces refuse any other text without throwing", () => {
  const nonces = new Nonces(key);
  const nonce = nonces.issue(start, client);
  fc.assert(fc.property(fc.string(), (text) => {
    assertEquals(nonces.isValid(start, client, text), text === nonce);
  }));
  for (let i = 0; i < nonce.length - 1; i++) {
    const changed = nonce.slice(0, i) + (nonce[i] === "A" ? "B" : "A") + nonce.slice(i + 1);
    assert(!nonces.isValid(start, client, changed));
  }
});

Deno.test("Nonces that are valid look timely in a datagram, others only by chance of their time", () => {
  const nonces = new Nonces(key);
  const bytes = (text: string) => new TextEncoder().encode(text);
  const looks = (wall: UnixSeconds, text: string) => {
    const padded = bytes(`..${text}`);
    return nonces.looksTimely(wall, padded, 2, padded.length - 2);
  };
  const nonce = nonces.issue(start, client);
  for (const seconds of [-1, 0, 1, NONCE_LIFETIME_SECONDS, NONCE_LIFETIME_SECONDS + 1]) {
    const wall = later(seconds);
    assertEquals(looks(wall, nonce), nonces.isValid(wall, client, nonce), `${seconds} s later`);
  }
  for (const other of ["", "a", nonce.slice(1), `${nonce}A`, `A${nonce.slice(1)}`]) {
    assert(!looks(start, other), other);
  }
  fc.assert(fc.property(fc.uint8Array({ minLength: 28, maxLength: 28 }), (any) => {
    nonces.looksTimely(start, any, 0, any.length);
  }));
});
