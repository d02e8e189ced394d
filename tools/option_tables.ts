/**
 * The README's tables of flags and variables, made from the programs' own descriptions:
 * `deno run -A tools/option_tables.ts` writes them.
 * @module
 */

import { CLIENT_OPTIONS } from "../client/cli.ts";
import { GATEWAY_OPTIONS } from "../gateway/cli.ts";
import { PORTAL_OPTIONS } from "../portal/cli.ts";
import { RELAY_OPTIONS } from "../relay/cli.ts";

/** What a table shows of an option. */
export interface OptionDescription {
  /** `-u, --api-url <url>`. */
  readonly flags: string;
  /** Variable. */
  readonly env?: string | undefined;
  /** Default, in words. */
  readonly defaultText?: string | undefined;
  /** What it does. */
  readonly description: string;
  /** Whether `--help` leaves it out. */
  readonly hidden: boolean;
}

/** All options of each program. */
export const OPTIONS: Readonly<Record<string, readonly OptionDescription[]>> = {
  "firezone-portal": Object.values(PORTAL_OPTIONS),
  "firezone-relay": Object.values(RELAY_OPTIONS),
  "firezone-gateway": Object.values(GATEWAY_OPTIONS),
  "firezone-headless-client": Object.values(CLIENT_OPTIONS),
};

/** Variables without a flag: a secret on a command line is seen by everybody. */
const TOKENS: Readonly<Record<string, string>> = {
  "firezone-relay": "the relay's token, or the file that holds it; without one it runs standalone",
  "firezone-gateway":
    "a token of the gateway's site, or the file that holds it; else the systemd credential of " +
    "that name is taken",
  "firezone-headless-client": "a token of an account; else the file of `--token-path` is read",
};

const README = new URL("../README.md", import.meta.url);

/** The text with its tables made anew; how wide columns are is left to `deno fmt`. */
export function withTables(readme: string): string {
  return readme.replaceAll(
    /(<!-- options: (\S+) -->\n)[^]*?(<!-- end -->)/g,
    (_, begin, program, end) => `${begin}\n${table(program)}\n\n${end}`,
  );
}

function table(program: string): string {
  const options = OPTIONS[program];
  if (options === undefined) throw new Error(`There is no program ${program}`);
  const rows = options.map((o) => [
    `\`${o.flags}\``,
    o.env === undefined ? "" : `\`${o.env}\``,
    o.defaultText ?? "",
    o.description + (o.hidden ? " (hidden)" : ""),
  ]);
  const token = TOKENS[program];
  if (token !== undefined) rows.unshift(["", "`FIREZONE_TOKEN`", "", token]);
  return [["flag", "variable", "default", "meaning"], ["---", "---", "---", "---"], ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`)
    .join("\n");
}

if (import.meta.main) {
  await Deno.writeTextFile(README, withTables(await Deno.readTextFile(README)));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", README.pathname] }).output();
}
