/**
 * All benches: `deno task bench [micro|relay|tunnel] [arguments]`.
 *
 * `micro`, which is also what runs without a word, measures functions by `deno bench`; the others
 * measure whole programs beside their rivals, each with options of its own (`--help`).
 * @module
 */

/** Benches of whole programs, by name; loaded only when asked for. */
const PROGRAMS: Readonly<Record<string, string>> = {
  relay: "./bench/relay.ts",
  tunnel: "./bench/tunnel.ts",
  fairness: "./bench/fairness.ts",
};

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main([name = "micro", ...args]: readonly string[]): Promise<number> {
  const program = PROGRAMS[name];
  if (program !== undefined) {
    const { main } = await import(program) as { main(args: readonly string[]): Promise<number> };
    return await main(args);
  }
  // What `deno bench` understands, files and flags, goes on to it.
  const isMicro = name === "micro" || name.startsWith("-") || name.includes("/");
  if (!isMicro) {
    const names = ["micro", ...Object.keys(PROGRAMS)].join(", ");
    console.error(`bench: there is no ${name}; there are ${names}`);
    return 1;
  }
  const rest = name === "micro" ? args : [name, ...args];
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["bench", "-A", ...rest],
    stdin: "null",
  }).spawn().status;
  return code;
}
