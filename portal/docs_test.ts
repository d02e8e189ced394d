import { assert } from "@std/assert";

const root = new URL("../", import.meta.url);

Deno.test("docs/portal-protocol.md has every section that a comment names", async () => {
  const page = await Deno.readTextFile(new URL("docs/portal-protocol.md", root));
  const sections = new Set([...page.matchAll(/^(?:#+ |\*\*)(\d+(?:\.\d+)*)/gm)].map(([, n]) => n));
  let cited = 0;
  for await (const path of sources(new URL("portal/", root))) {
    const text = await Deno.readTextFile(path);
    for (const [line] of text.matchAll(/.*portal-protocol.*(?:\n \* .*§.*)?/g)) {
      for (const [, number] of line.matchAll(/§(\d+(?:\.\d+)*)/g)) {
        assert(sections.has(number!), `${path.pathname} names §${number}`);
        cited++;
      }
    }
  }
  assert(cited > 20);
});

async function* sources(folder: URL): AsyncGenerator<URL> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* sources(new URL(`${name}/`, folder));
    else if (name.endsWith(".ts")) yield new URL(name, folder);
  }
}
