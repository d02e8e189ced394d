/**
 * Measures whether a gateway treats many active clients alike: `deno task bench fairness`.
 *
 *     clients, in one process ── nat-a ── internet ── nat-b ── gateway, TUN and all ── server
 *
 * The demo's network with the real portal, relay and gateway. Every client offers (up), then is
 * offered (down), the same share of the rate, in datagrams that fill a packet of 1280 bytes. What
 * arrives is counted per client, and the longest time that a client had nothing.
 *
 * @module
 */

import { Command } from "@std/cli";
import { API_URL, Deployment } from "../demo/deployment.ts";
import { ADDRESS } from "../demo/topology.ts";
import type { Share } from "./arrivals.ts";
import type { LoadOrders } from "./fairness_load.ts";
import { type EndReport, PAYLOAD } from "./fairness_server.ts";
import { positive, prepareBench } from "./prepare.ts";
import { cpuSeconds, median, quantile } from "./tunnel_measures.ts";

interface Options {
  readonly clients: number;
  readonly mbits: number;
  readonly seconds: number;
  readonly rounds: number;
  readonly json: boolean;
}

/** One direction of one round. */
export interface FairnessResult {
  /** Payload that arrived for all clients together, in Gbit/s. */
  readonly gbps: number;
  /** Datagrams sent that did not arrive, in percent. */
  readonly lossPercent: number;
  /** What the client with most got beyond the one with least, in percent of the latter. */
  readonly spreadPercent: number;
  /** Clients that got nothing. */
  readonly empty: number;
  /** The longest time that any client had nothing, in milliseconds. */
  readonly gapMs: number;
  /** The same without the time in which no client had anything. */
  readonly starvedMs: number;
  /** The 99th percentile of the clients' longest times, likewise. */
  readonly starvedP99Ms: number;
}

const PORT = 5300;
const SERVER = ADDRESS.web[0];
const READY_MS = 90_000;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the bench with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (!await prepareBench("fairness", import.meta.filename!, args, [])) return 1;
  const runs = { up: [] as FairnessResult[], down: [] as FairnessResult[], cpu: [] as number[] };
  for (let round = 1; round <= options.rounds; round++) {
    const { up, down, cpuSecondsPerGb } = await runOnce(options);
    runs.up.push(up);
    runs.down.push(down);
    runs.cpu.push(cpuSecondsPerGb);
    if (!options.json) {
      for (const [name, result] of [["up", up], ["down", down]] as const) {
        console.error(`${round}/${options.rounds} ${name.padEnd(4)} ${inWords(result)}`);
      }
    }
  }
  const summary = {
    clients: options.clients,
    offeredGbps: options.mbits / 1000,
    up: medians(runs.up),
    down: medians(runs.down),
    gatewayCpuSecondsPerGb: median(runs.cpu),
  };
  if (options.json) console.log(JSON.stringify({ ...summary, runs }, undefined, 2));
  else console.log(table(summary.up, summary.down, options));
  return 0;
}

async function runOnce(options: Options) {
  const { clients, mbits, seconds } = options;
  await using deployment = await Deployment.create({ prefix: "bnf" });
  const { topology } = deployment;
  const tokens = Array.from(
    { length: clients },
    () => `client-${crypto.getRandomValues(new Uint8Array(16)).toHex()}`,
  );
  await deployment.writeConfig({
    ...deployment.config(),
    accounts: [{ name: "laptop", tokens }],
    resources: [{ name: "web", type: "ip", address: SERVER, sites: ["office"] }],
    policies: [{ accounts: ["laptop"], resources: ["web"] }],
  });
  for (const name of ["portal", "relay", "gateway"] as const) await deployment.startReady(name);
  const run = (file: string) => [
    ...[Deno.execPath(), "run", "-A"],
    new URL(file, import.meta.url).pathname,
  ];
  const server = topology.get("web").spawn("server", [
    ...run("./fairness_server.ts"),
    String(clients),
    String(PORT),
  ]);
  await server.waitForLine(/listening/, READY_MS);
  const orders: LoadOrders = {
    apiUrl: API_URL,
    tokens,
    server: SERVER,
    port: PORT,
    perSecond: Math.round(mbits * 1e6 / 8 / PAYLOAD / clients),
    seconds,
  };
  const load = topology.get("client").spawn("load", run("./fairness_load.ts"), {
    env: { ORDERS: JSON.stringify(orders) },
  });
  await load.waitForLine(/connected/, READY_MS);
  const gateway = deployment.process("gateway").pid;
  const before = cpuSeconds([gateway]);
  const { code } = await load.ended;
  if (code !== 0) throw new Error(`load failed: ${load.lines.slice(-5).join("\n")}`);
  const cpu = cpuSeconds([gateway]) - before;
  const [atServerUp, atServerDown] = reportsIn(server.lines);
  const [atLoad] = reportsIn(load.lines);
  if (!atServerUp || !atServerDown || !atLoad) throw new Error("a report of the load is missing");
  const bytes = sum([...atServerUp.shares, ...atLoad.shares]) * PAYLOAD;
  return {
    up: judge(atServerUp.shares, atLoad.sent, seconds),
    down: judge(atLoad.shares, atServerDown.sent, seconds),
    cpuSecondsPerGb: cpu / (bytes / 1e9),
  };
}

/** The reports among the lines of a program. */
function reportsIn(lines: readonly string[]): EndReport[] {
  return lines.filter((line) => line.startsWith('{"sent"')).map((line) => JSON.parse(line));
}

/** What the shares say about a direction. */
export function judge(
  shares: readonly Share[],
  sent: number,
  seconds: number,
): FairnessResult {
  const packets = shares.map((share) => share.packets);
  const least = Math.min(...packets);
  const total = sum(shares);
  const starved = shares.map(({ starvedMs }) => starvedMs);
  return {
    gbps: total * PAYLOAD * 8 / seconds / 1e9,
    lossPercent: Math.max(0, 100 * (1 - total / sent)),
    spreadPercent: least === 0 ? Infinity : 100 * (Math.max(...packets) / least - 1),
    empty: packets.filter((count) => count === 0).length,
    gapMs: Math.max(...shares.map(({ gapMs }) => gapMs)),
    starvedMs: Math.max(...starved),
    starvedP99Ms: quantile(starved, 0.99),
  };
}

function sum(shares: readonly Share[]): number {
  return shares.reduce((total, { packets }) => total + packets, 0);
}

function medians(results: readonly FairnessResult[]): FairnessResult {
  const of = (figure: keyof FairnessResult) => median(results.map((result) => result[figure]));
  return {
    gbps: of("gbps"),
    lossPercent: of("lossPercent"),
    spreadPercent: of("spreadPercent"),
    empty: of("empty"),
    gapMs: of("gapMs"),
    starvedMs: of("starvedMs"),
    starvedP99Ms: of("starvedP99Ms"),
  };
}

function inWords(result: FairnessResult): string {
  return `${result.gbps.toFixed(2)} Gbit/s, ${result.lossPercent.toFixed(1)} % lost, ` +
    `most ÷ least ${(1 + result.spreadPercent / 100).toFixed(3)}, ` +
    `longest without: ${result.gapMs.toFixed(0)} ms, while others had: ` +
    `${result.starvedMs.toFixed(0)} ms`;
}

function table(up: FairnessResult, down: FairnessResult, { clients, mbits }: Options): string {
  const row = (title: string, value: (result: FairnessResult) => string) =>
    `| ${title.padEnd(44)} | ${value(up).padStart(9)} | ${value(down).padStart(9)} |`;
  return [
    `| ${`${clients} clients, ${mbits} Mbit/s offered`.padEnd(44)} |        up |      down |`,
    `| ${"-".repeat(44)} | --------: | --------: |`,
    row("arrived, Gbit/s", ({ gbps }) => gbps.toFixed(2)),
    row("lost, %", ({ lossPercent }) => lossPercent.toFixed(1)),
    row("most beyond least, %", ({ spreadPercent }) => spreadPercent.toFixed(1)),
    row("longest time without, ms", ({ gapMs }) => gapMs.toFixed(0)),
    row("longest time without while others had, ms", ({ starvedMs }) => starvedMs.toFixed(0)),
    row("the same, 99th percentile of clients, ms", ({ starvedP99Ms }) => starvedP99Ms.toFixed(0)),
  ].join("\n");
}

function parseOptions(args: readonly string[]): Options {
  return new Command("deno task bench fairness")
    .description("Measures how alike a gateway treats many active clients.")
    .option("--clients <n>", "active clients", positive, 100)
    .option("--mbits <n>", "what all of them offer together, in Mbit/s", positive, 1000)
    .option("--seconds <n>", "how long each direction is measured", positive, 5)
    .option("--rounds <n>", "how often; medians are shown", positive, 3)
    .option("--json", "print everything as JSON", false)
    .allowExcessArguments(false)
    .parse([...args], { from: "user" }).opts<Options>();
}
