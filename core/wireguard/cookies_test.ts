import { assert, assertEquals } from "@std/assert";
import { ip, socketAddress } from "../ip/mod.ts";
import { seededRandom } from "../testing/mod.ts";
import { type Millis, NEVER } from "../units.ts";
import { CookieIssuer, readCookieReply } from "./cookies.ts";
import { HandshakeLimiter } from "./handshake_limiter.ts";
import { receiverMacKeys, writeMacs } from "./macs.ts";
import { COOKIE_REPLY_LENGTH, INITIATION_LENGTH, MessageType, messageType } from "./messages.ts";

const KEYS = receiverMacKeys(seededRandom(1)(32));
const FROM = socketAddress("192.0.2.1:1234");

Deno.test("a cookie makes mac2 pass for its address, for two minutes", () => {
  const issuer = new CookieIssuer(seededRandom(2), KEYS);
  const message = initiation();
  const mac1 = writeMacs(message, KEYS, undefined);
  assertEquals(issuer.verify(at(0), FROM, message, 0, message.length), false);
  const reply = issuer.reply(at(10), FROM, message, 0, message.length);
  assertEquals(messageType(reply, 0, reply.length), MessageType.CookieReply);
  const cookie = readCookieReply(KEYS, mac1, reply, 0)!;
  writeMacs(message, KEYS, cookie);
  const verify = (now: number, from = FROM) =>
    issuer.verify(at(now), from, message, 0, message.length);
  assert(verify(10));
  assert(verify(120_009));
  for (const other of ["192.0.2.1:1235", "192.0.2.2:1234", "[2001:db8::1]:1234"]) {
    assert(!verify(20, socketAddress(other)), other);
  }
  assertEquals(issuer.expiresAt, at(120_010));
  assert(!verify(120_010));
  assertEquals(issuer.expiresAt, NEVER);
});

Deno.test("a cookie reply is read only by who sent what it replies to, and only unchanged", () => {
  const issuer = new CookieIssuer(seededRandom(3), KEYS);
  const message = initiation();
  const mac1 = writeMacs(message, KEYS, undefined);
  const reply = issuer.reply(at(0), FROM, message, 0, message.length);
  assertEquals(reply.length, COOKIE_REPLY_LENGTH);
  assertEquals(readCookieReply(KEYS, seededRandom(9)(16), reply, 0), undefined);
  assertEquals(readCookieReply(receiverMacKeys(new Uint8Array(32)), mac1, reply, 0), undefined);
  for (let i = 8; i < reply.length; i++) {
    const changed = reply.slice();
    changed[i] = changed[i]! ^ 0x40;
    assertEquals(readCookieReply(KEYS, mac1, changed, 0), undefined, `byte ${i}`);
  }
});

Deno.test("HandshakeLimiter admits its number in each second, and recovers after any silence", () => {
  const limiter = new HandshakeLimiter(3);
  const admitted = (now: number, tries: number) => {
    let count = 0;
    for (let i = 0; i < tries; i++) if (limiter.admit(at(now))) count++;
    return count;
  };
  assertEquals(admitted(0, 10), 3);
  assertEquals(admitted(999, 10), 0);
  assertEquals(admitted(1000, 10), 3);
  assertEquals(admitted(1_000_000, 2), 2);
  assertEquals(admitted(1_000_500, 2), 1);
});

Deno.test("HandshakeLimiter counts addresses with cookies apart, IPv6 by its /64", () => {
  const limiter = new HandshakeLimiter(0);
  const count = (address: string) => {
    let admitted = 0;
    while (admitted < 50 && limiter.admitWithCookie(at(5), ip(address))) admitted++;
    return admitted;
  };
  assertEquals(count("192.0.2.1"), 20);
  assertEquals(count("192.0.2.2"), 20);
  assertEquals(count("2001:db8:0:1::1"), 20);
  assertEquals(count("2001:db8:0:1::2"), 0);
  assertEquals(count("2001:db8:0:2::2"), 20);
});

function initiation(): Uint8Array {
  const message = new Uint8Array(INITIATION_LENGTH);
  message.set([1, 0, 0, 0, 0x44, 0x33, 0x22, 0x11]);
  return message;
}

function at(ms: number): Millis {
  return ms as Millis;
}
