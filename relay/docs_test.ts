import { assertStringIncludes } from "@std/assert";
import { RELAY_OPTIONS } from "./cli.ts";
import { RelayMetrics } from "./metrics.ts";

const page = await Deno.readTextFile(new URL("../docs/relay.md", import.meta.url));
const rows = page.split("\n").filter((line) => line.startsWith("|"));

Deno.test("docs/relay.md names every option, variable, default and metric", () => {
  for (const { flags, env, defaultText } of Object.values(RELAY_OPTIONS)) {
    const row = rows.find((line) => line.includes(`${flags.replace(/ <.*/, "")}\``)) ?? "";
    assertStringIncludes(row, `\`${env}\``, `${flags} in ${row}`);
    assertStringIncludes(row, defaultText ?? "", `${flags} in ${row}`);
  }
  for (const { name, unit } of new RelayMetrics().all.totals()) {
    const row = rows.find((line) => line.startsWith(`| \`${name}\``));
    assertStringIncludes(row ?? "", `\`${unit}\``, name);
  }
});
