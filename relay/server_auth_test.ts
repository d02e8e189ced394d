import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { createHmac } from "node:crypto";
import { SocketAddress, socketAddress } from "@firezone/core/ip";
import { METHOD, StunWriter } from "@firezone/core/stun";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { NONCE_LIFETIME_SECONDS } from "./nonces.ts";
import {
  ALICE,
  BOB,
  codeOf,
  keyOf,
  PEER,
  SECOND,
  SECRET,
  ServerRig,
} from "./testing/server_rig.ts";

Deno.test("BINDING answers the sender's address without asking who it is", () => {
  const rig = new ServerRig();
  for (const client of [ALICE, socketAddress("[2001:db8:5::5]:1")]) {
    const [answer] = rig.request(client, rig.writer(METHOD.binding));
    assertEquals(answer!.class, "success");
    assertEquals(answer!.mappedAddress?.key, client.key);
    assertEquals(answer!.software, "firezone-relay");
    assert(!answer!.hasIntegrity);
  }
});

Deno.test("What is no request gets no answer", () => {
  const rig = new ServerRig();
  const from0 = new SocketAddress(ALICE.ip, 0);
  assertEquals(rig.request(from0, rig.writer(METHOD.binding)), []);
  for (const cls of ["indication", "success", "error"] as const) {
    assertEquals(rig.request(ALICE, new StunWriter(cls, METHOD.binding, rig.id())), []);
  }
  const broken = rig.writer(METHOD.binding).finish({ fingerprint: true });
  broken[broken.length - 1]! ^= 1;
  assertEquals(rig.datagram(ALICE, broken), []);
  const trailing = new Uint8Array([...new StunWriter("request", 1, rig.id()).finish(), 0]);
  assertEquals(rig.datagram(ALICE, trailing), []);
});

Deno.test("The relay survives any bytes from anyone", () => {
  const rig = new ServerRig();
  rig.allocate(ALICE);
  const stun = fc.tuple(fc.constantFrom(1, 3, 4, 8, 9), fc.uint8Array({ maxLength: 40 })).map(
    ([method, body]) => {
      const bytes = new Uint8Array(20 + body.length);
      bytes.set(new StunWriter("request", method, rig.id()).finish());
      bytes.set(body, 20);
      bytes[3] = body.length;
      return bytes;
    },
  );
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), stun), (bytes) => {
    rig.datagram(ALICE, bytes);
    rig.fromPeer(PEER, 50_000, bytes);
  }));
});

Deno.test("A request is authenticated in the order of RFC 8489 §9.2.4", () => {
  const rig = new ServerRig();
  const credentials = rig.credentials();
  const key = keyOf(credentials);
  const refresh = () => rig.writer(METHOD.refresh);

  const [bare] = rig.request(ALICE, refresh());
  assertEquals([bare!.errorCode?.code, bare!.realm], [401, "firezone"]);
  assert(bare!.nonce !== undefined && !bare!.hasIntegrity);

  const [named] = rig.request(ALICE, refresh().username(credentials.username), key);
  assertEquals(named!.errorCode?.code, 401);
  assert(named!.verifyIntegrity(key), "a challenge to a named user is signed");

  const stale = refresh().username(credentials.username).nonce("made up");
  const [restart] = rig.request(ALICE, stale, key);
  assertEquals(restart!.errorCode?.code, 438);
  assert(restart!.verifyIntegrity(key) && restart!.nonce !== undefined);

  const nonce = bare!.nonce!;
  const wrongKey = keyOf({ ...credentials, password: "wrong" });
  const ok = () => refresh().username(credentials.username).nonce(nonce);
  assertEquals(rig.request(ALICE, ok(), wrongKey)[0]!.errorCode?.code, 401);
  assertEquals(rig.request(ALICE, ok(), key)[0]!.errorCode?.code, 437);
  assertEquals(rig.request(BOB, ok(), key)[0]!.errorCode?.code, 438, "another client's nonce");

  rig.advance((NONCE_LIFETIME_SECONDS + 1) * SECOND);
  assertEquals(rig.request(ALICE, ok(), key)[0]!.errorCode?.code, 438);
});

Deno.test("A username that is not ours, or has expired, is refused", () => {
  const rig = new ServerRig();
  const nonce = rig.nonce(ALICE);
  for (const username of ["alice", "1:2:3", "99999999999999999999:x", ":", ""]) {
    const writer = rig.writer(METHOD.refresh).username(username);
    const [answer] = rig.request(ALICE, writer.nonce(nonce), new Uint8Array(16));
    assertEquals(answer!.errorCode?.code, 401, username);
    assert(!answer!.hasIntegrity);
  }
  const expired = relayCredentials(rig.wall - 1 as UnixSeconds, SECRET, "salt");
  const lastSecond = relayCredentials(rig.wall, SECRET, "salt");
  for (const [credentials, code] of [[expired, 401], [lastSecond, 437]] as const) {
    const writer = rig.writer(METHOD.refresh);
    const [answer] = rig.authenticated(ALICE, writer, credentials);
    assertEquals(answer!.errorCode?.code, code);
    assert(answer!.verifyIntegrity(keyOf(credentials)));
  }
});

Deno.test("An allocation cannot be refreshed with an expired credential", () => {
  const rig = new ServerRig();
  const short = relayCredentials(rig.wall + 60 as UnixSeconds, SECRET, "salt");
  rig.allocate(ALICE, short);
  rig.advance(61 * SECOND);
  const writer = rig.writer(METHOD.refresh);
  assertEquals(rig.authenticated(ALICE, writer, short)[0]!.errorCode?.code, 401);
});

Deno.test("A nonce holds for an hour however often it is used", () => {
  const rig = new ServerRig();
  const credentials = rig.credentials();
  const nonce = rig.nonce(ALICE);
  const ask = () => {
    const writer = rig.writer(METHOD.createPermission).username(credentials.username).nonce(nonce);
    return codeOf(rig.request(ALICE, writer, keyOf(credentials))[0]!);
  };
  for (let i = 0; i < 2000; i++) assertEquals(ask(), 0);
  rig.advance(NONCE_LIFETIME_SECONDS * SECOND);
  assertEquals(ask(), 0);
  rig.advance(SECOND);
  assertEquals(ask(), 438);
});

Deno.test("Servers with one key know each other's nonces, others do not", () => {
  const nonceKey = new Uint8Array(32).fill(7);
  const [one, other, stranger] = [nonceKey, nonceKey.slice(), undefined].map((nonceKey) =>
    new ServerRig({ nonceKey })
  );
  const credentials = one!.credentials();
  const nonce = one!.nonce(ALICE);
  for (const [rig, code] of [[other!, 437], [stranger!, 438]] as const) {
    const writer = rig.writer(METHOD.refresh).username(credentials.username).nonce(nonce);
    assertEquals(codeOf(rig.request(ALICE, writer, keyOf(credentials))[0]!), code);
  }
});

Deno.test("Who has an allocation cannot go on with another user's credentials, but can end it", () => {
  const rig = new ServerRig();
  const [ann, ben] = [rig.credentials("ann"), rig.credentials("ben")];
  rig.allocate(ALICE, ann);
  const refresh = (seconds: number) => rig.writer(METHOD.refresh).lifetime(seconds);
  const bind = () => rig.writer(METHOD.channelBind).channelNumber(0x4000).peerAddress(PEER);
  for (const [writer, code] of [[refresh(600), 441], [bind(), 441]] as const) {
    const [answer] = rig.authenticated(ALICE, writer, ben);
    assertEquals(codeOf(answer!), code);
    assert(answer!.verifyIntegrity(keyOf(ben)));
  }
  assertEquals(codeOf(rig.authenticated(ALICE, rig.allocateWriter(), ben)[0]!), 437);
  assertEquals(codeOf(rig.authenticated(ALICE, bind(), ann)[0]!), 0);
  // As a client does that its portal has given new credentials.
  assertEquals(codeOf(rig.authenticated(ALICE, refresh(0), ben)[0]!), 0);
  assertEquals(codeOf(rig.authenticated(ALICE, rig.allocateWriter(), ben)[0]!), 0);
  rig.check();
});

Deno.test("Integrity covers the bytes as they came, whatever the padding holds", () => {
  const rig = new ServerRig();
  const { username } = rig.credentials();
  const key = keyOf(rig.credentials());
  const writer = rig.writer(METHOD.refresh).nonce(rig.nonce(ALICE)).username(username);
  const bytes = writer.finish();
  // USERNAME comes last; its value is not a multiple of four bytes long.
  assert(username.length % 4 !== 0);
  bytes[bytes.length - 1] = 0xff;
  const signed = new Uint8Array(bytes.length + 24);
  signed.set(bytes);
  signed.set([0, 8, 0, 20], bytes.length);
  signed[2] = signed.length - 20 >> 8;
  signed[3] = signed.length - 20;
  const mac = createHmac("sha1", key).update(signed.subarray(0, bytes.length)).digest();
  signed.set(mac, bytes.length + 4);
  assertEquals(codeOf(rig.datagram(ALICE, signed)[0]!), 437);
  signed[bytes.length - 1] = 0;
  assertEquals(codeOf(rig.datagram(ALICE, signed)[0]!), 401);
});
