import { assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);

Deno.test("docs/relay-lessons.md has a line for every lesson, and its paths exist", async () => {
  const lessons = await Deno.readTextFile(new URL("docs/relay-lessons.md", root));
  const ids = [...lessons.matchAll(/^\| ([ACR]\d+)/gm)].map(([, id]) => id!);
  const upTo = (letter: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${letter}${i + 1}`);
  assertEquals(ids, [...upTo("A", 15), ...upTo("R", 84), ...upTo("C", 20)]);
  for (const [, path] of lessons.matchAll(/`([\w.]+\/[\w./-]+|deno\.\w+)`/g)) {
    await Deno.stat(new URL(path!, root)).catch(() => {
      throw new Error(`${path} is not there`);
    });
  }
});
