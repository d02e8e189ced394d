/**
 * What the demo does, from the empty machine to the empty machine.
 *
 * Builds a small Internet of network namespaces, starts the four programs in it, and lets a client
 * behind one NAT read a page that only a gateway behind another NAT can reach: directly, then with
 * the direct way blocked, through the relay.
 * @module
 */

import type { FetchReport } from "../netns/http_get.ts";
import { type Checklist, duration, type Findings, rate, StepError } from "./checklist.ts";
import { Deployment, pathKind, type ProgramName } from "./deployment.ts";
import { enterCommand } from "./privileges.ts";
import { ADDRESS, NAMESPACE_NAMES, UNGRANTED_PORT, WEB_PORT } from "./topology.ts";

/** What the command line asks for. */
export interface DemoOptions {
  /** Runs the executables in `dist/`. */
  readonly dist: boolean;
  /** Leaves everything running until a signal. */
  readonly keep: boolean;
  /** Shows the steps as data. */
  readonly json: boolean;
}

/** How long the first page may take; with the relay a first attempt may have to be repeated. */
const PAGE_LIMIT_MS = 15_000;

/** How long a page that must not come is waited for. */
const REFUSAL_MS = 1_500;

const DOWNLOAD_MS = 2_500;
const LOG_LINES = 15;

/** One run. */
export class DemoRun {
  readonly #options: DemoOptions;
  readonly #list: Checklist;
  #deployment: Deployment | undefined;
  #interrupted = false;

  /** Shows the steps on `list`. */
  constructor(options: DemoOptions, list: Checklist) {
    this.#options = options;
    this.#list = list;
  }

  /** Runs it and answers with the exit status. */
  async run(): Promise<number> {
    try {
      await this.#setUp();
      const directMs = await this.#showDirect();
      const relayedMs = await this.#showRelayed();
      await this.#showRefusals();
      if (this.#options.keep) this.#explain();
      else await this.#list.step("everything ends in order and is cleaned up", () => this.#end());
      const times = `direct ${Math.round(directMs)} ms, relayed ${Math.round(relayedMs)} ms`;
      this.#list.say(`\ndemo: passed (${times})`);
      this.#list.data({ result: "passed", directMs, relayedMs });
      if (this.#options.keep) await new Promise(() => setInterval(() => {}, 60_000));
      return 0;
    } catch (error) {
      if (this.#interrupted) await new Promise(() => {}); // interrupt() exits.
      await this.#fail(error);
      return 1;
    } finally {
      if (!this.#interrupted) await this.#deployment?.close();
    }
  }

  /** Cleans up and exits. */
  async interrupt(signal: Deno.Signal): Promise<void> {
    if (this.#interrupted) return;
    this.#interrupted = true;
    this.#list.say(`\ndemo: ${signal}, cleaning up`);
    this.#list.data({ result: "interrupted", signal });
    this.#list.silence();
    await this.#deployment?.close(1_000);
    Deno.exit(signal === "SIGINT" ? 130 : signal === "SIGTERM" ? 143 : 129);
  }

  get #running(): Deployment {
    return this.#deployment!;
  }

  async #setUp(): Promise<void> {
    const { dist } = this.#options;
    this.#list.heading(`The network and the programs${dist ? " from dist/" : ""}`);
    await this.#list.step("client ─ NAT ─ Internet ─ NAT ─ gateway ─ web server", async () => {
      this.#deployment = await Deployment.create({ prefix: "fzd", dist });
    });
    const steps: readonly (readonly [ProgramName, string])[] = [
      ["portal", "the portal listens"],
      ["relay", "the relay is known to the portal"],
      ["gateway", "the gateway is connected to the portal"],
      ["client", "the client knows what it may reach"],
    ];
    for (const [name, title] of steps) {
      await this.#list.step(title, async () => {
        await this.#running.startReady(name);
      });
    }
  }

  async #showDirect(): Promise<number> {
    this.#list.heading("(a) Directly, through both NATs");
    const firstByteMs = await this.#fetch(ADDRESS.web[0], "direct");
    await this.#fetch(ADDRESS.web[1], "direct");
    await this.#download();
    return firstByteMs;
  }

  async #showRelayed(): Promise<number> {
    this.#list.heading("(b) Through the relay");
    await this.#list.step("UDP between the two NATs is blocked", async () => {
      await this.#running.topology.blockDirect();
    });
    await this.#list.step("the client starts over, as after a change of network", async () => {
      await this.#running.resetClient();
    });
    const firstByteMs = await this.#fetch(ADDRESS.web[0], "relayed");
    await this.#fetch(ADDRESS.web[1], "relayed");
    await this.#download();
    return firstByteMs;
  }

  async #showRefusals(): Promise<void> {
    this.#list.heading("(c) What is not granted is unreachable");
    for (const address of ADDRESS.payroll) {
      await this.#list.step(`no page from ${url(address)}`, () => this.#refused(address, WEB_PORT));
    }
    await this.#list.step(
      `no page from ${url(ADDRESS.web[0], UNGRANTED_PORT)}, a port left out`,
      () => this.#refused(ADDRESS.web[0], UNGRANTED_PORT),
    );
  }

  async #end(): Promise<void> {
    const running = this.#running;
    await running.close();
    for (const { name, status } of running.processes()) {
      if (status?.code !== 0) throw new Error(`${name} ended with status ${status?.code}`);
    }
  }

  /** Fetches a page as the client and checks the path it took; the time to the first byte. */
  async #fetch(address: string, expected: "direct" | "relayed"): Promise<number> {
    let firstByteMs = 0;
    await this.#list.step(`the client reads ${url(address)}`, async () => {
      const page = requireReport(
        await this.#running.whileAllRun(() =>
          this.#running.topology.fetchPage("client", address, PAGE_LIMIT_MS)
        ),
      );
      if (page.status !== "HTTP/1.1 200 OK" || !page.body.includes("private web server")) {
        throw new Error(`unexpected answer: ${page.status} ${page.body}`);
      }
      firstByteMs = page.firstByteMs;
      const path = await this.#checkPath(expected);
      return {
        shown: { "first byte": duration(firstByteMs), path: path.text },
        data: { firstByteMs: Math.round(firstByteMs * 10) / 10, ...path.data },
      };
    });
    return firstByteMs;
  }

  async #download(): Promise<void> {
    await this.#list.step("a download over TCP", async () => {
      const { bytes, transferMs } = requireReport(
        await this.#running.whileAllRun(() =>
          this.#running.topology.download("client", ADDRESS.web[0], DOWNLOAD_MS)
        ),
      );
      return {
        shown: { throughput: rate(bytes, transferMs) },
        data: { bytes, transferMs, bitsPerSecond: Math.round(bytes * 8_000 / transferMs) },
      };
    });
  }

  /** Checks that the server is there and that the client does not reach it. */
  async #refused(address: string, port: number): Promise<Findings> {
    const { topology } = this.#running;
    requireReport(await topology.fetchPage("gateway", address, PAGE_LIMIT_MS, port));
    const report = await topology.fetchPage("client", address, REFUSAL_MS, port);
    if (report.ok) throw new Error("the client got the page");
    return { shown: { "the client is told": report.error }, data: { refusal: report.error } };
  }

  /** The path that the client uses, in words and as data. */
  async #checkPath(expected: "direct" | "relayed"): Promise<{ text: string; data: object }> {
    const connections = (await this.#running.status("client"))?.connections ?? [];
    const first = connections.map(pathKind).find((kind) => kind !== undefined);
    const { path, rttMs } = await this.#running.untilPath(expected);
    if (path === undefined) throw new Error("unreachable: a path of that kind is a path");
    const kind = first === expected ? expected : `at first ${first}, then ${expected}`;
    const over = path.relay !== undefined
      ? ` over relay ${path.relay}`
      : path.remoteRelayed
      ? " (the gateway's relay)"
      : "";
    const rtt = rttMs === undefined ? "" : `, round trip ${rttMs.toFixed(1)} ms`;
    const text = `${kind}, ${path.local} to ${path.remote}${over}${rtt}`;
    return { text, data: { path, rttMs } };
  }

  #explain(): void {
    const { topology, folder } = this.#running;
    const inClient = `ip netns exec ${topology.get("client").fullName}`;
    const lines = [
      "Everything keeps running until Ctrl-C. To play with it:",
      `  ${inClient} ${fetchCommand(url(ADDRESS.web[0]))}`,
      `  ${inClient} ip route show table all dev tun-firezone`,
      `  ${this.#running.command("client").join(" ")} status --watch ` +
      `--status-socket ${folder}/client.sock`,
      `  tail -f ${folder}/{portal,relay,gateway,client}.log`,
      `  $EDITOR ${folder}/portal.jsonc   # the portal applies changes at once`,
      "The namespaces: " +
      NAMESPACE_NAMES.map((name) => topology.get(name).fullName).join(" "),
    ];
    const enter = enterCommand();
    if (enter !== undefined) lines.splice(1, 0, `  ${enter}   # first, to get there`);
    this.#list.say("");
    for (const line of lines) this.#list.say(line);
  }

  async #fail(error: unknown): Promise<void> {
    const step = error instanceof StepError ? error.step : "unexpected";
    const reason = error instanceof Error ? error.message : String(error);
    const processes = this.#deployment?.processes() ?? [];
    for (const process of processes) {
      this.#list.say(`\nlast lines of ${process.name}:`);
      for (const line of process.lines.slice(-LOG_LINES)) this.#list.say(`  ${line}`);
    }
    await this.#deployment?.close(1_000);
    this.#list.data({
      result: "failed",
      step,
      reason,
      logs: Object.fromEntries(processes.map((p) => [p.name, p.lines.slice(-LOG_LINES)])),
    });
    if (!(error instanceof StepError)) console.error(error);
    this.#list.say(`\ndemo: failed at "${step}": ${reason}`);
  }
}

function requireReport(report: FetchReport): FetchReport & { readonly ok: true } {
  if (!report.ok) throw new Error(`${report.error} (after ${duration(report.afterMs)})`);
  return report;
}

function url(address: string, port = WEB_PORT): string {
  const host = address.includes(":") ? `[${address}]` : address;
  return `http://${host}${port === WEB_PORT ? "" : `:${port}`}/`;
}

function fetchCommand(address: string): string {
  return `${Deno.execPath()} eval 'console.log(await (await fetch("${address}")).text())'`;
}
