/**
 * Commands, their options and the variables that stand in for options.
 *
 * A program describes itself once, as a table; from it come the parsed values with their types, the
 * help text, the one-line complaints about mistakes, and the table in the README.
 *
 * Precedence: command line, then environment, then default. An empty variable counts as not set.
 * Owns: the words of usage errors. Does not own: what values look like, see `values.ts`.
 * @module
 */

import { Command as Parser, CommanderError, Option } from "@std/cli";
import { readEnv } from "./env.ts";
import { ConfigError, EXIT_OK } from "./errors.ts";
import { boolean, parseValue, type ValueKind } from "./values.ts";

/** One option of a command; made by {@link option} and {@link flag}. */
export interface OptionSpec<T> {
  /** As in the help: `-u, --api-url <url>`; a flag has no `<…>`. */
  readonly flags: string;
  /** Completes the help line. */
  readonly description: string;
  /** The variable that is used when the option is not given. */
  readonly env?: string | undefined;
  /** Whether the help leaves it out. */
  readonly hidden: boolean;
  /** Heading of the help under which it stands; `Options` unless given. */
  readonly group?: string | undefined;
  /** The value when neither option nor variable is there. */
  readonly default: T;
  /** The default in the help's words. */
  readonly defaultText?: string | undefined;
  /** Kind of value; a flag holds `boolean`. */
  readonly kind: ValueKind<NonNullable<T>>;
  /** Whether giving the option is enough to mean `true`. */
  readonly isFlag: boolean;
}

/** What {@link option} is given. */
export interface OptionSettings<T> {
  /** As in the help: `-u, --api-url <url>`. */
  readonly flags: string;
  /** Completes the help line. */
  readonly description: string;
  /** How the value is read. */
  readonly kind: ValueKind<T>;
  /** The variable that is used when the option is not given. */
  readonly env?: string;
  /** Leaves it out of the help. */
  readonly hidden?: boolean;
  /** Heading of the help under which it stands. */
  readonly group?: string;
  /** The default in the help's words, where printing the value would not do. */
  readonly defaultText?: string;
}

/** What {@link flag} is given. */
export interface FlagSettings {
  /** As in the help: `--check`. */
  readonly flags: string;
  /** Completes the help line. */
  readonly description: string;
  /** The variable that is used when the flag is not given: `true` or `false`. */
  readonly env?: string;
  /** Leaves it out of the help. */
  readonly hidden?: boolean;
  /** Heading of the help under which it stands. */
  readonly group?: string;
}

/** An option with a value, which has a default. */
export function option<T>(settings: OptionSettings<T> & { readonly default: T }): OptionSpec<T>;
/** An option with a value, `undefined` when neither it nor its variable is given. */
export function option<T>(settings: OptionSettings<T>): OptionSpec<T | undefined>;
export function option<T>(
  settings: OptionSettings<T> & { readonly default?: T },
): OptionSpec<T | undefined> {
  return {
    flags: settings.flags,
    description: settings.description,
    env: settings.env,
    hidden: settings.hidden ?? false,
    group: settings.group,
    default: settings.default,
    defaultText: settings.defaultText ??
      (settings.default === undefined ? undefined : String(settings.default)),
    kind: settings.kind as ValueKind<NonNullable<T>>,
    isFlag: false,
  };
}

/** An option without a value: false until it is given. */
export function flag(settings: FlagSettings): OptionSpec<boolean> {
  return {
    flags: settings.flags,
    description: settings.description,
    env: settings.env,
    hidden: settings.hidden ?? false,
    group: settings.group,
    default: false,
    kind: boolean,
    isFlag: true,
  };
}

/** Options of a command by the name under which its code knows them. */
export type Options = Readonly<Record<string, OptionSpec<unknown>>>;

/** The values of a command's options. */
export type Values<O extends Options> = {
  readonly [Name in keyof O]: O[Name] extends OptionSpec<infer T> ? T : never;
};

/** An argument that is known by its place. */
export interface PositionalSpec {
  /** As in the help. */
  readonly name: string;
  /** Completes the help line. */
  readonly description: string;
  /** Whether the command cannot do without. */
  readonly required?: boolean;
}

/** A command as its program describes it. */
export interface CommandSpec<O extends Options> {
  /** `firezone-gateway`, or the word of a sub-command. */
  readonly name: string;
  /** First lines of the help. */
  readonly description: string;
  /** What `--version` prints; without it there is no such flag. */
  readonly version?: string;
  /** Whether the parent's help leaves it out. */
  readonly hidden?: boolean;
  /** Its options. */
  readonly options: O;
  /** Its arguments. */
  readonly positionals?: readonly PositionalSpec[];
  /** Commands that may be named in the first argument. */
  readonly commands?: readonly Command[];
  /** Text after the help. */
  readonly epilogue?: string;
  /** Does the work and answers with the exit status. */
  run(values: Values<O>, positionals: readonly string[]): number | Promise<number>;
}

/** A line of a table of options. */
export interface OptionRow {
  /** `-u, --api-url <url>`. */
  readonly flags: string;
  /** Variable, if any. */
  readonly env: string | undefined;
  /** Default in words, if any. */
  readonly defaultText: string | undefined;
  /** What it does. */
  readonly description: string;
}

/** A command that can be run. */
export interface Command {
  /** Its name. */
  readonly name: string;
  /** What it is for. */
  readonly description: string;
  /** Whether its parent's help leaves it out. */
  readonly hidden: boolean;
  /** Its options that are not hidden, in order. */
  readonly rows: readonly OptionRow[];
  /** Commands below it. */
  readonly commands: readonly Command[];
  /** The help text, as `--help` prints it. */
  help(): string;
  /**
   * Parses and runs; answers with the exit status. Help and version go to stdout.
   *
   * @throws {@link ConfigError} for arguments or variables that make no sense
   */
  execute(args: readonly string[]): Promise<number>;
}

/** Makes a command of its description. */
export function command<O extends Options>(spec: CommandSpec<O>): Command {
  return {
    name: spec.name,
    description: spec.description,
    hidden: spec.hidden ?? false,
    commands: spec.commands ?? [],
    rows: Object.values(spec.options).filter((o) => !o.hidden).map((o) => ({
      flags: o.flags,
      env: o.env,
      defaultText: o.defaultText,
      description: o.description,
    })),
    help: () => makeParser(spec, () => {}).helpInformation(),
    execute: (args) => execute(spec, args),
  };
}

async function execute<O extends Options>(
  spec: CommandSpec<O>,
  args: readonly string[],
): Promise<number> {
  // A word that names a sub-command is looked for before the options are read, because the command
  // below has options of its own.
  const below = spec.commands?.find((c) => c.name === args[0]);
  if (below !== undefined) return await below.execute(args.slice(1));
  let shown = "";
  const parser = makeParser(spec, (text) => shown += text);
  try {
    parser.parse([...args], { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw new ConfigError(usageText(error, spec, parser.args));
    console.log(shown.trimEnd());
    return EXIT_OK;
  }
  return await spec.run(readValues(spec.options, parser), parser.args);
}

function makeParser<O extends Options>(spec: CommandSpec<O>, writeOut: (text: string) => void) {
  const parser = new Parser(spec.name)
    .description(spec.description)
    .exitOverride()
    .configureOutput({ writeOut, writeErr: () => {}, getOutHelpWidth: () => 100 })
    .allowExcessArguments(false)
    .showSuggestionAfterError(true);
  if (spec.version !== undefined) parser.version(`${spec.name} ${spec.version}`, "-V, --version");
  for (const o of Object.values(spec.options)) parser.addOption(makeOption(o));
  for (const p of spec.positionals ?? []) {
    parser.argument(p.required ? `<${p.name}>` : `[${p.name}]`, p.description);
  }
  const below = (spec.commands ?? []).filter((c) => !c.hidden);
  if (below.length > 0) {
    const width = Math.max(...below.map((c) => c.name.length));
    const lines = below.map((c) => `  ${c.name.padEnd(width)}  ${c.description}`);
    parser.usage("[command] [options]").addHelpText("after", `\nCommands:\n${lines.join("\n")}`);
  }
  if (spec.epilogue !== undefined) parser.addHelpText("after", `\n${spec.epilogue}`);
  return parser;
}

function makeOption(spec: OptionSpec<unknown>): Option {
  const notes = [
    spec.kind.choices && !spec.isFlag ? `choices: ${spec.kind.choices.join(", ")}` : "",
    spec.defaultText === undefined ? "" : `default: ${spec.defaultText}`,
    spec.env === undefined ? "" : `env: ${spec.env}`,
  ].filter((note) => note !== "");
  const description = notes.length === 0
    ? spec.description
    : `${spec.description} (${notes.join("; ")})`;
  const made = new Option(spec.flags, description).hideHelp(spec.hidden);
  if (spec.kind.isList) {
    made.argParser((text: string, before?: string) =>
      before === undefined ? text : `${before},${text}`
    );
  }
  return spec.group === undefined ? made : made.helpGroup(`${spec.group}:`);
}

function readValues<O extends Options>(options: O, parser: Parser): Values<O> {
  const given: Record<string, unknown> = parser.opts();
  const values: Record<string, unknown> = {};
  for (const [name, spec] of Object.entries(options)) {
    const named = new Option(spec.flags);
    values[name] = readOne(spec, givenValue(given, named), `--${named.name()}`);
  }
  return values as Values<O>;
}

/** What the command line says about an option; `--no-x` shows as `x: false` and means "given". */
function givenValue(given: Record<string, unknown>, option: Option): unknown {
  const value = given[option.attributeName()];
  return option.negate ? value === false ? true : undefined : value;
}

function readOne(spec: OptionSpec<unknown>, given: unknown, name: string): unknown {
  if (given === true) return true;
  if (typeof given === "string") return parseValue(name, given, spec.kind);
  const variable = spec.env === undefined ? undefined : readEnv(spec.env);
  return variable === undefined ? spec.default : parseValue(spec.env!, variable, spec.kind);
}

function usageText<O extends Options>(
  { code, message }: CommanderError,
  { commands, positionals }: CommandSpec<O>,
  args: readonly string[],
): string {
  const isCommand = code === "commander.excessArguments" && !positionals?.length &&
    commands?.length;
  const text = isCommand
    ? `unknown command '${args[0]}'`
    : message.replace(/^error: /, "").replace(/\.?\s*\n\s*/g, " ").replace(/\.$/, "");
  return `Cannot understand the command line: ${text}; --help shows what there is`;
}
