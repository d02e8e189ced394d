/**
 * Runs `deno doc --lint` over every module that a workspace member exports.
 * @module
 */

interface MemberConfig {
  readonly exports?: string | Readonly<Record<string, string>>;
}

const root = new URL("../", import.meta.url);
const { workspace } = await readJson<{ workspace: string[] }>(new URL("deno.json", root));

const modules: string[] = [];
for (const member of workspace) {
  const folder = new URL(`${member}/`, root);
  const { exports } = await readJson<MemberConfig>(new URL("deno.json", folder));
  const files = typeof exports === "string" ? [exports] : Object.values(exports ?? {});
  for (const file of files) modules.push(new URL(file, folder).pathname);
}

// `deno doc` also prints what it documents when there is nothing to complain about.
const { code } = await new Deno.Command(Deno.execPath(), {
  args: ["doc", "--lint", ...modules],
  cwd: root,
  stdout: "null",
  stderr: "inherit",
}).output();
Deno.exit(code);

async function readJson<T>(file: URL): Promise<T> {
  return JSON.parse(await Deno.readTextFile(file));
}
