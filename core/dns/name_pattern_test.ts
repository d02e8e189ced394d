import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { NamePattern, PatternTable } from "./name_pattern.ts";

Deno.test("NamePattern matches what its wildcards say", () => {
  const cases: [pattern: string, matching: string[], others: string[]][] = [
    ["example.com", ["example.com"], ["www.example.com", "example.org", "xexample.com", "com"]],
    ["*.example.com", ["example.com", "a.example.com"], ["a.b.example.com", "aexample.com"]],
    ["**.example.com", ["example.com", "a.example.com", "a.b.c.example.com"], ["aexample.com"]],
    ["?.example.com", ["a.example.com"], ["example.com", "ab.example.com"]],
    ["a?c.example.com", ["abc.example.com"], ["ac.example.com", "a.c.example.com"]],
    ["web*.example.com", ["web.example.com", "web17.example.com"], ["web.a.example.com"]],
    ["*.*.example.com", ["a.b.example.com", "a.example.com"], ["example.com"]],
    ["a.*.example.com", ["a.b.example.com"], ["a.example.com", "b.b.example.com"]],
    ["a.**.example.com", ["a.example.com", "a.b.c.example.com"], ["example.com", "b.example.com"]],
    ["**.a.**.com", ["a.com", "x.a.y.z.com"], ["b.com"]],
    ["*", ["localhost"], ["example.com"]],
    ["**", ["localhost", "example.com"], []],
    ["EXAMPLE.com.", ["example.com"], []],
    ["bücher.example", ["xn--bcher-kva.example"], ["bucher.example"]],
  ];
  for (const [text, matching, others] of cases) {
    const pattern = NamePattern.parse(text);
    assert(pattern, text);
    for (const name of matching) assert(pattern.matches(name), `${text} should match ${name}`);
    for (const name of others) assert(!pattern.matches(name), `${text} should not match ${name}`);
  }
});

Deno.test("NamePattern knows what its names end with", () => {
  const cases = [
    ["db.example.com", "db.example.com"],
    ["*.Example.com", "example.com"],
    ["**.a?.example.com.", "example.com"],
    ["**", ""],
    ["db-*", ""],
  ];
  for (const [text, suffix] of cases) assertEquals(NamePattern.parse(text!)!.suffix, suffix, text);
});

Deno.test("NamePattern refuses empty labels and ** beside other characters", () => {
  for (const text of ["", ".", "a..b", ".a", "a**.com", "***.com", "*ü.com"]) {
    assertEquals(NamePattern.parse(text), undefined, text);
  }
});

Deno.test("PatternTable answers the most specific pattern first", () => {
  const inOrder = [
    "www.example.com",
    "?ww.example.com",
    "*w.example.com",
    "*.example.com",
    "**.example.com",
    "**",
  ];
  for (const shuffled of [inOrder, inOrder.toReversed(), inOrder.toSorted()]) {
    const table = new PatternTable(shuffled.map((text) => [NamePattern.parse(text)!, text]));
    assertEquals(table.matching("www.example.com").map(({ value }) => value), inOrder);
  }
});

Deno.test("PatternTable keeps all that match, those of one text in the order they came", () => {
  const entries = ["example.com", "*.example.com", "example.com", "example.org"]
    .map((text, i) => [NamePattern.parse(text)!, i] as const);
  const matching = new PatternTable(entries).matching("example.com");
  assertEquals(matching.map(({ value }) => value), [0, 2, 1]);
});

const label = fc.stringMatching(/^[ab]{1,3}$/);
const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join("."));
const patternLabel = fc.oneof(fc.stringMatching(/^[ab?]{0,2}\*?[ab?]{0,2}$/), fc.constant("**"))
  .filter((text) => text !== "");
const pattern = fc.array(patternLabel, { minLength: 1, maxLength: 5 })
  .map((labels) => labels.join("."));

Deno.test("NamePattern agrees with a slow reference", () => {
  fc.assert(
    fc.property(pattern, name, (pattern, name) => {
      assertEquals(NamePattern.parse(pattern)!.matches(name), referenceMatch(pattern, name));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("PatternTable agrees with asking every pattern, and its order is one", () => {
  fc.assert(fc.property(fc.array(pattern, { maxLength: 8 }), name, (patterns, name) => {
    const table = new PatternTable(patterns.map((text) => [NamePattern.parse(text)!, text]));
    const found = table.matching(name);
    assertEquals(
      found.map(({ value }) => value).toSorted(),
      patterns.filter((text) => referenceMatch(text, name)).toSorted(),
    );
    for (let i = 1; i < found.length; i++) {
      assert(found[i - 1]!.pattern.compareTo(found[i]!.pattern) <= 0);
      assert(found[i]!.pattern.compareTo(found[i - 1]!.pattern) >= 0);
    }
  }));
});

Deno.test("NamePattern takes its time even for patterns made to waste it", () => {
  const pattern = NamePattern.parse(new Array(60).fill("**.a*a*a*a").join("."))!;
  const name = new Array(120).fill("aaaaaaaab").join(".");
  const started = performance.now();
  assertEquals(pattern.matches(name), false);
  assert(performance.now() - started < 1000);
});

Deno.test("NamePattern.parse takes any text without throwing", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), fc.string(), (text, name) => {
    NamePattern.parse(text)?.matches(name);
  }));
});

/** Straight from the definition, by trying everything. */
function referenceMatch(pattern: string, name: string): boolean {
  const labels = pattern.split(".");
  const alternatives = labels.length > 1 && labels[0] === "*"
    ? [labels, labels.slice(1)]
    : [labels];
  return alternatives.some((alternative) => every(alternative, name.split(".")));

  function every(pattern: string[], name: string[]): boolean {
    if (pattern.length === 0) return name.length === 0;
    const [first, ...rest] = pattern;
    if (first === "**") {
      return every(rest, name) || name.length > 0 && every(pattern, name.slice(1));
    }
    return name.length > 0 && one(first!, name[0]!) && every(rest, name.slice(1));
  }

  function one(pattern: string, label: string): boolean {
    if (pattern === "") return label === "";
    if (pattern[0] === "*") {
      return one(pattern.slice(1), label) || label !== "" && one(pattern, label.slice(1));
    }
    return label !== "" && (pattern[0] === "?" || pattern[0] === label[0]) &&
      one(pattern.slice(1), label.slice(1));
  }
}
