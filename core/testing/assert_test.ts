import {
  assert,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "@std/assert";

const passing: [string, () => void][] = [
  ["assert", () => assert(1)],
  ["assertFalse", () => assertFalse("")],
  [
    "assertEquals",
    () => assertEquals({ a: [1, new Uint8Array(2)] }, { a: [1, new Uint8Array(2)] }),
  ],
  ["assertNotEquals", () => assertNotEquals([1], [2])],
  ["assertStrictEquals", () => assertStrictEquals(NaN, NaN)],
  ["assertExists", () => assertExists(0)],
  ["assertInstanceOf", () => assertInstanceOf(new RangeError(), Error)],
  ["assertStringIncludes", () => assertStringIncludes("abc", "b")],
  ["assertMatch", () => assertMatch("abc", /b/)],
  ["assertGreaterOrEqual", () => assertGreaterOrEqual(2, 2)],
  ["assertLessOrEqual", () => assertLessOrEqual(2, 2)],
];

const failing: [string, () => void][] = [
  ["assert", () => assert(0)],
  ["assertFalse", () => assertFalse("x")],
  ["assertEquals", () => assertEquals<unknown>({ a: 1 }, { a: "1" })],
  ["assertEquals", () => assertEquals(new Uint8Array(2), new Uint8Array(3))],
  ["assertNotEquals", () => assertNotEquals([1], [1])],
  ["assertStrictEquals", () => assertStrictEquals({}, {})],
  ["assertExists", () => assertExists(undefined)],
  ["assertInstanceOf", () => assertInstanceOf(new Error(), RangeError)],
  ["assertStringIncludes", () => assertStringIncludes("abc", "d")],
  ["assertMatch", () => assertMatch("abc", /d/)],
  ["assertGreaterOrEqual", () => assertGreaterOrEqual(1, 2)],
  ["assertLessOrEqual", () => assertLessOrEqual(2, 1)],
  ["fail", () => fail()],
];

Deno.test("assertions that hold are silent, and those that do not throw an AssertionError", () => {
  for (const [, holds] of passing) holds();
  for (const [name, doesNot] of failing) {
    let thrown: unknown;
    try {
      doesNot();
    } catch (error) {
      thrown = error;
    }
    if (!(thrown instanceof AssertionError)) throw new Error(`${name} did not fail`);
  }
});

Deno.test("assertThrows returns what was thrown, and minds class and message", () => {
  const boom = () => {
    throw new RangeError("out of bounds");
  };
  assertEquals(assertThrows(boom, RangeError, "bounds").message, "out of bounds");
  assertThrows(() => assertThrows(() => {}), AssertionError, "Expected the function to throw");
  assertThrows(() => assertThrows(boom, TypeError), AssertionError, "Expected a TypeError");
  assertThrows(() => assertThrows(boom, RangeError, "elsewhere"), AssertionError, "to include");
});

Deno.test("assertRejects does the same for promises", async () => {
  const boom = () => Promise.reject(new RangeError("out of bounds"));
  assertEquals((await assertRejects(boom, RangeError, "bounds")).message, "out of bounds");
  await assertRejects(() => assertRejects(() => Promise.resolve()), AssertionError);
  await assertRejects(() => assertRejects(boom, TypeError), AssertionError);
});
