import { assertEquals } from "@std/assert";

const root = new URL("../", import.meta.url);

/** Lessons of `docs/data-plane-lessons.md` by section: as many as Firezone's history has. */
const DATA_PLANE: Readonly<Record<string, number>> = {
  "Connectivity: ICE, WireGuard, life of a connection": 56,
  "Relays and the TURN client": 17,
  "Portal channel": 41,
  "Client: resources, routing, authorisation, buffering": 41,
  "Client: names": 41,
  "Gateway: access and host": 27,
  "Gateway: names and their NAT": 19,
  "Sockets, TUN and the loop": 49,
  "Windows": 31,
  "Linux": 15,
  "Programs, logs, identity": 22,
};

Deno.test("docs/relay-lessons.md has a line for every lesson, and its paths exist", async () => {
  const page = await read("docs/relay-lessons.md");
  const upTo = (letter: string, count: number) =>
    Array.from({ length: count }, (_, i) => `${letter}${i + 1}`);
  assertEquals(lessonsOf(page, /^\| ([ACR]\d+)/gm), [
    ...upTo("A", 15),
    ...upTo("R", 84),
    ...upTo("C", 20),
  ]);
  await checkPaths(page);
});

Deno.test("docs/data-plane-lessons.md has a line for every lesson, and its paths exist", async () => {
  const page = await read("docs/data-plane-lessons.md");
  const lessons = lessonsOf(page, /^\| ([0-9a-f]{10}) /gm);
  assertEquals(lessons.length, new Set(lessons).size, "each once");
  const sections = page.split(/^## /m).slice(1).map((text) =>
    [text.split("\n", 1)[0]!, lessonsOf(text, /^\| ([0-9a-f]{10}) /gm).length] as const
  );
  assertEquals(Object.fromEntries(sections), DATA_PLANE);
  const empty = page.split("\n").filter((row) => /^\| [0-9a-f]{10} .*\| +\|$/.test(row));
  assertEquals(empty, [], "each says where, or why not");
  await checkPaths(page);
});

function read(path: string): Promise<string> {
  return Deno.readTextFile(new URL(path, root));
}

/** What the lines of the tables begin with. */
function lessonsOf(page: string, line: RegExp): string[] {
  return [...page.matchAll(line)].map(([, id]) => id!);
}

/** Everything in backquotes with a slash in it is a file. */
async function checkPaths(page: string): Promise<void> {
  for (const [, path] of page.matchAll(/`([\w.]+\/[\w./-]+|deno\.\w+)`/g)) {
    await Deno.stat(new URL(path!, root)).catch(() => {
      throw new Error(`${path} is not there`);
    });
  }
}
