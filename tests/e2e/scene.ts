/**
 * What every end-to-end test happens in: a network with the four programs, of which afterwards
 * nothing may be left.
 * @module
 */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Deployment, type ProgramName } from "@firezone/tools/deployment";
import { testFileSum } from "@firezone/tools/test_file";
import type { FetchReport, TopologyOptions } from "@firezone/tools/topology";
import { difference, type Snapshot, takeSnapshot } from "./snapshot.ts";

/** What a test needs besides what all need. */
export interface SceneOptions {
  /** Of the namespaces' names. */
  readonly prefix: string;
  /** How the network differs from the demo's. */
  readonly network?: TopologyOptions;
  /** Starts no program. */
  readonly isEmpty?: boolean;
  /** A gateway is killed and none comes after it, to put back whether packets are forwarded. */
  readonly losesForwarding?: boolean;
}

/** A file that arrives whole says that nothing was lost on the way. */
export const FILE_BYTES = 10_000_000;

const END_MS = 10_000;
const PAGE_MS = 10_000;
const POLL_MS = 20;

/** Where programs change the machine. */
const HOSTS: readonly ProgramName[] = ["client", "gateway", "gateway-2", "relay", "relay-2"];

/**
 * Builds a network, starts everything, does the work, ends what still runs, and sees that every
 * program ended in order and left its namespace as it was found: links, addresses, routes, rules,
 * packet filter, kernel parameters, resolv.conf, processes, sockets.
 */
export async function inScene(
  options: SceneOptions,
  work: (deployment: Deployment) => Promise<void>,
): Promise<void> {
  const { prefix, network = {}, isEmpty = false } = options;
  const deployment = await Deployment.create({ prefix, network });
  try {
    const snapshots = () => takeSnapshots(deployment, options.losesForwarding ?? false);
    const before = await snapshots();
    if (!isEmpty) await deployment.startAll();
    await work(deployment);
    await stopAll(deployment);
    assertLeftNothing(before, await snapshots());
    assertEquals(socketsIn(deployment.folder), []);
  } finally {
    await deployment.close();
  }
  assertEquals(remains(prefix), []);
}

/**
 * Does at the same time what mostly waits.
 *
 * @param works by what they show
 */
export async function atOnce(
  t: Deno.TestContext,
  works: Readonly<Record<string, (t: Deno.TestContext) => Promise<void>>>,
): Promise<void> {
  // What one leaves open for a while another would be blamed for.
  const lenient = { sanitizeOps: false, sanitizeResources: false, sanitizeExit: false };
  const steps = Object.entries(works).map(([name, fn]) => t.step({ name, fn, ...lenient }));
  await Promise.all(steps);
}

/** Ends every program that runs, clients first, and sees that each ends in order and alone. */
export async function stopAll(deployment: Deployment): Promise<void> {
  for (const name of deployment.names().reverse()) await stop(deployment, name);
}

/** Ends a program if it runs, and sees that it ends in order, taking along what it started. */
export async function stop(deployment: Deployment, name: ProgramName): Promise<void> {
  const process = deployment.find(name);
  if (process === undefined || process.status !== undefined) return;
  const { code, signal } = await process.stop(END_MS);
  assertEquals([name, code, signal], [name, 0, null], process.lines.slice(-5).join("\n"));
  assertEquals(process.survivors, [], `${name} left processes behind`);
}

/** Ends a program as a crash would. */
export async function kill(deployment: Deployment, name: ProgramName): Promise<void> {
  const process = deployment.process(name);
  process.kill();
  await process.ended;
}

/** Snapshots of all namespaces in which programs change something. */
export async function takeSnapshots(
  deployment: Deployment,
  withoutForwarding = false,
): Promise<Snapshot> {
  const names = HOSTS.filter((name) => deployment.names().includes(name));
  const all = await Promise.all(names.map(async (name) => {
    const lines = await takeSnapshot(deployment.topology.get(name), { withoutForwarding });
    return lines.map((line) => `${name}: ${line}`);
  }));
  return all.flat();
}

/** Fails with what is left over or gone. */
export function assertLeftNothing(before: Snapshot, after: Snapshot): void {
  assertEquals(difference(before, after).join("\n"), "");
}

/** Reads the private web server's page on the client. */
export async function readPage(
  deployment: Deployment,
  address: string,
  limitMs = PAGE_MS,
): Promise<FetchReport & { readonly ok: true }> {
  const report = await deployment.topology.fetchPage("client", address, limitMs);
  assert(report.ok, JSON.stringify(report));
  assertMatch(report.body, /private web server/);
  return report;
}

/**
 * Asks for the page until it comes, and says after how many milliseconds it did.
 *
 * @param tryMs how long each attempt may take
 */
export async function untilPage(
  deployment: Deployment,
  address: string,
  limitMs: number,
  tryMs = 2_000,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    const report = await deployment.topology.fetchPage("client", address, tryMs);
    const afterMs = performance.now() - start;
    if (report.ok) return afterMs;
    assert(afterMs < limitMs, `no page after ${Math.round(afterMs)} ms: ${report.error}`);
  }
}

/** How a {@link download} differs from the usual. */
export interface DownloadOptions {
  /** Length of the file; {@link FILE_BYTES} if left out. */
  readonly bytes?: number;
  /** The longest it may take, in seconds. */
  readonly limitS?: number;
  /** More options of curl. */
  readonly options?: readonly string[];
  /** Where it is downloaded to. */
  readonly to?: string;
}

/** Downloads a file with curl, and checks that it is the one that was sent. */
export async function download(
  deployment: Deployment,
  address: string,
  { bytes = FILE_BYTES, limitS = 60, options = [], to = "client" }: DownloadOptions = {},
): Promise<void> {
  const host = address.includes(":") ? `[${address}]` : address;
  const curl = [
    ...["curl", "-gsS", "--connect-timeout", "10", "--max-time", `${limitS}`, ...options],
    `http://${host}/file/${bytes}`,
  ];
  const { code, stdout, stderr } = await deployment.topology.get(to)
    .run(["bash", "-c", 'set -o pipefail; "$@" | sha256sum', "bash", ...curl]);
  assertEquals(code, 0, stderr);
  assertEquals(stdout.split(" ")[0], await testFileSum(bytes));
}

/** Options of curl for a download that is still under way when something happens. */
export const SLOW: readonly string[] = ["--limit-rate", "1500k"];

/** Waits until something is so. */
export async function until(
  what: string,
  isSo: () => boolean | Promise<boolean>,
  limitMs = 15_000,
): Promise<void> {
  const start = performance.now();
  while (!await isSo()) {
    assert(performance.now() - start < limitMs, `${what}: not within ${limitMs} ms`);
    await pause(POLL_MS);
  }
}

/** Lets time pass, where time itself is what a test is about. */
export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Where nothing went wrong, client and gateway have nothing to warn of. */
export function assertNoWarnings(deployment: Deployment): void {
  for (const name of ["client", "gateway"] as const) {
    const lines = Deno.readTextFileSync(`${deployment.folder}/${name}.log`).split("\n");
    assertEquals(lines.filter((line) => /^\S+ +(WARN|ERROR) /.test(line)), [], name);
  }
}

/** Tells a figure exactly, which is asserted only roughly. */
export function report(what: string, ms: number): void {
  console.log(`    measured: ${what}: ${Math.round(ms)} ms`);
}

function socketsIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name.endsWith(".sock"));
}

/** Namespaces and folders of this process and prefix. */
function remains(prefix: string): string[] {
  return ["/run/netns", "/tmp"].flatMap((folder) =>
    Array.from(Deno.readDirSync(folder), ({ name }) => `${folder}/${name}`)
  ).filter((path) => path.includes(`/${prefix}-${Deno.pid}-`));
}
