import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { bytesEqual, fromHex } from "../bytes/mod.ts";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import { TAG_LENGTH } from "./aead.ts";
import { AEAD_NAMES, loadAead, selectAead } from "./select.ts";
import { passesSelfTest } from "./known_answers.ts";
import rfc8439 from "./testdata/rfc8439.json" with { type: "json" };

// A machine without libcrypto runs the same list over the backends it has.
const backends = AEAD_NAMES.map((name) => loadAead(name)).filter((it) => it !== undefined);
const noble = loadAead("noble")!;

Deno.test("selectAead takes the fastest that works, or the one that is forced", () => {
  assertEquals(selectAead().name, backends[0]!.name);
  for (const { name } of backends) assertEquals(selectAead(name).name, name);
});

Deno.test("passesSelfTest refuses a backend that computes something else", () => {
  const open = { ...noble, openOnce: () => new Uint8Array(114) };
  const seal = { ...noble, key: (key: Uint8Array) => noble.key(key.map((b) => b ^ 1)) };
  const throwing = {
    ...noble,
    key: () => {
      throw new Error("broken");
    },
  };
  for (const broken of [open, seal, throwing]) assert(!passesSelfTest(broken));
});

for (const backend of backends) {
  const title = (behaviour: string) => `AEAD ${backend.name}: ${behaviour}`;

  Deno.test(title("gives its known answers"), () => {
    assert(passesSelfTest(backend));
  });

  Deno.test(title("gives the vectors of RFC 8439"), () => {
    for (const vector of rfc8439.vectors) {
      const [key, nonce, data, plaintext] = [
        bytes(vector.key),
        bytes(vector.nonce),
        bytes(vector.associatedData),
        bytes(vector.plaintext),
      ];
      const sealed = bytes(vector.ciphertext + vector.tag);
      assertEquals(backend.sealOnce(key, nonce, data, plaintext), sealed, vector.name);
      assertEquals(backend.openOnce(key, nonce, data, sealed), plaintext, vector.name);
    }
  });

  Deno.test(
    title("refuses every flipped bit, truncation and extension of a single message"),
    () => {
      const { key, nonce, associatedData, ciphertext, tag } = rfc8439.vectors[0]!;
      const sealed = bytes(ciphertext + tag);
      const open = (sealed: Uint8Array, data = bytes(associatedData), iv = bytes(nonce)) =>
        backend.openOnce(bytes(key), iv, data, sealed);
      for (let i = 0; i < sealed.length; i++) {
        assertEquals(open(flipped(sealed, i)), undefined, `bit in byte ${i}`);
        assertEquals(open(sealed.slice(0, i)), undefined, `first ${i} bytes`);
      }
      assertEquals(open(new Uint8Array([...sealed, 0])), undefined);
      assertEquals(open(sealed, flipped(bytes(associatedData), 0)), undefined);
      assertEquals(open(sealed, new Uint8Array(0)), undefined);
      assertEquals(open(sealed, bytes(associatedData), flipped(bytes(nonce), 11)), undefined);
    },
  );

  Deno.test(title("seals and opens at any offset, agreeing with noble"), () => {
    fc.assert(fc.property(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.maxSafeNat(),
      fc.uint8Array({ maxLength: 200 }),
      fc.nat(20),
      fc.nat(20),
      (rawKey, counter, plaintext, srcStart, dstStart) => {
        const key = backend.key(rawKey);
        const sealed = sealAt(key.seal.bind(key), counter, plaintext, srcStart, dstStart);
        const reference = noble.key(rawKey);
        const expected = sealAt(reference.seal.bind(reference), counter, plaintext, 0, 0);
        assertEquals(sealed, expected);
        const src = new Uint8Array(srcStart + sealed.length + 3);
        src.set(sealed, srcStart);
        const dst = new Uint8Array(dstStart + plaintext.length + 5).fill(0xee);
        assert(key.open(counter, src, srcStart, srcStart + sealed.length, dst, dstStart));
        assertEquals(dst.slice(dstStart, dstStart + plaintext.length), plaintext);
        assert(dst.subarray(0, dstStart).every((b) => b === 0xee));
        assert(dst.subarray(dstStart + plaintext.length).every((b) => b === 0xee));
        key.dispose();
      },
    ));
  });

  Deno.test(title("seals padding as if the plaintext ended in zeros"), () => {
    const key = backend.key(new Uint8Array(32).fill(3));
    for (let padding = 0; padding <= 15; padding++) {
      for (const length of [0, 1, 49, 64, 100]) {
        const padded = new Uint8Array(length + padding);
        padded.fill(0x77, 0, length);
        const expected = sealAt(key.seal.bind(key), 1, padded, 0, 0);
        const src = new Uint8Array(length + 9).fill(0x77);
        const dst = new Uint8Array(expected.length + 8).fill(0xee);
        key.seal(1, src, 4, 4 + length, dst, 3, padding);
        assertEquals(dst.slice(3, 3 + expected.length), expected, `${length} + ${padding}`);
        assert([0, 1, 2].every((i) => dst[i] === 0xee));
        assert(dst.subarray(3 + expected.length).every((b) => b === 0xee));
        // In place: what lies after the plaintext must not get into the ciphertext.
        const place = new Uint8Array(expected.length + 3).fill(0x77);
        key.seal(1, place, 3, 3 + length, place, 3, padding);
        assertEquals(place.slice(3), expected);
      }
    }
    for (const padding of [-1, 16]) {
      const buf = new Uint8Array(100);
      assertThrows(() => key.seal(1, buf, 0, 16, buf, 0, padding), RangeError);
    }
    key.dispose();
  });

  Deno.test(title("works in place and out of large buffers, whose views it keeps"), () => {
    const key = backend.key(new Uint8Array(32).fill(5));
    const batch = new Uint8Array(100_000);
    const other = new Uint8Array(100_000);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 60; i++) {
        const at = i * 1312 + round;
        const plaintext = new Uint8Array(1280).map((_, j) => i * 3 + j * 5 + round);
        batch.set(plaintext, at);
        key.seal(i, batch, at, at + 1280, batch, at);
        assert(key.open(i, batch, at, at + 1296, other, at));
        assert(bytesEqual(other.subarray(at, at + 1280), plaintext));
        assert(key.open(i, batch, at, at + 1296, batch, at));
        assert(bytesEqual(batch.subarray(at, at + 1280), plaintext));
      }
    }
    key.dispose();
  });

  Deno.test(title("keeps keys apart that take turns, and those after one that is gone"), () => {
    const raw = (n: number) => new Uint8Array(32).fill(n);
    const keys = Array.from({ length: 5 }, (_, n) => backend.key(raw(n)));
    const plaintext = new Uint8Array(50).fill(0x11);
    const check = (n: number, counter: number) => {
      const key = keys[n]!;
      const reference = noble.key(raw(n));
      const sealed = sealAt(key.seal.bind(key), counter, plaintext, 0, 0);
      assertEquals(sealed, sealAt(reference.seal.bind(reference), counter, plaintext, 0, 0));
      const other = keys[(n + 1) % keys.length]!;
      const dst = new Uint8Array(50);
      assert(!other.open(counter, sealed, 0, sealed.length, dst, 0));
      assert(key.open(counter, sealed, 0, sealed.length, dst, 0));
      assertEquals(dst, plaintext);
    };
    for (const [counter, n] of [0, 1, 0, 2, 2, 3, 4, 1].entries()) check(n, counter);
    keys[1]!.dispose();
    keys[1] = backend.key(raw(1));
    for (const [counter, n] of [1, 0, 1, 4].entries()) check(n, 100 + counter);
    for (const key of keys) key.dispose();
  });

  Deno.test(title("refuses what was tampered with, and leaves no plaintext behind"), () => {
    const key = backend.key(new Uint8Array(32).fill(1));
    const plaintext = new Uint8Array(100).fill(0x55);
    const sealed = sealAt(key.seal.bind(key), 7, plaintext, 0, 0);
    const dst = new Uint8Array(100);
    for (let i = 0; i < sealed.length; i++) {
      dst.fill(0);
      assert(!key.open(7, flipped(sealed, i), 0, sealed.length, dst, 0), `bit in byte ${i}`);
      assert(dst.every((b) => b === 0));
      assert(!key.open(7, sealed, 0, i, dst, 0), `first ${i} bytes`);
    }
    assert(!key.open(8, sealed, 0, sealed.length, dst, 0));
    assert(key.open(7, sealed, 0, sealed.length, dst, 0));
    key.dispose();
  });

  Deno.test(title("throws on offsets and keys that only a bug could give"), () => {
    assertThrows(() => backend.key(new Uint8Array(31)), RangeError);
    const key = backend.key(new Uint8Array(32));
    const buf = new Uint8Array(40);
    for (const [start, end, at] of [[-1, 4, 0], [5, 4, 0], [0, 41, 0], [0, 25, 0], [0, 4, 21]]) {
      assertThrows(() => key.seal(0, buf, start!, end!, buf, at!), RangeError);
    }
    assertThrows(() => key.open(0, buf, 0, 40, buf, 17), RangeError);
    assertThrows(() => key.open(0, buf, -1, 40, buf, 0), RangeError);
    key.dispose();
    key.dispose();
  });
}

Deno.test("AEAD libcrypto: a disposed key throws instead of using freed memory", () => {
  const key = backends.find((it) => it.name === "libcrypto")?.key(new Uint8Array(32));
  if (key === undefined) return;
  const buf = new Uint8Array(64);
  key.seal(0, buf, 0, 16, buf, 0);
  key.dispose();
  assertThrows(() => key.seal(1, buf, 0, 16, buf, 0), Error, "disposed");
  assertThrows(() => key.open(1, buf, 0, 32, buf, 0), Error, "disposed");
});

for (const backend of backends.filter(({ name }) => name === "libcrypto" || name === "ipsec-mb")) {
  Deno.test(`AEAD ${backend.name}: the packet path makes no garbage, padded or not`, () => {
    const key = backend.key(new Uint8Array(32).fill(9));
    const plain = new Uint8Array(65_536);
    const sealed = new Uint8Array(65_536);
    for (const padding of [0, 5]) {
      const growth = medianHeapGrowth(() => {
        for (let i = 0; i < 1000; i++) {
          const at = (i % 48) * 1312;
          const end = at + 1280 - padding;
          key.seal(i, plain, at, end, sealed, at, padding);
          key.open(i, sealed, at, at + 1296, plain, at);
        }
      }, 8000);
      assert(growth < 8000, `${growth / 1000} bytes per packet`);
    }
    key.dispose();
  });
}

function sealAt(
  seal: (c: number, s: Uint8Array, a: number, b: number, d: Uint8Array, at: number) => void,
  counter: number,
  plaintext: Uint8Array,
  srcStart: number,
  dstStart: number,
): Uint8Array {
  const src = new Uint8Array(srcStart + plaintext.length + 3);
  src.set(plaintext, srcStart);
  const end = dstStart + plaintext.length + TAG_LENGTH;
  const dst = new Uint8Array(end + 5).fill(0xee);
  seal(counter, src, srcStart, srcStart + plaintext.length, dst, dstStart);
  assert(dst.subarray(0, dstStart).every((b) => b === 0xee));
  assert(dst.subarray(end).every((b) => b === 0xee));
  return dst.slice(dstStart, end);
}

function flipped(bytes: Uint8Array, i: number): Uint8Array {
  const copy = bytes.slice();
  copy[i] = copy[i]! ^ 1 << (i & 7);
  return copy;
}

function bytes(hex: string): Uint8Array {
  return fromHex(hex)!;
}
