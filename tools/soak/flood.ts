/**
 * A flood of garbage and of requests without credentials, from 65,536 addresses, while one channel
 * carries data: `deno task soak flood [--json]`.
 *
 * First the channel alone, then under the flood, which goes on for some seconds before that counts.
 * The relay runs as operators run it, with a thread per processor, in a namespace of its own.
 * @module
 */

import { Command } from "@std/cli";
import { RelayNetwork, residentBytes } from "../bench/relay_network.ts";
import { cpuSeconds } from "../bench/tunnel_measures.ts";
import { MemoryWatch, positive, prepare } from "./command.ts";
import { Figures } from "./figures.ts";
import type { FloodResult, FloodStart } from "./flood_source.ts";

/** How the flood runs. */
export interface FloodOptions {
  /** Datagrams of strangers per second. */
  readonly rate: number;
  /** Packets per second on the channel. */
  readonly channelRate: number;
  /** How long. */
  readonly seconds: number;
  /** Whether figures are printed as JSON at the end. */
  readonly json: boolean;
}

const PREFIX = "rlp-flood";
const SIZE = 1200;
/** Packets on the channel that are sent at once. */
const BURST = 10;
const MEGABYTE = 1e6;
/** How long the flood runs before anything is counted: what it needs of the relay is compiled then. */
const WARM_UP_SECONDS = 4;
/** Caches fill up at first; what grows in the second half beyond chance is a leak. */
const MOST_GROWTH_MB = 24;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the flood with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const parser = new Command("deno task soak flood")
    .description("Floods a relay while one channel carries data.")
    .option("--rate <n>", "datagrams of strangers per second", positive, 200_000)
    .option("--channel-rate <n>", "packets per second on the channel", positive, 10_000)
    .option("--seconds <n>", "how long", positive, 20)
    .option("--json", "print the figures as JSON", false)
    .allowExcessArguments(false);
  const options = parser.parse([...args], { from: "user" }).opts<FloodOptions>();
  if (!await prepare("flood", import.meta.filename!, args)) return 1;
  const figures = new Figures(options.json);
  await flood(options, figures);
  if (options.json) console.log(JSON.stringify({ options, figures: figures.all }, null, 2));
  return figures.isGood ? 0 : 1;
}

/** Runs the flood. */
export async function flood(options: FloodOptions, figures: Figures): Promise<void> {
  const { rate, channelRate, seconds } = options;
  await using network = await RelayNetwork.create(PREFIX);
  const relay = await network.startOurs();
  const { pid } = relay.process;
  await using load = network.startLoad(relay);
  const { failures } = await load.grow(1);
  for (const reason of Object.keys(failures)) throw new Error(`No channel: ${reason}`);
  const flow = {
    direction: "up",
    size: SIZE,
    burst: BURST,
    rate: channelRate,
    clients: 1,
  } as const;

  const calm = await load.run({ ...flow, seconds: 1 }, [pid]);
  figures.add("lost without a flood", loss(calm), "%", 1);
  const flooding = network.spawnLoad(
    "flood",
    floodCommand(relay.server, rate, WARM_UP_SECONDS + seconds),
  );
  using memory = new MemoryWatch(() => residentBytes(pid));
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_SECONDS * 1000));
  memory.most = 0;
  const cpuBefore = cpuSeconds([pid]);
  const up = await load.run({ ...flow, seconds: seconds / 2 }, [pid]);
  const firstHalf = memory.most;
  memory.most = 0;
  const down = await load.run({ ...flow, direction: "down", seconds: seconds / 2 }, [pid]);
  const cpu = cpuSeconds([pid]) - cpuBefore;
  await flooding.ended;
  const flooded: FloodResult = JSON.parse(flooding.lines.at(-1) ?? "{}");

  const perSecond = flooded.sent / flooded.seconds;
  figures.add("datagrams of strangers", perSecond, "per second");
  if (perSecond < 0.9 * rate) {
    console.error("This machine cannot send as many: the figures tell of the rate that it reached");
  }
  figures.add("lost under the flood, client to peer", loss(up), "%", 1);
  figures.add("lost under the flood, peer to client", loss(down), "%", 1);
  figures.add("processors that the relay used", cpu / (up.seconds + down.seconds), "");
  figures.add("most memory in the first half", firstHalf / MEGABYTE, "MB");
  const growth = Math.max(0, memory.most - firstHalf);
  figures.add("memory grew in the second half by", growth / MEGABYTE, "MB", MOST_GROWTH_MB);
  figures.add("relays that ended by themselves", relay.process.status === undefined ? 0 : 1, "", 0);
}

function floodCommand(server: string, rate: number, seconds: number): string[] {
  const start: FloodStart = { server, rate, seconds };
  const script = new URL("./flood_source.ts", import.meta.url).pathname;
  return [Deno.execPath(), "run", "-A", script, JSON.stringify(start)];
}

function loss({ sent, received }: { readonly sent: number; readonly received: number }): number {
  return Math.max(0, 1 - received / sent) * 100;
}
