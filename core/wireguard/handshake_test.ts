import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex, hex, readU32le } from "../bytes/mod.ts";
import { AEAD_NAMES, loadAead, x25519PrivateKey } from "../crypto/mod.ts";
import { seededRandom, testAead } from "../testing/mod.ts";
import type { Millis } from "../units.ts";
import {
  createInitiation,
  createResponse,
  identifyInitiation,
  LocalIdentity,
  readResponse,
  verifyInitiation,
} from "./handshake.ts";
import { receiverMacKeys, verifyMac1, writeMacs } from "./macs.ts";
import { INITIATION_LENGTH, RESPONSE, RESPONSE_LENGTH } from "./messages.ts";
import { Session } from "./session.ts";
import { isLater, tai64n, TAI64N_LENGTH } from "./tai64n.ts";
import vector from "./testdata/handshake.json" with { type: "json" };

const NO_PSK = new Uint8Array(32);
const NOW = 0 as Millis;

for (const aead of AEAD_NAMES.map((name) => loadAead(name)).filter((it) => it !== undefined)) {
  Deno.test(`a handshake with fixed keys gives the published transcript, over ${aead.name}`, () => {
    const initiator = new LocalIdentity(bytes(vector.initiatorPrivate), aead);
    const responder = new LocalIdentity(bytes(vector.responderPrivate), aead);
    assertEquals(hex(initiator.publicKey), vector.initiatorPublic);
    assertEquals(hex(responder.publicKey), vector.responderPublic);

    const pending = createInitiation(
      initiator,
      responder.publicKey,
      initiator.shareWith(responder.publicKey)!,
      vector.initiatorIndex,
      bytes(vector.timestamp),
      bytes(vector.initiatorEphemeralPrivate),
    )!;
    writeMacs(pending.message, receiverMacKeys(responder.publicKey), undefined);
    assertEquals(hex(pending.message), vector.initiation);
    assert(verifyMac1(pending.message, 0, INITIATION_LENGTH, receiverMacKeys(responder.publicKey)));

    const identified = identifyInitiation(responder, pending.message, 0)!;
    assertEquals(hex(identified.publicKey), vector.initiatorPublic);
    assertEquals(identified.remoteIndex, vector.initiatorIndex);
    const verified = verifyInitiation(identified, responder.shareWith(identified.publicKey)!)!;
    assertEquals(hex(verified.timestamp), vector.timestamp);
    const response = createResponse(
      identified,
      NO_PSK,
      vector.responderIndex,
      bytes(vector.responderEphemeralPrivate),
    )!;
    writeMacs(response.message, receiverMacKeys(initiator.publicKey), undefined);
    assertEquals(hex(response.message), vector.response);

    const keys = readResponse(initiator, pending, NO_PSK, response.message, 0)!;
    const [a, b] = [vector.initiatorIndex, vector.responderIndex];
    const ours = new Session(NOW, aead, a, b, true, keys);
    const theirs = new Session(NOW, aead, b, a, false, response.keys);
    assertEquals(hex(keepaliveOf(ours)), vector.initiatorKeepalive);
    assertEquals(hex(keepaliveOf(theirs)), vector.responderKeepalive);
    ours.dispose();
    theirs.dispose();
  });
}

Deno.test("a handshake with a preshared key works in any buffer position, and only with that key", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(40), (seed, offset) => {
      const { initiator, responder, pending } = initiation(seed);
      const random = seededRandom(seed + 1);
      const psk = random(32);
      const moved = new Uint8Array(offset + INITIATION_LENGTH);
      moved.set(pending.message, offset);
      const identified = identifyInitiation(responder, moved, offset)!;
      assert(verifyInitiation(identified, responder.shareWith(identified.publicKey)!));
      const response = createResponse(identified, psk, 2, x25519PrivateKey(random))!;
      assertEquals(readU32le(response.message, RESPONSE.receiver), 1);
      assertEquals(readResponse(initiator, pending, random(32), response.message, 0), undefined);
      assertEquals(readResponse(initiator, pending, NO_PSK, response.message, 0), undefined);
      const movedResponse = new Uint8Array(offset + RESPONSE_LENGTH);
      movedResponse.set(response.message, offset);
      // Failures before must have left the pending handshake as it was.
      const keys = readResponse(initiator, pending, psk, movedResponse, offset)!;
      assertEquals(keys.send, response.keys.receive);
      assertEquals(keys.receive, response.keys.send);
    }),
    { numRuns: 20 },
  );
});

Deno.test("an initiation changed anywhere before its MACs is not identified or not verified", () => {
  const { responder, pending } = initiation(3);
  for (let i = 8; i < INITIATION_LENGTH - 32; i++) {
    const changed = pending.message.slice();
    changed[i] = changed[i]! ^ 1 << (i & 7);
    // X25519 ignores the top bit of a point, but the hash of the handshake does not.
    const identified = identifyInitiation(responder, changed, 0);
    if (identified === undefined) continue;
    const secret = responder.shareWith(identified.publicKey)!;
    assertEquals(verifyInitiation(identified, secret), undefined, `byte ${i}`);
  }
});

Deno.test("a response changed anywhere before its MACs gives no keys", () => {
  const { initiator, responder, pending } = initiation(4);
  const identified = identifyInitiation(responder, pending.message, 0)!;
  verifyInitiation(identified, responder.shareWith(identified.publicKey)!);
  const { message } = createResponse(identified, NO_PSK, 2, x25519PrivateKey(seededRandom(5)))!;
  for (let i = RESPONSE.ephemeral; i < RESPONSE_LENGTH - 32; i++) {
    const changed = message.slice();
    changed[i] = changed[i]! ^ 1 << (i & 7);
    assertEquals(readResponse(initiator, pending, NO_PSK, changed, 0), undefined, `byte ${i}`);
  }
  assert(readResponse(initiator, pending, NO_PSK, message, 0));
});

Deno.test("initiations of ephemeral keys of small order are refused", () => {
  const { responder, pending } = initiation(6);
  pending.message.fill(0, 8, 40);
  assertEquals(identifyInitiation(responder, pending.message, 0), undefined);
});

Deno.test("tai64n counts seconds from 2^62 + 10 and orders as bytes", () => {
  assertEquals(hex(tai64n(0)), "400000000000000a00000000");
  assertEquals(hex(tai64n(1_700_000_000_000_000 + 83_886)), "400000006553f10a04ffffb0");
  fc.assert(fc.property(fc.nat({ max: 2 ** 52 }), fc.nat({ max: 2 ** 52 }), (a, b) => {
    assertEquals(tai64n(a).length, TAI64N_LENGTH);
    assertEquals(isLater(tai64n(a), tai64n(b)), a > b);
  }));
});

function initiation(seed: number) {
  const aead = testAead();
  const random = seededRandom(seed);
  const initiator = new LocalIdentity(random(32), aead);
  const responder = new LocalIdentity(random(32), aead);
  const pending = createInitiation(
    initiator,
    responder.publicKey,
    initiator.shareWith(responder.publicKey)!,
    1,
    tai64n(1),
    x25519PrivateKey(random),
  )!;
  return { initiator, responder, pending };
}

function keepaliveOf(session: Session): Uint8Array {
  const message = new Uint8Array(32);
  assertEquals(session.seal(message, 0, 0, message, 0, 0), 32);
  return message;
}

function bytes(text: string): Uint8Array {
  return fromHex(text)!;
}
