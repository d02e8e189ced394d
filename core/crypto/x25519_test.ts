import { assert, assertEquals, assertThrows } from "@std/assert";
import { fromHex, hex } from "../bytes/mod.ts";
import { seededRandom } from "../testing/mod.ts";
import {
  multiplyWithNoble,
  multiplyWithNode,
  passesSelfTest,
  x25519,
  x25519PrivateKey,
  x25519Public,
} from "./x25519.ts";
import rfc7748 from "./testdata/rfc7748.json" with { type: "json" };
import smallOrder from "./testdata/small_order.json" with { type: "json" };

for (const [name, multiply] of Object.entries({ multiplyWithNode, multiplyWithNoble })) {
  Deno.test(`${name} passes the self-test, which notices one that does not multiply`, () => {
    assert(passesSelfTest(multiply));
    assert(!passesSelfTest((scalar) => scalar));
    assert(!passesSelfTest(() => undefined));
  });

  Deno.test(`${name} gives the vectors of RFC 7748 §5.2`, () => {
    for (const { scalar, point, product } of rfc7748.multiplications) {
      assertEquals(hex(multiply(bytes(scalar), bytes(point))!), product);
    }
  });

  Deno.test(`${name} gives the thousandth iteration of RFC 7748 §5.2`, () => {
    let [k, u] = [new Uint8Array(32), new Uint8Array(32)];
    k[0] = u[0] = 9;
    for (let i = 1; i <= 1000; i++) {
      [k, u] = [new Uint8Array(multiply(k, u)!), k];
      if (i === 1) assertEquals(hex(k), rfc7748.iterations["1"]);
    }
    assertEquals(hex(k), rfc7748.iterations["1000"]);
  });
}

Deno.test("x25519 agrees on the secret of RFC 7748 §6.1", () => {
  const { alicePrivate, alicePublic, bobPrivate, bobPublic, secret } = rfc7748.exchange;
  assertEquals(hex(x25519Public(bytes(alicePrivate))), alicePublic);
  assertEquals(hex(x25519Public(bytes(bobPrivate))), bobPublic);
  assertEquals(hex(x25519(bytes(alicePrivate), bytes(bobPublic))!), secret);
  assertEquals(hex(x25519(bytes(bobPrivate), bytes(alicePublic))!), secret);
});

Deno.test("x25519 refuses points of small order and wrong lengths", () => {
  const key = x25519PrivateKey(seededRandom(1));
  for (const point of smallOrder.points) assertEquals(x25519(key, bytes(point)), undefined);
  assertEquals(x25519(key, new Uint8Array(31)), undefined);
  assertEquals(x25519(new Uint8Array(33), new Uint8Array(32).fill(9)), undefined);
  assertThrows(() => x25519Public(new Uint8Array(31)), RangeError);
});

Deno.test("x25519PrivateKey is clamped and draws 32 bytes", () => {
  for (let seed = 0; seed < 50; seed++) {
    const key = x25519PrivateKey(seededRandom(seed));
    assertEquals(key.length, 32);
    assert((key[0]! & 7) === 0 && (key[31]! & 0xc0) === 0x40);
  }
});

function bytes(hex: string): Uint8Array {
  return fromHex(hex)!;
}
