/**
 * Puts programs under load for a while: `deno task soak relay|flood [arguments]`.
 * @module
 */

const SOAKS: Readonly<Record<string, string>> = {
  relay: "./soak/relay.ts",
  flood: "./soak/flood.ts",
};

if (import.meta.main) Deno.exit(await main(Deno.args));

async function main([name = "", ...args]: readonly string[]): Promise<number> {
  const file = SOAKS[name];
  if (file === undefined) {
    console.error(`soak: say which: ${Object.keys(SOAKS).join(", ")}; each has --help`);
    return 1;
  }
  const { main } = await import(file) as { main(args: readonly string[]): Promise<number> };
  return await main(args);
}
