/**
 * Measures the tunnel from end to end, beside others: `deno task bench tunnel [--quick] [--json]`.
 *
 * Our four programs and every other WireGuard that is there run in the demo's network at the same
 * time. Each round takes every measure through one after the other, so that what else the machine
 * does meets all alike; the report gives medians over the rounds.
 *
 * Needs root, iperf3, ping and taskset; for the others `wg` and themselves.
 * @module
 */

import { Command, InvalidArgumentError } from "@std/cli";
import { positive, prepareBench } from "./prepare.ts";
import { chart } from "./tunnel_chart.ts";
import {
  measure,
  MEASURE_NAMES,
  type MeasureName,
  MEASURES,
  type Sample,
} from "./tunnel_measures.ts";
import { writeDocs } from "./tunnel_docs.ts";
import { FIGURES, laneName, type Run, summarise, table } from "./tunnel_report.ts";
import {
  INNER_MTU,
  type PathKind,
  type System,
  SYSTEM_NAMES,
  type SystemName,
  TunnelNetwork,
} from "./tunnel_systems.ts";

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly quick: boolean;
  readonly cores: string;
  readonly json: boolean;
  readonly svg?: string;
  readonly docs: boolean;
  readonly systems: readonly SystemName[];
  readonly paths: readonly PathKind[];
  readonly measures: readonly MeasureName[];
}

const PREFIX = "bnt";
const PATHS = ["direct", "relayed"] as const;
/** What a quick run leaves out. */
const QUICK_MEASURES: readonly MeasureName[] = ["tcp-down", "tcp-up", "udp-down", "rtt-idle"];
/** Before the first round, so that all code is compiled and all windows are open. */
const WARM_UP_SECONDS = 2;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the bench with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  const commands = ["iperf3", "ping", "taskset"];
  if (!await prepareBench("tunnel", import.meta.filename!, args, commands)) return 1;
  await using network = await TunnelNetwork.create(PREFIX, options.systems);
  for (const [name, reason] of network.missing) console.error(`left out ${name}: ${reason}`);
  const runs = await runAll(network, options);
  await report(network.systems, runs, options);
  return 0;
}

async function runAll(network: TunnelNetwork, options: Options): Promise<Run[]> {
  const client = network.topology.get("client");
  const prefix = ["taskset", "-c", options.cores];
  const context = (system: System, path: PathKind, seconds: number) => ({
    client,
    server: network.topology.get("web"),
    address: system.address,
    seconds,
    pids: system.pids(path),
    prefix,
  });
  const runs: Run[] = [];
  for (let round = 0; round <= options.rounds; round++) {
    for (const path of options.paths) {
      const systems = network.systems.filter(({ paths }) => paths.includes(path));
      for (const system of systems) {
        await system.use(path);
        pin(system.pids(path), options.cores);
        if (round === 0) await measure("tcp-down", context(system, path, WARM_UP_SECONDS));
      }
      if (round === 0) continue;
      for (const name of options.measures) {
        for (const system of systems) {
          const lane = { system: system.name, path };
          const sample = await measure(name, context(system, path, options.seconds));
          runs.push({ ...lane, measure: name, sample });
          console.error(
            `${round}/${options.rounds}  ${laneName(lane).padEnd(20)} ` +
              `${MEASURES[name].title.padEnd(30)} ${inWords(sample)}`,
          );
        }
      }
    }
  }
  return runs;
}

/** Puts all threads of the processes on the cores. */
function pin(pids: readonly number[], cores: string): void {
  for (const pid of pids) {
    const { success } = new Deno.Command("taskset", {
      args: ["-a", "-c", "-p", cores, String(pid)],
      stdout: "null",
      stderr: "null",
    }).outputSync();
    if (!success) throw new Error(`Cannot put process ${pid} on cores ${cores}`);
  }
}

async function report(
  systems: readonly System[],
  runs: readonly Run[],
  options: Options,
): Promise<void> {
  const cells = summarise(runs);
  const { rounds, seconds, cores } = options;
  const date = new Date().toISOString().slice(0, 10);
  const about = {
    date,
    processor: processor(),
    kernel: /^[\d.]+\d/.exec(Deno.osRelease())?.[0] ?? Deno.osRelease(),
    cores,
    rounds,
    seconds,
    systems: Object.fromEntries(systems.map(({ name, detail }) => [name, detail])),
  };
  const method = `Cores ${cores}, inner MTU ${INNER_MTU}, ` +
    `medians of ${rounds} alternating runs, the lines from least to most`;
  if (options.svg !== undefined) {
    Deno.writeTextFileSync(options.svg, chart(cells, { date, method }));
  }
  const setting = [
    `${about.processor}, cores ${cores}, Linux ${about.kernel}.`,
    ...systems.map(({ name, detail }) =>
      `${laneName({ system: name, path: "direct" })}: ${detail}.`
    ),
  ];
  if (options.docs) {
    const command = `deno task bench tunnel --rounds ${rounds} --seconds ${seconds} --docs`;
    await writeDocs(cells, { date, setting, command, method });
  }
  if (options.json) {
    console.log(JSON.stringify({ ...about, cells, runs }, undefined, 2));
    return;
  }
  console.log(table(cells));
  console.log(`\n${date}, ${rounds} × ${seconds} s each`);
  for (const sentence of setting) console.log(sentence);
}

/** What kind of processor it is, and how many. */
function processor(): string {
  const info = Deno.readTextFileSync("/proc/cpuinfo");
  const kind = /^(?:model name|Model)\s*:\s*(.+)$/m.exec(info)?.[1] ?? Deno.build.arch;
  return `${navigator.hardwareConcurrency} × ${kind}`;
}

function inWords(sample: Sample): string {
  return Object.entries(FIGURES).flatMap(([figure, { unit, digits }]) => {
    const value = sample[figure as keyof Sample];
    return value === undefined ? [] : `${value.toFixed(digits)} ${unit}`;
  }).join(", ");
}

function parseOptions(args: readonly string[]): Options {
  const list = <T extends string>(known: readonly T[]) => (text: string): readonly T[] => {
    const names = text.split(",") as T[];
    const unknown = names.find((name) => !known.includes(name));
    if (unknown === undefined) return names;
    throw new InvalidArgumentError(`There is no ${unknown}; there are ${known.join(", ")}.`);
  };
  const parser = new Command("deno task bench tunnel")
    .description("Measures throughput, round trips and processor time of the tunnel and of others.")
    .option("--rounds <n>", "how often everything is measured; medians are shown", positive, 5)
    .option("--seconds <n>", "how long each run lasts", positive, 5)
    .option("--quick", "one round of one second, few measures: under a minute", false)
    .option("--cores <list>", "the cores that everything runs on", "0,1")
    .option("--systems <list>", "what to measure", list(SYSTEM_NAMES), SYSTEM_NAMES)
    .option("--paths <list>", "the paths to measure", list(PATHS), PATHS)
    .option("--measures <list>", "the measures to take", list(MEASURE_NAMES), MEASURE_NAMES)
    .option("--json", "print everything as JSON", false)
    .option("--svg <file>", "also write a chart")
    .option("--docs", "put table and chart into README.md and docs/", false)
    .allowExcessArguments(false);
  const options = parser.parse([...args], { from: "user" }).opts<Options>();
  if (!options.quick) return options;
  const measures = parser.getOptionValueSource("measures") === "default"
    ? QUICK_MEASURES
    : options.measures;
  return { ...options, rounds: 1, seconds: 1, measures };
}
