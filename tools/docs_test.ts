import { assert } from "@std/assert";

const root = new URL("../", import.meta.url);

Deno.test("links and paths in the documents lead somewhere", async () => {
  let followed = 0;
  for (const page of await documents()) {
    const text = await Deno.readTextFile(page);
    const links = [...text.matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, link]) => link!)
      .filter((link) => !/^[a-z]+:/.test(link))
      .map((link) => new URL(link, page));
    // Paths of this repository: from its root, or from the folder that a row or a list is about.
    const paths = [
      ...text.matchAll(
        /`((?:core|client|gateway|relay|portal|tools|tests|docs|packaging)\/[\w./*-]*)`/g,
      ),
    ]
      .map(([, path]) => path!)
      .filter((path) => !path.includes("*"))
      .map((path) => new URL(path, root));
    for (const target of [...links, ...paths]) {
      const found = await Deno.stat(target).catch(() => undefined);
      assert(found !== undefined, `${page.pathname} names ${target.pathname}, which is not there`);
      followed++;
    }
  }
  assert(followed > 100, `${followed} links and paths`);
});

Deno.test("the README leads to every document", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", root));
  for (const page of await documents()) {
    const path = page.pathname.slice(root.pathname.length);
    if (path === "README.md" || path.startsWith("docs/decisions/")) continue;
    assert(readme.includes(`(${path})`), `README.md does not link to ${path}`);
  }
});

Deno.test("decisions are numbered from 1, each number once, and say so in their title", async () => {
  const folder = new URL("docs/decisions/", root);
  const names = [];
  for await (const { name } of Deno.readDir(folder)) names.push(name);
  for (const [i, name] of names.sort().entries()) {
    const number = String(i + 1).padStart(4, "0");
    assert(name.startsWith(`${number}-`), `${name} ought to be ${number}`);
    const text = await Deno.readTextFile(new URL(name, folder));
    assert(text.startsWith(`# ${number}: `), `${name} has another title`);
  }
});

async function documents(): Promise<URL[]> {
  const pages: URL[] = [];
  for (const folder of ["./", "docs/", "docs/decisions/"]) {
    const at = new URL(folder, root);
    for await (const { name } of Deno.readDir(at)) {
      if (name.endsWith(".md")) pages.push(new URL(name, at));
    }
  }
  return pages;
}
