/**
 * All benches: `deno task bench [micro|tunnel|relay|fairness|garbage|FILES] [arguments]`.
 *
 * `micro`, which is also what runs without a word, measures what a packet costs in each part of the
 * packet path; the others measure whole programs, beside their rivals where there are some. Each has
 * options of its own (`--help`). Files (`x_bench.ts`) go to `deno bench`, which compares functions.
 * @module
 */

const USAGE = `Usage: deno task bench [bench | files] [options]

  micro     what a packet costs in each part of the packet path (default)
  tunnel    the tunnel beside wireguard-go: rates, round trips, processor time
  relay     the relay beside coturn
  fairness  a gateway with many active clients
  garbage   what the running programs allocate for a packet

Each has options: deno task bench tunnel --help. Files x_bench.ts go to deno bench.`;

/** Benches by name; loaded only when asked for. */
const PROGRAMS: Readonly<Record<string, string>> = {
  micro: "./bench/micro.ts",
  relay: "./bench/relay.ts",
  tunnel: "./bench/tunnel.ts",
  fairness: "./bench/fairness.ts",
  garbage: "./bench/garbage.ts",
};

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main(args: readonly string[]): Promise<number> {
  const [first = "micro"] = args;
  if (first === "--help" || first === "-h") {
    console.log(USAGE);
    return 0;
  }
  if (isForDenoBench(first)) return await denoBench(args);
  const isOption = first.startsWith("-");
  const program = PROGRAMS[isOption ? "micro" : first];
  if (program === undefined) {
    const names = Object.keys(PROGRAMS).join(", ");
    console.error(`bench: there is no ${first}; there are ${names}, and files x_bench.ts`);
    return 1;
  }
  const { main } = await import(program) as {
    main(args: readonly string[]): number | Promise<number>;
  };
  return await main(isOption ? args : args.slice(1));
}

function isForDenoBench(first: string): boolean {
  return first.includes("/") || first.endsWith(".ts");
}

async function denoBench(args: readonly string[]): Promise<number> {
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["bench", "-A", ...args],
    stdin: "null",
  }).spawn().status;
  return code;
}
