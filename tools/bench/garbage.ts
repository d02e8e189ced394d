/**
 * Measures what the running programs allocate for a packet: `deno task bench garbage`.
 *
 * One TCP stream goes through the real client and gateway, whose V8 tells of every collection
 * (`--trace-gc`). What the heap has grown by since the collection before is what was allocated: by the
 * machines, by the loop around them, and by everything else that the process does meanwhile.
 *
 * @module
 */

import { Command } from "@std/cli";
import { positive, prepareBench } from "./prepare.ts";
import { measure, MEASURES } from "./tunnel_measures.ts";
import { TunnelNetwork } from "./tunnel_systems.ts";

interface Options {
  readonly seconds: number;
  readonly json: boolean;
}

/** Payload of a full packet: 1280 bytes less the headers of IPv4 and of TCP with a timestamp. */
const PAYLOAD = 1228;
const WARM_UP_SECONDS = 3;
/** A small space for young objects, so that it is collected often: what it holds last is not counted. */
const V8_FLAGS = "--trace-gc,--min-semi-space-size=1,--max-semi-space-size=1";
const ENDS = ["client", "gateway"] as const;

if (import.meta.main) Deno.exit(await main(Deno.args));

/** Runs the bench with the arguments of the command line; returns the exit status. */
export async function main(args: readonly string[]): Promise<number> {
  const { seconds, json } = parseOptions(args);
  if (!await prepareBench("garbage", import.meta.filename!, args, ["iperf3"])) return 1;
  Deno.env.set("DENO_V8_FLAGS", V8_FLAGS); // for the programs
  await using network = await TunnelNetwork.create("bng", ["firezone"]);
  const [system] = network.systems;
  await system!.use("direct");
  const context = {
    client: network.topology.get("client"),
    server: network.topology.get("web"),
    address: system!.address,
    pids: [],
    prefix: [],
  };
  const windows: Window[] = [];
  for (const name of ["tcp-down", "tcp-up"] as const) {
    await measure(name, { ...context, seconds: WARM_UP_SECONDS });
    const from = uptimeMs();
    const { gbps } = await measure(name, { ...context, seconds });
    windows.push({ name, from, until: uptimeMs(), packets: gbps! * 1e9 / 8 * seconds / PAYLOAD });
  }
  const results = [];
  for (const [i, end] of ENDS.entries()) {
    const startedAt = startMs(system!.pids("direct")[i]!);
    const log = await network.stop(end); // V8 holds lines back until the end
    for (const { name, from, until, packets } of windows) {
      const bytes = allocated(log, from - startedAt, until - startedAt);
      const side = (end === "client") === (name === "tcp-up") ? "sends" : "receives";
      results.push({ measure: name, program: end, side, packets, bytesPerPacket: bytes / packets });
    }
  }
  if (json) console.log(JSON.stringify(results, undefined, 2));
  else {
    for (const { measure, program, side, packets, bytesPerPacket } of results) {
      console.log(
        `${MEASURES[measure].title}: ${program} ${side} ${packets.toFixed(0)} packets, ` +
          `${bytesPerPacket.toFixed(1)} bytes each`,
      );
    }
  }
  return 0;
}

/** When packets were counted, in milliseconds since the machine was started. */
interface Window {
  readonly name: "tcp-down" | "tcp-up";
  readonly from: number;
  readonly until: number;
  readonly packets: number;
}

function uptimeMs(): number {
  return 1000 * Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]);
}

/** When a process was started, on the same clock. */
function startMs(pid: number): number {
  const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
  return 10 * Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]); // field 22, in ticks
}

/**
 * Bytes that all isolates of a program have allocated, by the collections in its log.
 *
 * @param from milliseconds since the program began; earlier collections say from where heaps grow
 * @param until the same for the end
 */
export function allocated(log: string, from: number, until: number): number {
  const pattern =
    /\[\d+:(0x[0-9a-f]+)\] +(\d+) ms: .* ([\d.]+) \([\d.]+\) -> ([\d.]+) \([\d.]+\) MB/g;
  const heaps = new Map<string, number>();
  let megabytes = 0;
  for (const [, isolate, ms, before, after] of log.matchAll(pattern)) {
    const last = heaps.get(isolate!);
    const isWithin = Number(ms) >= from && Number(ms) < until;
    if (isWithin && last !== undefined) megabytes += Math.max(0, Number(before) - last);
    heaps.set(isolate!, Number(after));
  }
  if (heaps.size === 0) throw new Error("V8 tells of no collection");
  return megabytes * (1 << 20);
}

function parseOptions(args: readonly string[]): Options {
  return new Command("deno task bench garbage")
    .description("Measures what client and gateway allocate for each packet that they carry.")
    .option("--seconds <n>", "how long each direction is measured", positive, 10)
    .option("--json", "print everything as JSON", false)
    .allowExcessArguments(false)
    .parse([...args], { from: "user" }).opts<Options>();
}
