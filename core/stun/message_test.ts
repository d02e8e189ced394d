import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { fromHex, hex, utf8, writeU16 } from "../bytes/mod.ts";
import { longTermKey, shortTermKey } from "./credentials.ts";
import { looksLikeStun, METHOD } from "./header.ts";
import { parseStunMessage, type StunMessage } from "./message.ts";
import vectors from "./testdata/rfc5769.json" with { type: "json" };
import { StunWriter } from "./writer.ts";

const ID = "b7e7a701bc34d686fa87dfae";
const PASSWORD = shortTermKey(vectors.shortTermPassword);

Deno.test("a request with short-term credentials reads as RFC 5769 §2.1 says", () => {
  const message = parse(vector("request"));
  assertEquals([message.class, message.method, message.transactionId], [
    "request",
    METHOD.binding,
    ID,
  ]);
  assertEquals(message.software, "STUN test client");
  assertEquals(message.username, "evtj:h6vY");
  assertEquals(message.priority, 0x6e0001ff);
  assertEquals(message.iceControlled, 0x932ff9b151263b36n);
  assertEquals(message.iceControlling, undefined);
  assertEquals(message.useCandidate, false);
  assert(message.hasIntegrity);
  // The padding of USERNAME in this vector is not zero.
  assert(message.verifyIntegrity(PASSWORD));
  assertEquals(message.verifyFingerprint(), true);
});

Deno.test("responses read as RFC 5769 §2.2 and §2.3 say", () => {
  for (
    const [name, address] of [
      ["ipv4Response", "192.0.2.1:32853"],
      ["ipv6Response", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"],
    ] as const
  ) {
    const message = parse(vector(name));
    assertEquals([message.class, message.software], ["success", "test vector"]);
    assertEquals(message.mappedAddress?.key, address);
    assert(message.verifyIntegrity(PASSWORD));
    assertEquals(message.verifyFingerprint(), true);
  }
});

Deno.test("a request with long-term credentials reads as RFC 5769 §2.4 says", () => {
  const message = parse(vector("longTermRequest"));
  const { username, realm, password } = vectors.longTerm;
  assertEquals([message.username, message.realm], [username, realm]);
  assertEquals(message.nonce, "f//499k954d6OL34oL9FSTvy64sA");
  assert(message.verifyIntegrity(longTermKey(username, realm, password)));
  assert(!message.verifyIntegrity(longTermKey(username, realm, "TheMatrix")));
  assertEquals(message.verifyFingerprint(), undefined);
});

Deno.test("the key of the long-term mechanism is that of the relay's test vector", () => {
  const key = longTermKey(
    "2145916800:testsalt",
    "firezone",
    "10KWnrmYCnHyOpoY7m1989f3E8muB/qzug1yOkisIEw",
  );
  assertEquals(hex(key), "1de3858fb8e6e71f88224ebf41185644");
});

Deno.test("any changed bit of a vector breaks its fingerprint, and its integrity if protected", () => {
  const bytes = vector("request");
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const changed = bytes.slice();
    changed[bit >> 3]! ^= 1 << (bit & 7);
    const message = parseStunMessage(changed, 0, changed.length);
    if (!message) continue;
    assert(message.verifyFingerprint() !== true, `fingerprint survives bit ${bit}`);
    const isProtected = bit >> 3 < bytes.length - 8;
    assertEquals(message.verifyIntegrity(PASSWORD), !isProtected, `integrity at bit ${bit}`);
  }
});

Deno.test("parsing needs no whole buffer and keeps none", () => {
  const bytes = vector("ipv4Response");
  const buffer = new Uint8Array(bytes.length + 10).fill(0xff);
  buffer.set(bytes, 5);
  const message = parseStunMessage(buffer, 5, 5 + bytes.length)!;
  buffer.fill(0);
  assert(message.verifyIntegrity(PASSWORD));
});

Deno.test("what is not framed as one message is refused", () => {
  const good = vector("request");
  const refused: [string, Uint8Array][] = [
    ["empty", new Uint8Array(0)],
    ["no header", good.slice(0, 19)],
    ["cut short", good.slice(0, -4)],
    ["bytes behind", new Uint8Array([...good, 0, 0, 0, 0])],
    ["first bits", changed(good, 0, 0x40)],
    ["cookie", changed(good, 4, 0x20)],
    ["odd length", changed(good, 3, good[3]! - 1)],
  ];
  for (const [name, bytes] of refused) {
    assert(!looksLikeStun(bytes, 0, bytes.length), name);
    assertEquals(parseStunMessage(bytes, 0, bytes.length), undefined, name);
  }
  const overrun = changed(good, 23, 0xff);
  assert(looksLikeStun(overrun, 0, overrun.length));
  assertEquals(parseStunMessage(overrun, 0, overrun.length), undefined, "attribute past the end");
});

Deno.test("of several attributes with one type the first counts", () => {
  const message = parse(new StunWriter("request", 1, ID).username("a").username("b").finish());
  assertEquals(message.username, "a");
});

Deno.test("a first occurrence that does not decode is not replaced by a later one", () => {
  const bytes = raw([[0x000d, [1]], [0x000d, [0, 0, 0, 9]]]);
  const message = parse(bytes);
  assertEquals([message.lifetimeSeconds, message.malformedAttribute], [undefined, 0x000d]);
});

Deno.test("behind MESSAGE-INTEGRITY only FINGERPRINT counts", () => {
  const protectedPart = new StunWriter("request", METHOD.binding, ID).username("a");
  const signed = protectedPart.finish({ integrityKey: PASSWORD });
  const bytes = append(signed, [[0x0015, [0x78]], [0x7fff, []], [0x000d, [1]]]);
  const message = parse(bytes);
  assertEquals([message.username, message.nonce], ["a", undefined]);
  assertEquals(message.unknownComprehensionRequired, []);
  assertEquals(message.malformedAttribute, undefined);
  assert(message.verifyIntegrity(PASSWORD));
});

Deno.test("FINGERPRINT counts only as the last attribute", () => {
  const bytes = new StunWriter("request", METHOD.binding, ID).finish({ fingerprint: true });
  assertEquals(parse(bytes).verifyFingerprint(), true);
  assertEquals(parse(append(bytes, [[0x8022, [0x78]]])).verifyFingerprint(), false);
});

Deno.test("attributes that must be understood but are not are listed once", () => {
  const bytes = raw([[0x001a, []], [0x7ffe, [1, 2, 3]], [0x001a, []], [0x8abc, []], [0x0001, []]]);
  assertEquals(parse(bytes).unknownComprehensionRequired, [0x001a, 0x7ffe]);
});

Deno.test("ADDITIONAL-ADDRESS-FAMILY is understood as drafts numbered it, but the RFC's counts", () => {
  const [draft4, draft6] = [[0x8032, [1, 0, 0, 0]], [0x8032, [2, 0, 0, 0]]] as const;
  const cases = [
    [[draft6], 6],
    [[[0x8000, [2, 0, 0, 0]], draft4], 6],
    [[draft4, [0x8000, [2, 0, 0, 0]]], 6],
    [[[0x8032, [9]]], undefined],
  ] as const;
  for (const [attributes, family] of cases) {
    const message = parse(raw(attributes.map(([type, value]) => [type, [...value]])));
    assertEquals(message.additionalAddressFamily, family);
    assertEquals(message.malformedAttribute, undefined);
  }
});

Deno.test("values that do not decode are reported, and the rest is read", () => {
  const broken: [string, number, number[]][] = [
    ["USERNAME too long", 0x0006, new Array(514).fill(0x61)],
    ["USERNAME not UTF-8", 0x0006, [0xff]],
    ["NONCE too long", 0x0015, new Array(764).fill(0x61)],
    ["MESSAGE-INTEGRITY of another hash", 0x0008, new Array(32).fill(1)],
    ["ERROR-CODE without code", 0x0009, [0, 0]],
    ["ERROR-CODE class", 0x0009, [0, 0, 7, 0]],
    ["ERROR-CODE number", 0x0009, [0, 0, 4, 100]],
    ["CHANNEL-NUMBER below", 0x000c, [0x3f, 0xff, 0, 0]],
    ["CHANNEL-NUMBER above", 0x000c, [0x80, 0, 0, 0]],
    ["CHANNEL-NUMBER short", 0x000c, [0x40, 0]],
    ["EVEN-PORT", 0x0018, [0, 0]],
    ["LIFETIME", 0x000d, [0, 0, 0]],
    ["XOR-PEER-ADDRESS family", 0x0012, [0, 3, 0, 0, 0, 0, 0, 0]],
    ["XOR-RELAYED-ADDRESS length", 0x0016, [0, 2, 0, 0, 0, 0, 0, 0]],
    ["XOR-MAPPED-ADDRESS empty", 0x0020, []],
    ["REQUESTED-ADDRESS-FAMILY", 0x0017, [0, 0, 0, 0]],
    ["ADDITIONAL-ADDRESS-FAMILY", 0x8000, [1]],
    ["REQUESTED-TRANSPORT", 0x0019, []],
    ["PRIORITY", 0x0024, [1, 2, 3, 4, 5]],
    ["USE-CANDIDATE", 0x0025, [0]],
    ["ICE-CONTROLLED", 0x8029, [0, 0, 0, 0]],
    ["ICE-CONTROLLING", 0x802a, []],
    ["FINGERPRINT", 0x8028, [0]],
  ];
  for (const [name, type, value] of broken) {
    const message = parse(raw([[0x0014, [...utf8("realm")]], [type, value], [0x000d, [1]]]));
    assertEquals(message.malformedAttribute, type, name);
    assertEquals(message.realm, "realm", name);
  }
});

Deno.test("no bytes make the parser throw", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
    parseStunMessage(bytes, 0, bytes.length);
    looksLikeStun(bytes, 0, bytes.length);
  }));
});

Deno.test("no attributes make the parser throw", () => {
  const known = [1, 6, 8, 9, 10, 12, 13, 18, 20, 21, 22, 23, 24, 25, 32, 36, 37];
  const types = fc.oneof(
    fc.constantFrom(...known, 0x8000, 0x8022, 0x8028, 0x8029, 0x802a),
    fc.integer({ min: 0, max: 0xffff }),
  );
  const values = fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 24 });
  fc.assert(fc.property(fc.array(fc.tuple(types, values)), (attributes) => {
    use(parse(raw(attributes)));
  }));
});

Deno.test("no change to a good message makes the parser throw", () => {
  const names = Object.keys(vectors.messages) as (keyof typeof vectors.messages)[];
  const edits = fc.array(fc.tuple(fc.nat(200), fc.integer({ min: 0, max: 255 })), { maxLength: 4 });
  fc.assert(fc.property(fc.constantFrom(...names), edits, fc.nat(120), (name, list, cut) => {
    const bytes = vector(name);
    for (const [at, value] of list) bytes[at % bytes.length] = value;
    const short = bytes.slice(0, Math.max(0, bytes.length - (cut % 4 === 0 ? cut : 0)));
    if (short.length >= 4) writeU16(short, 2, short.length - 20 & 0xffff);
    for (const candidate of [bytes, short]) {
      const message = parseStunMessage(candidate, 0, candidate.length);
      if (message) use(message);
    }
  }));
});

type Attribute = readonly [type: number, value: readonly number[]];

function vector(name: keyof typeof vectors.messages): Uint8Array {
  return fromHex(vectors.messages[name].join(""))!;
}

function parse(bytes: Uint8Array): StunMessage {
  const message = parseStunMessage(bytes, 0, bytes.length);
  assert(message, "not parsed");
  return message;
}

function use(message: StunMessage): void {
  message.verifyFingerprint();
  message.verifyIntegrity(PASSWORD);
}

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = value;
  return copy;
}

function raw(attributes: readonly Attribute[]): Uint8Array {
  return append(new StunWriter("request", METHOD.binding, ID).finish(), attributes);
}

function append(message: Uint8Array, attributes: readonly Attribute[]): Uint8Array {
  const tail = attributes.flatMap(([type, value]) => [
    ...[type >> 8, type & 0xff, value.length >> 8, value.length & 0xff],
    ...value,
    ...new Array((4 - value.length % 4) % 4).fill(0),
  ]);
  const bytes = new Uint8Array([...message, ...tail]);
  writeU16(bytes, 2, bytes.length - 20);
  return bytes;
}
