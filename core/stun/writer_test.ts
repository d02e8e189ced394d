import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { fromHex, hex, utf8 } from "../bytes/mod.ts";
import { IpAddress, SocketAddress, socketAddress } from "../ip/address.ts";
import { seededRandom } from "../testing/random.ts";
import { longTermKey, shortTermKey } from "./credentials.ts";
import { errorReason } from "./error_code.ts";
import { crc32 } from "./fingerprint.ts";
import { classOf, messageType, METHOD, methodOf, type StunClass } from "./header.ts";
import { parseStunMessage, type StunMessage } from "./message.ts";
import vectors from "./testdata/rfc5769.json" with { type: "json" };
import { newTransactionId } from "./transaction_id.ts";
import { StunWriter } from "./writer.ts";

const ID = "b7e7a701bc34d686fa87dfae";
const CLASSES: StunClass[] = ["request", "indication", "success", "error"];

Deno.test("messages without odd padding come out as in RFC 5769", () => {
  const { username, realm, password } = vectors.longTerm;
  const bytes = new StunWriter("request", METHOD.binding, "78ad3433c6ad72c029da412e")
    .username(username)
    .nonce("f//499k954d6OL34oL9FSTvy64sA")
    .realm(realm)
    .finish({ integrityKey: longTermKey(username, realm, password) });
  assertEquals(hex(bytes), vectors.messages.longTermRequest.join(""));
});

Deno.test("addresses come out as in RFC 5769", () => {
  for (
    const [address, value] of [
      ["192.0.2.1:32853", vectors.messages.ipv4Response[2]!],
      ["[2001:db8:1234:5678:11:2233:4455:6677]:32853", vectors.messages.ipv6Response[2]!],
    ] as const
  ) {
    const bytes = new StunWriter("success", METHOD.binding, ID)
      .mappedAddress(socketAddress(address))
      .finish();
    assertEquals(hex(bytes.subarray(20)), value);
  }
});

Deno.test("the type field interleaves method and class as RFC 8489 §5 draws it", () => {
  assertEquals(
    CLASSES.map((cls) => messageType(cls, METHOD.binding)),
    [0x0001, 0x0011, 0x0101, 0x0111],
  );
  assertEquals(messageType("error", METHOD.allocate), 0x0113);
  for (let method = 0; method < 0x1000; method++) {
    for (const cls of CLASSES) {
      const type = messageType(cls, method);
      assertEquals([classOf(type), methodOf(type), type >> 14], [cls, method, 0]);
    }
  }
});

Deno.test("the checksum is the usual CRC-32", () => {
  assertEquals(crc32(utf8("123456789"), 0, 9), 0xcbf43926);
});

Deno.test("error codes carry the recommended text unless told otherwise", () => {
  const message = parse(new StunWriter("error", METHOD.allocate, ID).errorCode(438).finish());
  assertEquals(message.errorCode, { code: 438, reason: "Stale Nonce" });
  assertEquals(errorReason(699), "");
});

Deno.test("unknown attributes are listed in an error", () => {
  const bytes = new StunWriter("error", METHOD.binding, ID).unknownAttributes([0x1a, 0x7fff, 2])
    .finish();
  assertEquals(hex(bytes.subarray(20)), "000a0006001a7fff00020000");
});

Deno.test("ids of transactions are twelve random bytes", () => {
  const random = seededRandom(1);
  const ids = new Set(Array.from({ length: 100 }, () => newTransactionId(random)));
  assertEquals(ids.size, 100);
  for (const id of ids) assertEquals(fromHex(id)?.length, 12);
});

Deno.test("what cannot be a message is refused by the writer", () => {
  for (const id of ["", "00", `${ID}00`, "zz".repeat(12)]) {
    assertThrows(() => new StunWriter("request", 1, id), RangeError);
  }
  const large = "x".repeat(60_000);
  assertThrows(() => new StunWriter("request", 1, ID).software(large + large), RangeError);
  assertThrows(
    () => new StunWriter("request", 1, ID).software(large).realm(large).finish(),
    RangeError,
  );
});

Deno.test("what is written reads back", () => {
  fc.assert(fc.property(fields(), (f) => {
    const writer = new StunWriter(f.cls, f.method, f.id)
      .username(f.username).realm(f.realm).nonce(f.nonce).software(f.software)
      .errorCode(f.code, f.reason)
      .mappedAddress(f.mapped).peerAddress(f.peer)
      .relayedAddress(f.relayed[0]).relayedAddress(f.relayed[1])
      .lifetime(f.lifetime).channelNumber(f.channel).requestedTransport(f.transport)
      .requestedAddressFamily(f.family).additionalAddressFamily(f.family)
      .priority(f.priority).iceControlling(f.tieBreaker).iceControlled(f.tieBreaker);
    if (f.useCandidate) writer.useCandidate();
    const integrityKey = f.signed ? shortTermKey(f.realm) : undefined;
    const bytes = writer.finish({ integrityKey, fingerprint: f.fingerprint });
    const m = parse(bytes);
    assertEquals([m.class, m.method, m.transactionId], [f.cls, f.method, f.id]);
    assertEquals([m.username, m.realm, m.nonce, m.software], [
      f.username,
      f.realm,
      f.nonce,
      f.software,
    ]);
    assertEquals(m.errorCode, { code: f.code, reason: f.reason });
    assertEquals([m.mappedAddress, m.peerAddress], [f.mapped, f.peer]);
    assertEquals(m.relayedAddresses, f.relayed);
    assertEquals([m.lifetimeSeconds, m.channelNumber], [f.lifetime, f.channel]);
    assertEquals(m.requestedTransport, f.transport);
    assertEquals([m.requestedAddressFamily, m.additionalAddressFamily], [f.family, f.family]);
    assertEquals([m.priority, m.useCandidate], [f.priority, f.useCandidate]);
    assertEquals([m.iceControlling, m.iceControlled], [f.tieBreaker, f.tieBreaker]);
    assertEquals([m.unknownComprehensionRequired, m.malformedAttribute], [[], undefined]);
    assertEquals(m.hasIntegrity, f.signed);
    assertEquals(m.verifyIntegrity(shortTermKey(f.realm)), f.signed);
    assert(!m.verifyIntegrity(shortTermKey(`${f.realm}!`)));
    assertEquals(m.verifyFingerprint(), f.fingerprint || undefined);
  }));
});

function fields() {
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  const text = fc.string({ unit: "binary", maxLength: 40 });
  const address = (length: number) =>
    fc.tuple(bytes(length), fc.nat(65535)).map(([ip, port]) =>
      new SocketAddress(new IpAddress(ip), port)
    );
  const any = fc.oneof(address(4), address(16));
  return fc.record({
    cls: fc.constantFrom(...CLASSES),
    method: fc.nat(0xff),
    id: bytes(12).map(hex),
    username: text,
    realm: text,
    nonce: text,
    software: text,
    reason: text,
    code: fc.integer({ min: 300, max: 699 }),
    mapped: any,
    peer: any,
    relayed: fc.tuple(address(4), address(16)),
    lifetime: fc.nat(0xffffffff),
    channel: fc.integer({ min: 0x4000, max: 0x4fff }),
    transport: fc.nat(255),
    family: fc.constantFrom<4 | 6>(4, 6),
    priority: fc.nat(0xffffffff),
    tieBreaker: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    useCandidate: fc.boolean(),
    signed: fc.boolean(),
    fingerprint: fc.boolean(),
  });
}

function parse(bytes: Uint8Array): StunMessage {
  const message = parseStunMessage(bytes, 0, bytes.length);
  assert(message, "not parsed");
  return message;
}
