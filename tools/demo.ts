/**
 * Shows a tunnel from end to end on this machine: `deno task demo [--dist] [--keep] [--json]`.
 *
 * See `demo/run.ts` for what happens. Whatever happens, nothing stays behind.
 * @module
 */

import { Command } from "@std/cli";
import { Checklist } from "./demo/checklist.ts";
import { ensurePrivileges, PrivilegeError } from "./demo/privileges.ts";
import { type DemoOptions, DemoRun } from "./demo/run.ts";

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  try {
    await ensurePrivileges(import.meta.filename!, args);
  } catch (error) {
    if (!(error instanceof PrivilegeError)) throw error;
    console.error(`demo: cannot run here: it ${error.message}`);
    return 1;
  }
  const style = options.json ? "json" : Deno.stdout.isTerminal() ? "terminal" : "plain";
  const run = new DemoRun(options, new Checklist(style));
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, () => void run.interrupt(signal));
  }
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    console.error(event.reason);
    Deno.exit(1); // What was made is taken away on unload.
  });
  return await run.run();
}

function parseOptions(args: readonly string[]): DemoOptions {
  const parser = new Command("deno task demo")
    .description("Carries real traffic from a client through a gateway, direct and relayed.")
    .option("--dist", "run the executables that deno task compile made", false)
    .option("--keep", "leave everything running until Ctrl-C, with hints to play with it", false)
    .option("--json", "print the steps as one JSON object per line", false)
    .allowExcessArguments(false);
  return parser.parse([...args], { from: "user" }).opts();
}
