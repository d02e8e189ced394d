/**
 * What one packet costs in each part of the packet path: `deno task bench [micro]`.
 *
 * Functions alone, without system calls, on one thread. A row's time is the best of many rounds, since
 * whatever else the machine does can only add to it; its garbage is the median growth of V8's heap and
 * of the memory behind arrays.
 *
 * @module
 */

import { Command } from "@std/cli";
import { measurePath } from "./tunnel_path.ts";
import { CASES, type MicroCase } from "./micro_cases.ts";

/** What one case gave. */
export interface MicroResult {
  /** What was measured. */
  readonly name: string;
  /** Packets in a second. */
  readonly packetsPerSecond: number;
  /** Nanoseconds for a packet. */
  readonly nanoseconds: number;
  /** Bytes allocated for a packet. */
  readonly bytes: number;
}

interface Options {
  readonly filter: string;
  readonly json: boolean;
}

const ROUNDS = 15;
const ROUND_MS = 10;
const WARM_UP_MS = 100;
/** Garbage is measured in more rounds, so short that few of them meet a collection. */
const HEAP_ROUNDS = 41;

if (import.meta.main) Deno.exit(main(Deno.args));

/** Runs the benches with the arguments of the command line; returns the exit status. */
export function main(args: readonly string[]): number {
  const options = new Command("deno task bench micro")
    .description("Measures what a packet costs in each part of the packet path.")
    .option("--filter <text>", "only what has this in its name", "")
    .option("--json", "print everything as JSON", false)
    .allowExcessArguments(false)
    .parse([...args], { from: "user" }).opts<Options>();
  const wants = (name: string) => name.toLowerCase().includes(options.filter.toLowerCase());
  const results: MicroResult[] = [];
  const add = (result: MicroResult) => {
    results.push(result);
    if (!options.json) console.log(inWords(result));
  };
  if (!options.json) console.log(HEADINGS);
  for (const one of CASES) if (wants(one.name)) add(measureCase(one));
  for (const result of path(wants)) add(result);
  if (options.json) console.log(JSON.stringify(results, undefined, 2));
  if (results.length > 0) return 0;
  console.error(`bench micro: nothing has ${JSON.stringify(options.filter)} in its name`);
  return 1;
}

/** Measures a case. */
export function measureCase({ name, packets, prepare }: MicroCase): MicroResult {
  const run = prepare();
  let calls = 1;
  for (const end = performance.now() + WARM_UP_MS; performance.now() < end;) run();
  while (quickest(run, calls) < ROUND_MS) calls *= 2;
  let best = Infinity;
  for (let i = 0; i < ROUNDS; i++) best = Math.min(best, timed(run, calls));
  const fewCalls = Math.max(1, calls >> 4);
  const growths = Array.from({ length: HEAP_ROUNDS }, () => {
    const before = memory();
    timed(run, fewCalls);
    return memory() - before;
  });
  const growth = growths.sort((a, b) => a - b)[HEAP_ROUNDS >> 1]!;
  return result(name, best * 1e6 / calls / packets, Math.max(0, growth) / fewCalls / packets);
}

/** The whole way through the machines of client and gateway. */
function* path(wants: (name: string) => boolean): Iterable<MicroResult> {
  const names = { send: "whole path, TUN to socket", receive: "whole path, socket to TUN" };
  if (!wants(names.send) && !wants(names.receive)) return;
  const costs = measurePath();
  for (const side of ["send", "receive"] as const) {
    if (!wants(names[side])) continue;
    yield result(names[side], costs[side].nanoseconds, Math.max(0, costs[side].heapBytes));
  }
}

function result(name: string, nanoseconds: number, bytes: number): MicroResult {
  return { name, packetsPerSecond: 1e9 / nanoseconds, nanoseconds, bytes };
}

function timed(run: () => void, calls: number): number {
  const start = performance.now();
  for (let i = 0; i < calls; i++) run();
  return performance.now() - start;
}

/** A busy machine may take the processor away for longer than a round, but hardly three times. */
function quickest(run: () => void, calls: number): number {
  return Math.min(timed(run, calls), timed(run, calls), timed(run, calls));
}

function memory(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

const HEADINGS = `${"".padEnd(52)} ${"packets/s".padStart(12)} ${"ns".padStart(8)} ` +
  `${"bytes".padStart(8)}`;

function inWords({ name, packetsPerSecond, nanoseconds, bytes }: MicroResult): string {
  return `${name.padEnd(52)} ${packetsPerSecond.toFixed(0).padStart(12)} ` +
    `${nanoseconds.toFixed(0).padStart(8)} ${bytes.toFixed(1).padStart(8)}`;
}
