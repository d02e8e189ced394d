/**
 * Relays and load in namespaces of their own, joined by a cable:
 *
 *     load ── 10.77.0.1/30, fd77::1 ═══════ 10.77.0.2/30, fd77::2 ── relay
 *       └ lo: 10.78.0.0/15, routed, so that load has as many addresses as it likes
 *
 * What cards and their drivers do to packets that go together decides what a relay's work costs, so the
 * cable can be one of three, see {@link CABLES}.
 *
 * Everything ends with this process, whatever ends it.
 * @module
 */

import { findCommand } from "@firezone/tests/requirements";
import { type Namespace, Namespaces, type Process, runCommand } from "../netns.ts";
import type { FlowReply, LoadOrder, LoadStart, RequestsReply } from "./relay_load.ts";

/** Addresses of the two ends. */
export const ADDRESS = {
  load: "10.77.0.1",
  relay: "10.77.0.2",
  load6: "fd77::1",
  relay6: "fd77::2",
} as const;
/** What load may send from. */
export const CROWD = "10.78.0.0/15";

/** How packets cross the cable that were sent at once. */
export const CABLES = {
  /** One by one, and are handed to the relay so: what the simplest of virtual cards do. */
  bare: "packets cross alone and arrive alone",
  /** One by one, and the relay's kernel glues what arrives together (GRO), as Linux does on any card. */
  card: "packets cross alone, the kernel glues what arrives together",
  /** As one: what cards do that segment and glue by themselves. */
  offloads: "packets cross as they were sent, without being cut apart",
} as const;

/** One of {@link CABLES}. */
export type Cable = keyof typeof CABLES;

const STAMP_SECRET = "ab".repeat(32);
const COTURN_USER = { username: "load", password: "of packets", realm: "firezone" } as const;
const PATIENCE_MS = 20_000;
/** No option of ours is left to the environment that the bench runs in. */
const OUR_PORT = 3478;
const COTURN_PORT = 3479;

/** A relay that runs. */
export interface RunningRelay {
  /** Its name in reports. */
  readonly name: "firezone" | "coturn";
  /** Version or the like. */
  readonly detail: string;
  /** Its process. */
  readonly process: Process;
  /** Where it listens, by IPv4. */
  readonly server: string;
  /** What clients present. */
  readonly credentials: LoadStart["credentials"];
}

/** How the network is made. */
export interface NetworkOptions {
  /** "bare" unless said otherwise; "card" needs ethtool. */
  readonly cable?: Cable;
  /**
   * The processor that receives what the relay sends: on a cable between two machines that work is
   * not the sender's, so it should not count as the relay's. Left out, the relay's does it.
   */
  readonly loadCore?: number;
}

/** How a relay of ours is started. */
export interface OurRelayOptions {
  /** Processor to keep to; all of them if absent. */
  readonly core?: number;
  /** Further arguments. */
  readonly args?: readonly string[];
}

/** See the head of this file. */
export class RelayNetwork implements AsyncDisposable {
  readonly #namespaces: Namespaces;

  private constructor(namespaces: Namespaces) {
    this.#namespaces = namespaces;
  }

  /** Makes the namespaces. @param prefix of their names */
  static async create(prefix: string, options: NetworkOptions = {}): Promise<RelayNetwork> {
    const { cable = "bare", loadCore } = options;
    const namespaces = await Namespaces.create(prefix, ["relay", "load"]);
    await namespaces.link(["load", "eth0"], ["relay", "eth0"]);
    const [load, relay] = [namespaces.get("load"), namespaces.get("relay")];
    await load.ip(
      `addr add ${ADDRESS.load}/30 dev eth0`,
      `addr add ${ADDRESS.load6}/64 dev eth0`,
      "link set eth0 up",
      `route add local ${CROWD} dev lo`,
    );
    await relay.ip(
      `addr add ${ADDRESS.relay}/30 dev eth0`,
      `addr add ${ADDRESS.relay6}/64 dev eth0`,
      "link set eth0 up",
      `route add ${CROWD} via ${ADDRESS.load}`,
    );
    if (cable !== "offloads") {
      for (const namespace of [load, relay]) await namespace.ip("link set eth0 gso_max_segs 1");
    }
    if (cable === "card") {
      // A veth device glues only what comes from one that cannot segment.
      await setFeature(load, "tso", "off");
      await setFeature(relay, "gro", "on");
    }
    if (loadCore !== undefined) await receiveOn(load, loadCore);
    return new RelayNetwork(namespaces);
  }

  /** Starts our relay. */
  async startOurs(options: OurRelayOptions = {}): Promise<RunningRelay> {
    const main = new URL("../../relay/main.ts", import.meta.url).pathname;
    const process = this.#namespaces.get("relay").spawn(
      "firezone-relay",
      [
        ...pinned(options.core),
        // As executables are made, see `tools/compile.ts`.
        ...[Deno.execPath(), "run", "-A", "--v8-flags=--max-semi-space-size=4", main],
        ...["--health-check-addr", "off"],
        ...["--listen-port", String(OUR_PORT), "--stamp-secret", STAMP_SECRET],
        ...["--public-ip4-addr", ADDRESS.relay, "--public-ip6-addr", ADDRESS.relay6],
        ...options.args ?? [],
      ],
    );
    await process.waitForLine(/Listening/, PATIENCE_MS);
    return {
      name: "firezone",
      detail: `Deno ${Deno.version.deno}`,
      process,
      server: `${ADDRESS.relay}:${OUR_PORT}`,
      credentials: { stampSecret: STAMP_SECRET },
    };
  }

  /** Starts coturn's server with what it does by default, on one thread; `undefined` without one. */
  async startCoturn(core?: number): Promise<RunningRelay | undefined> {
    const command = findCommand("turnserver");
    if (command === undefined) return undefined;
    const folder = await Deno.makeTempDir({ prefix: "firezone-bench-" });
    const { username, password, realm } = COTURN_USER;
    const process = this.#namespaces.get("relay").spawn("turnserver", [
      ...pinned(core),
      command,
      ...["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--no-tcp-relay"],
      `--listening-ip=${ADDRESS.relay}`,
      `--relay-ip=${ADDRESS.relay}`,
      `--listening-port=${COTURN_PORT}`,
      ...["--min-port=40000", "--max-port=48999", "--relay-threads=1", "--lt-cred-mech"],
      `--realm=${realm}`,
      `--user=${username}:${password}`,
      `--userdb=${folder}/users`,
      `--pidfile=${folder}/pid`,
      ...["--log-file=stdout", "--simple-log"],
    ]);
    void process.ended.then(() => Deno.remove(folder, { recursive: true }).catch(() => {}));
    await process.waitForLine(/IPv4. UDP listener opened|udp.* server.*listening/i, PATIENCE_MS)
      .catch(() => {}); // Its words differ between versions; the first client asks again anyway.
    const { stdout } = await this.#namespaces.get("relay").run([command, "--version"]);
    return {
      name: "coturn",
      detail: `coturn ${stdout.trim().split("\n").at(-1)}`,
      process,
      server: `${ADDRESS.relay}:${COTURN_PORT}`,
      credentials: COTURN_USER,
    };
  }

  /** Starts load against a relay. @param core processor to keep to */
  startLoad(
    relay: RunningRelay,
    options: Partial<LoadStart> & { readonly core?: number } = {},
  ): LoadProcess {
    const { core, ...rest } = options;
    const start: LoadStart = {
      server: relay.server,
      peer: ADDRESS.load,
      clients: [ADDRESS.load],
      perAddress: 1,
      credentials: relay.credentials,
      ...rest,
    };
    const script = new URL("./relay_load.ts", import.meta.url).pathname;
    return new LoadProcess(
      this.#namespaces.get("load").enter([
        ...pinned(core),
        ...[Deno.execPath(), "run", "-A", script, JSON.stringify(start)],
      ]),
    );
  }

  /** Starts another program where load is. */
  spawnLoad(name: string, command: readonly string[]): Process {
    return this.#namespaces.get("load").spawn(name, command);
  }

  /** Ends everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#namespaces.close(500);
  }
}

/** `relay_load.ts`, seen from outside. */
export class LoadProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  /** Starts it. */
  constructor(command: readonly string[]) {
    this.#child = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", ...command],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Makes clients until there are so many. */
  grow(count: number): Promise<RequestsReply> {
    return this.#ask({ op: "grow", count });
  }

  /** Refreshes all allocations and channels. */
  refresh(): Promise<RequestsReply> {
    return this.#ask({ op: "refresh" });
  }

  /** Deletes the allocations of clients `[from, …)`. */
  end(from: number): Promise<RequestsReply> {
    return this.#ask({ op: "end", from });
  }

  /** Lets clients `[from, …)`, whose allocations were deleted, allocate again. */
  again(from: number): Promise<RequestsReply> {
    return this.#ask({ op: "again", from });
  }

  /** Lets data flow; `pids` are processes whose time counts. */
  run(
    flow: Extract<LoadOrder, { op: "run" }>["flow"],
    pids: readonly number[],
  ): Promise<FlowReply> {
    return this.#ask({ op: "run", flow, pids });
  }

  /** Ends it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close().catch(() => {});
    await this.#reader.cancel();
    await this.#child.status;
  }

  async #ask<Reply>(order: LoadOrder): Promise<Reply> {
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(order)}\n`));
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`The load process ended at ${order.op}`);
      this.#text += value;
    }
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return JSON.parse(line!);
  }
}

async function setFeature(namespace: Namespace, feature: string, value: string): Promise<void> {
  const { code, stderr } = await namespace.run(["ethtool", "-K", "eth0", feature, value]);
  if (code !== 0) {
    throw new Error(`Cannot turn ${feature} ${value} in ${namespace.name}: ${stderr}`);
  }
}

/** Makes a processor take in what arrives at a namespace (receive packet steering). */
async function receiveOn(namespace: Namespace, core: number): Promise<void> {
  const file = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
  const set = `echo ${(1 << core).toString(16)} > ${file}`;
  // Unlike nsenter it mounts the /sys of the namespace.
  const { code, stderr } = await runCommand(
    ["ip", "netns", "exec", namespace.fullName, "sh", "-c", set],
  );
  if (code !== 0) console.error(`The relay also pays for receiving what it sends: ${stderr}`);
}

/** Puts a command on a processor. */
export function pinned(core: number | undefined): string[] {
  return core === undefined ? [] : ["taskset", "-c", String(core)];
}

/** Resident memory of a process in bytes. */
export function residentBytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`));
  return Number(match?.[1] ?? NaN) * 1024;
}
