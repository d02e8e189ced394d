import { assertEquals, assertStringIncludes } from "@std/assert";
import { PROGRAMS } from "./compile.ts";
import { OPTIONS, withTables } from "./option_tables.ts";

const root = new URL("../", import.meta.url);

Deno.test("the README's tables are those of the programs", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", root));
  assertEquals(
    rows(readme),
    rows(withTables(readme)),
    "the README is out of date: deno run -A tools/option_tables.ts",
  );
  for (const program of Object.keys(OPTIONS)) {
    assertStringIncludes(readme, `<!-- options: ${program} -->`);
  }
  for (const program of ["firezone-portal", "firezone-gateway", "firezone-headless-client"]) {
    assertStringIncludes(readme, `<!-- commands: ${program} -->`);
  }
});

Deno.test("the README names every package from npm", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", root));
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  for (const specifier of Object.values<string>(imports)) {
    const name = /^npm:(@?[^@]+)/.exec(specifier)?.[1];
    // Those of one scope are named together.
    if (name !== undefined) assertStringIncludes(readme, name.replace(/^@noble\/.*/, "@noble/"));
  }
});

Deno.test("every option is in its program's --help, unless it is hidden", async () => {
  for (const [program, entry] of Object.entries(PROGRAMS)) {
    const { stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", entry, "--help"],
      cwd: root,
      env: { NO_COLOR: "1" },
    }).output();
    // Lines are wrapped to the width of a terminal.
    const help = new TextDecoder().decode(stdout).replaceAll(/\s+/g, " ");
    assertStringIncludes(help, `Usage: ${program} `);
    for (const { flags, env, description, hidden } of OPTIONS[program]!) {
      assertEquals(help.includes(`${flags} ${description}`), !hidden, `${program} ${flags}`);
      if (env !== undefined && !hidden) assertStringIncludes(help, `env: ${env})`);
    }
  }
});

Deno.test("every task that the README names exists, and the other way round", async () => {
  const readme = await Deno.readTextFile(new URL("README.md", root));
  const config = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const section = readme.slice(readme.indexOf("| task "), readme.indexOf("`.ci/run`"));
  const cells = section.split("\n").slice(2).map((row) => row.split("|")[1] ?? "");
  const named = cells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
  assertEquals(named.sort(), Object.keys(config.tasks).sort());
});

/** The cells of all tables, without the blanks that make columns straight. */
function rows(markdown: string): string[] {
  return markdown.split("\n").filter((line) => line.startsWith("|"))
    .map((line) => line.replaceAll(/\s+/g, " ").replaceAll(/-{3,}/g, "---"));
}
