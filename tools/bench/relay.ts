/**
 * Measures the relay beside coturn: `deno task bench relay [--quick] [--json]`.
 *
 * Both run in one namespace, on one processor and with one thread that relays; load has the other
 * processor. Each round takes every load through one relay after the other, so that what else the
 * machine does meets both alike; the report gives medians over the rounds.
 *
 * Packets cross the cable as with a usual network card; `--cable` knows two others, see
 * `relay_network.ts`.
 *
 * A run offers more than a relay can carry and counts what comes through; then it offers half of that
 * and counts what is lost. Processor time is that of the relay's process alone.
 *
 * Needs root, taskset and, for the usual cable, ethtool; turnserver (Debian package coturn) for the
 * comparison.
 * @module
 */

import { Command, InvalidArgumentError, Option } from "@std/cli";
import { positive, prepareBench } from "./prepare.ts";
import type { Direction } from "./relay_crowd.ts";
import {
  type Cable,
  CABLES,
  type LoadProcess,
  RelayNetwork,
  type RunningRelay,
} from "./relay_network.ts";
import {
  type Load,
  loadName,
  relayGoals,
  type RelayRun,
  relayTable,
  summariseRelay,
} from "./relay_report.ts";

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly sizes: readonly number[];
  readonly bursts: readonly number[];
  readonly directions: readonly Direction[];
  readonly clients: number;
  readonly cores: readonly number[];
  readonly systems: readonly string[];
  readonly cable: Cable;
  readonly quick: boolean;
  readonly json: boolean;
}

const PREFIX = "rlp-bench";
const WARM_UP_SECONDS = 1;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the bench with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  const commands = ["taskset", ...options.cable === "card" ? ["ethtool"] : []];
  if (!await prepareBench("relay", import.meta.filename!, args, commands)) return 1;
  const [relayCore, loadCore] = options.cores;
  await using network = await RelayNetwork.create(PREFIX, {
    cable: options.cable,
    loadCore: loadCore!,
  });
  const relays: RunningRelay[] = [];
  if (options.systems.includes("firezone")) {
    relays.push(
      await network.startOurs({ core: relayCore!, args: ["--num-worker-threads", "1"] }),
    );
  }
  if (options.systems.includes("coturn")) {
    const coturn = await network.startCoturn(relayCore);
    if (coturn === undefined) console.error("left out coturn: no turnserver (package coturn)");
    else relays.push(coturn);
  }
  await using stack = new AsyncDisposableStack();
  const loads = new Map(relays.map((relay) => {
    const load = stack.use(network.startLoad(relay, { core: loadCore! }));
    return [relay, load] as const;
  }));
  for (const [relay, load] of loads) {
    const { failures } = await load.grow(options.clients);
    for (const [reason, count] of Object.entries(failures)) {
      throw new Error(`${count} clients of ${relay.name} failed: ${reason}`);
    }
  }
  report(relays, await runAll(loads, options), options);
  return 0;
}

async function runAll(
  loads: ReadonlyMap<RunningRelay, LoadProcess>,
  options: Options,
): Promise<RelayRun[]> {
  const kinds: Load[] = options.sizes.flatMap((size) =>
    options.directions.flatMap((direction) =>
      options.bursts.map((burst) => ({ size, direction, burst }))
    )
  );
  const runs: RelayRun[] = [];
  for (let round = 1; round <= options.rounds; round++) {
    for (const kind of kinds) {
      for (const [relay, load] of loads) {
        const run = await measure(relay, load, kind, options, round === 1);
        runs.push(run);
        console.error(
          `${round}/${options.rounds}  ${relay.name.padEnd(9)} ${loadName(kind).padEnd(40)} ` +
            `${Math.round(run.rate)} packets/s, ${run.cpuUs.toFixed(2)} µs; at half ` +
            `${run.halfCpuUs.toFixed(2)} µs, ${run.halfLossPercent.toFixed(3)} % lost`,
        );
      }
    }
  }
  return runs;
}

async function measure(
  relay: RunningRelay,
  load: LoadProcess,
  kind: Load,
  options: Options,
  isFirst: boolean,
): Promise<RelayRun> {
  const { clients, seconds } = options;
  const pids = [relay.process.pid];
  const flow = { ...kind, clients, seconds, rate: 0 };
  if (isFirst) await load.run({ ...flow, seconds: WARM_UP_SECONDS }, pids);
  const full = await load.run(flow, pids);
  const rate = full.receivedMeanwhile / full.seconds;
  const half = await load.run({ ...flow, rate: rate / 2 }, pids);
  return {
    ...kind,
    system: relay.name,
    rate,
    cpuUs: full.cpuSeconds / full.received * 1e6,
    halfCpuUs: half.cpuSeconds / half.received * 1e6,
    halfLossPercent: Math.max(0, 1 - half.received / half.sent) * 100,
  };
}

function report(relays: readonly RunningRelay[], runs: readonly RelayRun[], options: Options) {
  const cells = summariseRelay(runs);
  const goals = relayGoals(cells);
  const about = {
    date: new Date().toISOString().slice(0, 10),
    kernel: Deno.osRelease(),
    rounds: options.rounds,
    seconds: options.seconds,
    clients: options.clients,
    cable: options.cable,
    systems: Object.fromEntries(relays.map(({ name, detail }) => [name, detail])),
  };
  if (options.json) return console.log(JSON.stringify({ ...about, goals, cells, runs }, null, 2));
  console.log(`${relayTable(cells)}\n`);
  for (const { goal, isMet, figure } of goals) {
    console.log(`${isMet ? "met   " : "missed"}  ${goal}: ${figure}`);
  }
  console.log(
    `\n${about.date}, Linux ${about.kernel}, ${about.clients} clients, ` +
      `medians of ${about.rounds} runs of ${about.seconds} s`,
  );
  console.log(`cable "${about.cable}": ${CABLES[about.cable]}`);
  for (const { name, detail } of relays) console.log(`${name}: ${detail}`);
}

function parseOptions(args: readonly string[]): Options {
  const numbers = (text: string) =>
    text.split(",").map((part) => {
      const value = Number(part);
      if (Number.isInteger(value) && value >= 0) return value;
      throw new InvalidArgumentError("Expected numbers with commas between.");
    });
  const words = <T extends string>(known: readonly T[]) => (text: string): readonly T[] => {
    const unknown = text.split(",").find((word) => !known.some((k) => k === word));
    if (unknown === undefined) return text.split(",") as T[];
    throw new InvalidArgumentError(`There is no ${unknown}; there are ${known.join(", ")}.`);
  };
  const ways = ["up", "down"] as const;
  const names = ["firezone", "coturn"] as const;
  const parser = new Command("deno task bench relay")
    .description("Measures rate, processor time and loss of the relay, beside coturn.")
    .option("--rounds <n>", "how often everything is measured; medians are shown", positive, 5)
    .option("--seconds <n>", "how long each run lasts", positive, 2)
    .option("--sizes <list>", "bytes of application data per packet", numbers, [120, 1200])
    .option("--bursts <list>", "packets to one peer that arrive together", numbers, [32, 1])
    .option("--directions <list>", "up, down", words(ways), ways)
    .option("--clients <n>", "clients with a channel each", positive, 8)
    .option("--cores <relay,load>", "the processors to use", numbers, [0, 1])
    .option("--systems <list>", names.join(", "), words(names), names)
    .addOption(
      new Option("--cable <kind>", "how packets cross that go together")
        .choices(Object.keys(CABLES)).default("card"),
    )
    .option("--quick", "one round of one second, bursts alone: half a minute", false)
    .option("--json", "print everything as JSON", false)
    .allowExcessArguments(false);
  const options = parser.parse([...args], { from: "user" }).opts<Options>();
  if (!options.quick) return options;
  const bursts = parser.getOptionValueSource("bursts") === "default" ? [32] : options.bursts;
  return { ...options, rounds: 1, seconds: 1, bursts };
}
