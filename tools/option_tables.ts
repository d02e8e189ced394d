/**
 * The README's tables of flags and variables, made from the programs' own descriptions:
 * `deno run -A tools/option_tables.ts` writes them.
 * @module
 */

import { CLIENT_OPTIONS, clientCommand } from "../client/cli.ts";
import type { Command } from "../core/cli/mod.ts";
import { GATEWAY_OPTIONS, gatewayCommand } from "../gateway/cli.ts";
import { PORTAL_OPTIONS, portalCommand } from "../portal/cli.ts";
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

/** The programs that have commands below them. */
const COMMANDS: Readonly<Record<string, Command>> = {
  "firezone-portal": portalCommand({
    run: () => Promise.resolve(0),
    init: () => 0,
    check: () => 0,
  }),
  "firezone-gateway": gatewayCommand(() => Promise.resolve(0)),
  "firezone-headless-client": clientCommand(() => Promise.resolve(0)),
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
    /(<!-- (options|commands): (\S+) -->\n)[^]*?(<!-- end -->)/g,
    (_, begin, kind, program, end) => {
      const table = kind === "options" ? optionTable(program) : commandTable(program);
      return `${begin}\n${table}\n\n${end}`;
    },
  );
}

function commandTable(program: string): string {
  const main = COMMANDS[program];
  if (main === undefined) throw new Error(`There are no commands of ${program}`);
  const rows = main.commands.filter((command) => !command.hidden).flatMap((command) => [
    [`\`${command.name}\``, "", "", command.description],
    ...command.rows.map((row) => [`\`${command.name} ${row.flags}\``, ...cellsOf(row).slice(1)]),
  ]);
  return tableOf(["command", "variable", "default", "meaning"], rows);
}

function cellsOf(o: Omit<OptionDescription, "hidden">): string[] {
  return [
    `\`${o.flags}\``,
    o.env === undefined ? "" : `\`${o.env}\``,
    o.defaultText ?? "",
    o.description,
  ];
}

function optionTable(program: string): string {
  const options = OPTIONS[program];
  if (options === undefined) throw new Error(`There is no program ${program}`);
  const rows = options.map((o) =>
    cellsOf({ ...o, description: o.description + (o.hidden ? " (hidden)" : "") })
  );
  const token = TOKENS[program];
  if (token !== undefined) rows.unshift(["", "`FIREZONE_TOKEN`", "", token]);
  return tableOf(["flag", "variable", "default", "meaning"], rows);
}

function tableOf(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`)
    .join("\n");
}

if (import.meta.main) {
  await Deno.writeTextFile(README, withTables(await Deno.readTextFile(README)));
  await new Deno.Command(Deno.execPath(), { args: ["fmt", "--quiet", README.pathname] }).output();
}
