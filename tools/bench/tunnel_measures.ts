/**
 * What the tunnel bench measures: iperf3 through a system, and round trips by ping.
 *
 * @module
 */

import type { Namespace } from "../netns.ts";

/** What can be measured, with the words that the report uses. */
export const MEASURES = {
  "tcp-down": { title: "TCP, 1 stream, down", tool: "iperf3", args: ["-P", "1", "-R"] },
  "tcp-up": { title: "TCP, 1 stream, up", tool: "iperf3", args: ["-P", "1"] },
  "tcp8-down": { title: "TCP, 8 streams, down", tool: "iperf3", args: ["-P", "8", "-R"] },
  "tcp8-up": { title: "TCP, 8 streams, up", tool: "iperf3", args: ["-P", "8"] },
  "udp-down": { title: "UDP, 500 Mbit/s offered, down", tool: "iperf3", args: ["udp", "-R"] },
  "udp-up": { title: "UDP, 500 Mbit/s offered, up", tool: "iperf3", args: ["udp"] },
  "rtt-idle": { title: "round trip, idle", tool: "ping", args: [] },
  "rtt-load": { title: "round trip, 1 TCP stream down", tool: "ping", args: [] },
} as const;

/** One of them. */
export type MeasureName = keyof typeof MEASURES;

/** All of them, in the order of the report. */
export const MEASURE_NAMES = Object.keys(MEASURES) as readonly MeasureName[];

/** What one run gave; which members there are depends on the measure. */
export interface Sample {
  /** Payload that arrived, in Gbit/s. */
  readonly gbps?: number;
  /** Datagrams that did not arrive, in percent. */
  readonly lossPercent?: number;
  /** Processor seconds of the system's processes for each gigabyte that arrived. */
  readonly cpuSecondsPerGb?: number;
  /**
   * The same of the thread among them that worked most: with a core for every thread, one gigabyte
   * takes at least as long.
   */
  readonly busiestSecondsPerGb?: number;
  /** Median round trip in microseconds. */
  readonly medianUs?: number;
  /** 99th percentile of the round trips in microseconds. */
  readonly p99Us?: number;
}

/** Where a measure is taken. */
export interface MeasureContext {
  /** Where iperf3 and ping start. */
  readonly client: Namespace;
  /** Where iperf3 serves. */
  readonly server: Namespace;
  /** Address of the server, which leads through the system. */
  readonly address: string;
  /** How long traffic flows. */
  readonly seconds: number;
  /** Processes whose time counts. */
  readonly pids: readonly number[];
  /** Put before commands, to choose their cores. */
  readonly prefix: readonly string[];
}

const IPERF_PORT = "5201";
const SERVER_START_MS = 5_000;
const ATTEMPTS = 3;
const UDP_RATE = "500M";
/** Fills the inner MTU: 1280 less 28 bytes of headers. */
const UDP_LENGTH = 1252;
const UDP_BUFFER = 4 << 20;
const IDLE_PING_INTERVAL_S = 0.005;
const LOAD_PING_INTERVAL_S = 0.02;
/** /proc counts time in these. */
const TICKS_PER_SECOND = 100;

/** Takes one measure. */
export async function measure(name: MeasureName, context: MeasureContext): Promise<Sample> {
  switch (name) {
    case "rtt-idle":
      return await ping(context, IDLE_PING_INTERVAL_S);
    case "rtt-load": {
      const load = iperf({ ...context, seconds: context.seconds + 1 }, MEASURES["tcp-down"].args);
      const pings = new Promise((resolve) => setTimeout(resolve, 500))
        .then(() => ping(context, LOAD_PING_INTERVAL_S));
      const [sample] = await Promise.all([pings, load]);
      return sample;
    }
    default:
      return await iperf(context, MEASURES[name].args);
  }
}

async function iperf(context: MeasureContext, args: readonly string[]): Promise<Sample> {
  for (let attempt = 1;; attempt++) {
    try {
      return await iperfOnce(context, args);
    } catch (error) {
      // Now and then iperf3 loses one of its connections while it makes them.
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

async function iperfOnce(context: MeasureContext, args: readonly string[]): Promise<Sample> {
  const isUdp = args[0] === "udp";
  const command = [
    ...["iperf3", "--json", "--client", context.address, "--port", IPERF_PORT],
    ...["--time", String(context.seconds), "--interval", "0"],
    ...isUdp ? ["-u", "-b", UDP_RATE, "-l", String(UDP_LENGTH), "-w", udpBuffer()] : args,
    ...isUdp ? args.slice(1) : [],
  ];
  await using server = context.server.spawn("iperf3", [
    ...context.prefix,
    ...["iperf3", "--server", "--one-off", "--port", IPERF_PORT, "--forceflush"],
  ]);
  await server.waitForLine(/Server listening/, SERVER_START_MS);
  const before = threadSeconds(context.pids);
  const { stdout } = await context.client.run([...context.prefix, ...command], {
    timeoutMs: (context.seconds + 20) * 1000,
  });
  const spent = Array.from(
    threadSeconds(context.pids),
    ([thread, seconds]) => seconds - (before.get(thread) ?? 0),
  );
  const report = parseIperf(stdout, isUdp);
  return {
    gbps: report.bytes * 8 / report.seconds / 1e9,
    ...isUdp && { lossPercent: report.lossPercent },
    ...context.pids.length > 0 && {
      cpuSecondsPerGb: spent.reduce((a, b) => a + b) / (report.bytes / 1e9),
      busiestSecondsPerGb: Math.max(...spent) / (report.bytes / 1e9),
    },
  };
}

/**
 * Socket buffers for UDP, in bytes. With what is usual (208 KiB, less than a hundred datagrams by the
 * kernel's reckoning) iperf3 itself loses datagrams as soon as they come in bursts, tunnel or not.
 */
function udpBuffer(): string {
  const limits = ["rmem_max", "wmem_max"].map((name) =>
    Number(Deno.readTextFileSync(`/proc/sys/net/core/${name}`))
  );
  return String(Math.min(UDP_BUFFER, ...limits));
}

/** What matters of the JSON that iperf3 prints. @throws Error with what iperf3 says went wrong */
export function parseIperf(
  text: string,
  isUdp: boolean,
): { bytes: number; seconds: number; lossPercent: number } {
  const { error, end } = JSON.parse(text);
  if (error !== undefined) throw new Error(`iperf3: ${error}`);
  if (!isUdp) {
    const { bytes, seconds } = end.sum_received;
    return { bytes, seconds, lossPercent: 0 };
  }
  // What arrived is not said in bytes of payload; it follows from what was sent and lost.
  const { bytes, seconds, lost_percent } = end.sum;
  return { bytes: bytes * (1 - lost_percent / 100), seconds, lossPercent: lost_percent };
}

async function ping(context: MeasureContext, intervalS: number): Promise<Sample> {
  const count = Math.max(10, Math.round(context.seconds / intervalS));
  const command = ["ping", "-n", "-i", String(intervalS), "-c", String(count), "-W", "1"];
  const { stdout } = await context.client.run(
    [...context.prefix, ...command, context.address],
    { timeoutMs: (context.seconds + 20) * 1000 },
  );
  const times = parsePing(stdout);
  return { medianUs: quantile(times, 0.5), p99Us: quantile(times, 0.99) };
}

/** The round trips that ping printed, in microseconds. @throws Error when there is none */
export function parsePing(text: string): number[] {
  const times = Array.from(text.matchAll(/ time=([\d.]+) ms/g), (m) => Number(m[1]) * 1000);
  if (times.length === 0) throw new Error(`ping: no answer: ${text.trim().split("\n").at(-1)}`);
  return times;
}

/** The value below which a share of the values lies, between the nearest two of them. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)]!;
  return low + (sorted[Math.ceil(at)]! - low) * (at - Math.floor(at));
}

/** The value in the middle. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** User and kernel time of some processes so far, all threads. */
export function cpuSeconds(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + secondsIn(`/proc/${pid}/stat`), 0);
}

/** The same for each of their threads, by its id. */
function threadSeconds(pids: readonly number[]): Map<string, number> {
  const seconds = new Map<string, number>();
  for (const pid of pids) {
    for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
      try {
        seconds.set(name, secondsIn(`/proc/${pid}/task/${name}/stat`));
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error; // it has just ended
      }
    }
  }
  return seconds;
}

function secondsIn(path: string): number {
  const stat = Deno.readTextFileSync(path);
  // The name in parentheses may hold anything; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}
