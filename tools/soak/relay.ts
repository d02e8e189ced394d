/**
 * Ten thousand allocations on one relay: `deno task soak relay [--expire] [--json]`.
 *
 *     10 clients ── data ──► 10,000 clients ── data ── refresh ── data ──► half deleted, made again
 *        └── of the 10 ─────────┴── of the 10, of all                              └─► all expire
 *
 * Each client is a user of its own with one channel. A relay runs as operators run it, with a thread
 * per processor, in a namespace of its own.
 * @module
 */

import { Command } from "@std/cli";
import type { Direction } from "../bench/relay_crowd.ts";
import { type LoadProcess, RelayNetwork, residentBytes } from "../bench/relay_network.ts";
import type { FlowReply, RequestsReply } from "../bench/relay_load.ts";
import { median } from "../bench/tunnel_measures.ts";
import type { Process } from "../netns.ts";
import { MemoryWatch, positive, prepare } from "./command.ts";
import { Figures } from "./figures.ts";

/** How the soak runs. */
export interface RelaySoakOptions {
  /** Allocations. */
  readonly allocations: number;
  /** Packets per second while data flows. */
  readonly rate: number;
  /** How long data flows each time. */
  readonly seconds: number;
  /** How often, of which the median counts. */
  readonly repeats: number;
  /** Whether to wait until all have expired: ten minutes more. */
  readonly expire: boolean;
  /** Whether figures are printed as JSON at the end. */
  readonly json: boolean;
}

const PREFIX = "rlp-soak";
/** Clients on one address; a hundred allocations in a row from each network are no flood. */
const PER_ADDRESS = 200;
const PEERS = 64;
const FEW = 10;
const SIZE = 1200;
const BURST = 8;
const MEGABYTE = 1e6;
/** Allocations last at least so long. */
const LIFETIME_MS = 600_000;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the soak with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const parser = new Command("deno task soak relay")
    .description("Makes, uses, refreshes and ends ten thousand allocations with channels.")
    .option("--allocations <n>", "how many", positive, 10_000)
    .option("--rate <n>", "packets per second while data flows", positive, 20_000)
    .option("--seconds <n>", "how long data flows each time", positive, 3)
    .option("--repeats <n>", "how often; medians are shown", positive, 3)
    .option("--expire", "also wait until all have expired: ten minutes more", false)
    .option("--json", "print the figures as JSON", false)
    .allowExcessArguments(false);
  const options = parser.parse([...args], { from: "user" }).opts<RelaySoakOptions>();
  if (!await prepare("relay", import.meta.filename!, args)) return 1;
  const figures = new Figures(options.json);
  await soakRelay(options, figures);
  if (options.json) console.log(JSON.stringify({ options, figures: figures.all }, null, 2));
  return figures.isGood ? 0 : 1;
}

/** Runs the soak. */
export async function soakRelay(options: RelaySoakOptions, figures: Figures): Promise<void> {
  const { allocations, expire } = options;
  await using network = await RelayNetwork.create(PREFIX);
  const relay = await network.startOurs();
  const { pid } = relay.process;
  using memory = new MemoryWatch(() => residentBytes(pid));
  await using load = network.startLoad(relay, {
    clients: addresses(Math.ceil(allocations / PER_ADDRESS)),
    perAddress: PER_ADDRESS,
    peers: PEERS,
  });
  const traffic = new Traffic(load, relay.process, options, figures);
  const megabytes = () => memory.now() / MEGABYTE;
  figures.add("memory of an idle relay", megabytes(), "MB");

  traffic.requests(`${FEW} allocations made`, await load.grow(FEW));
  const few = await traffic.both(`${FEW} allocations`, FEW);
  traffic.requests(`${allocations} allocations made`, await load.grow(allocations));
  figures.add(`memory with ${allocations} allocations`, megabytes(), "MB");
  const same = await traffic.both(`${allocations} allocations, ${FEW} of them talk`, FEW);
  const all = await traffic.both(`${allocations} allocations, all of them talk`, allocations);
  traffic.requests("allocations and channels refreshed", await load.refresh());
  await traffic.both("after the refresh, all of them talk", allocations);
  const half = Math.floor(allocations / 2);
  traffic.requests("half deleted", await load.end(half));
  traffic.requests("half made again", await load.again(half));
  traffic.requests(`all but ${FEW} deleted`, await load.end(FEW));
  const fewAgain = await traffic.both(`${FEW} allocations are left`, FEW);
  const base = median([few, fewAgain]);
  figures.add(
    `CPU with ${allocations} allocations ÷ with ${FEW}, same talkers`,
    same / base,
    "",
    1.2,
  );
  figures.add(`CPU with ${allocations} that talk ÷ with ${FEW} that talk`, all / base, "", 1.2);

  traffic.requests(`${allocations} allocations made again`, await load.again(FEW));
  if (expire) {
    await new Promise((resolve) => setTimeout(resolve, LIFETIME_MS + 5_000));
    const { failures } = await load.refresh();
    const gone = failures["error 437 while refreshing"] ?? 0;
    figures.add("allocations that outlived their lifetime", allocations - gone, "", 0);
    figures.add("memory after all have expired", megabytes(), "MB");
  }
  figures.add("most memory", memory.most / MEGABYTE, "MB", 400);
  const isAlive = relay.process.status === undefined;
  figures.add("relays that ended by themselves", isAlive ? 0 : 1, "", 0);
}

/** What load does to the relay, as figures. */
class Traffic {
  readonly #load: LoadProcess;
  readonly #relay: Process;
  readonly #options: RelaySoakOptions;
  readonly #figures: Figures;

  constructor(load: LoadProcess, relay: Process, options: RelaySoakOptions, figures: Figures) {
    this.#load = load;
    this.#relay = relay;
    this.#options = options;
    this.#figures = figures;
  }

  requests(name: string, { seconds, failures }: RequestsReply): void {
    this.#figures.add(name, seconds, "s");
    const count = Object.values(failures).reduce((a, b) => a + b, 0);
    if (count > 0) console.error(failures);
    this.#figures.add(`${name}: failures`, count, "", 0);
  }

  /** Lets data flow both ways; answers with CPU microseconds per packet. */
  async both(name: string, clients: number): Promise<number> {
    const { rate, seconds, repeats } = this.#options;
    const costs: number[] = [];
    let [sent, received] = [0, 0];
    const flow = { size: SIZE, burst: BURST, rate, clients };
    for (let i = 0; i < repeats; i++) {
      for (const direction of ["up", "down"] as Direction[]) {
        // Once without counting, until caches and compiled code are what they will be.
        if (i === 0) await this.#run({ ...flow, direction, seconds: seconds / 6 });
        const result = await this.#run({ ...flow, direction, seconds });
        costs.push(result.cpuSeconds / result.received * 1e6);
        sent += result.sent;
        received += result.received;
      }
    }
    this.#figures.add(`${name}: CPU per packet`, median(costs), "µs");
    this.#figures.add(`${name}: lost`, (1 - received / sent) * 100, "%", 0.1);
    return median(costs);
  }

  #run(flow: Parameters<LoadProcess["run"]>[0]): Promise<FlowReply> {
    return this.#load.run(flow, [this.#relay.pid]);
  }
}

function addresses(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `10.78.${i}.1`);
}
