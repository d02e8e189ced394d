/**
 * Feeds inputs without end: `deno task fuzz TARGET [--seconds N] [--seed S] [--path P]`.
 *
 * A failure is printed with the smallest input that was found for it and the command that repeats it.
 * @module
 */

import { Command, InvalidArgumentError } from "@std/cli";
import { fuzz, type FuzzReport } from "./fuzz/target.ts";
import { FUZZ_TARGETS } from "./fuzz/targets.ts";

interface Options {
  readonly seconds: number;
  readonly seed: number;
  readonly path?: string;
  readonly json: boolean;
}

if (import.meta.main) Deno.exit(main(Deno.args));

/** Runs the command line; returns the exit status. */
export function main(args: readonly string[]): number {
  const { name, options } = parse(args);
  const { seconds, seed, path } = options;
  if (!options.json) console.error(`fuzz ${name}: seed ${seed}, at most ${seconds} s`);
  const startedAt = performance.now();
  const report = fuzz(FUZZ_TARGETS.get(name)!, { seed, path, milliseconds: seconds * 1000 });
  const took = (performance.now() - startedAt) / 1000;
  if (options.json) console.log(toJson(name, seed, took, report));
  else tell(name, seed, took, report);
  return report.failure === undefined ? 0 : 1;
}

function tell(name: string, seed: number, seconds: number, report: FuzzReport): void {
  const { runs, coverage, failure } = report;
  console.log(`${name}: ${runs} inputs in ${seconds.toFixed(1)} s`);
  for (const [what, count] of coverage.entries()) console.log(`  ${what}: ${count}`);
  if (failure === undefined) return console.log("nothing broke");
  console.log(`\nthis input broke it: ${failure.input}\n`);
  console.log(failure.error instanceof Error ? failure.error.stack : failure.error);
  console.log(`\nagain: deno task fuzz ${name} --seed ${seed} --path ${failure.path}`);
}

function toJson(name: string, seed: number, seconds: number, report: FuzzReport): string {
  const { runs, coverage, failure } = report;
  const error = failure && { ...failure, error: String(failure.error) };
  const counts = Object.fromEntries(coverage.entries());
  return JSON.stringify({ target: name, seed, seconds, runs, coverage: counts, failure: error });
}

function parse(args: readonly string[]): { name: string; options: Options } {
  const names = [...FUZZ_TARGETS.keys()];
  const number = (text: string) => {
    const value = Number(text);
    if (Number.isFinite(value)) return value;
    throw new InvalidArgumentError("Expected a number.");
  };
  const parser = new Command("deno task fuzz")
    .description("Feeds a target with inputs until something breaks or time is up.")
    .argument("<target>", names.join(", "), (text: string) => {
      if (FUZZ_TARGETS.has(text)) return text;
      throw new InvalidArgumentError(`There is no ${text}; there are ${names.join(", ")}.`);
    })
    .option("--seconds <n>", "how long", number, 30)
    .option("--seed <n>", "makes the inputs the same again", (text: string) => number(text) | 0)
    .option("--path <p>", "repeats one input of that seed, as a failure names it")
    .option("--json", "print the result as JSON", false)
    .addHelpText(
      "after",
      `\n${[...FUZZ_TARGETS.values()].map((t) => `${t.name}: feeds ${t.description}`).join("\n")}`,
    );
  parser.parse([...args], { from: "user" });
  const options = parser.opts<Options>();
  const seed = options.seed ?? crypto.getRandomValues(new Int32Array(1))[0]!;
  return { name: parser.args[0]!, options: { ...options, seed } };
}
