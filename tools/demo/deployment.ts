/**
 * The four real programs in the demo's topology, with a configuration that joins them.
 *
 * The demo shows what it does, the end-to-end tests check it.
 * @module
 */

import { orphans, type Process } from "../netns.ts";
import { ADDRESS, Topology, type TopologyOptions, WEB_PORT } from "./topology.ts";

/** The programs by the namespace that each runs in. */
export const PROGRAMS = {
  portal: { name: "firezone-portal", entry: "portal/main.ts" },
  relay: { name: "firezone-relay", entry: "relay/main.ts" },
  gateway: { name: "firezone-gateway", entry: "gateway/main.ts" },
  client: { name: "firezone-headless-client", entry: "client/main.ts" },
  "gateway-2": { name: "firezone-gateway", entry: "gateway/main.ts" },
  "relay-2": { name: "firezone-relay", entry: "relay/main.ts" },
} as const;

/** A program, and the namespace it runs in. */
export type ProgramName = keyof typeof PROGRAMS;

/** A program that answers for its status. */
export type TunnelProgramName = "client" | "gateway" | "gateway-2";

/** In the order in which they need each other. */
const START_ORDER: readonly ProgramName[] = [
  "portal",
  "relay",
  "relay-2",
  "gateway",
  "gateway-2",
  "client",
];

/** What a client or gateway says about a connection. */
export interface ConnectionStatus {
  /** The other end's id. */
  readonly peerId: string;
  /** The path that packets take. */
  readonly path?: {
    readonly kind: "direct" | "relayed";
    readonly local: string;
    readonly remote: string;
    readonly remoteRelayed?: boolean;
    readonly relay?: string;
  };
  /** Round-trip time. */
  readonly rttMs?: number;
  /** Milliseconds since the last handshake. */
  readonly lastHandshakeMs?: number;
  /** Bytes received. */
  readonly rxBytes: number;
  /** Bytes sent. */
  readonly txBytes: number;
}

/** What a client or gateway answers to `GET /status`. */
export interface ProgramStatus {
  /** Whether the portal is there. */
  readonly portal: string;
  /** Its address in the tunnel, once it has one. */
  readonly ipv4?: string;
  /** See {@link ipv4}. */
  readonly ipv6?: string;
  /** Tunnels. */
  readonly connections: readonly ConnectionStatus[];
  /** What the client may reach. */
  readonly resources?: readonly { readonly name: string }[];
}

/** Whether a relay is on the way, on either side; `undefined` while there is no path. */
export function pathKind({ path }: ConnectionStatus): "direct" | "relayed" | undefined {
  if (path === undefined) return undefined;
  return path.kind === "relayed" || path.remoteRelayed ? "relayed" : "direct";
}

/** How programs are started. */
export interface DeploymentOptions {
  /** Of the namespaces' names. */
  readonly prefix: string;
  /** Runs what `deno task compile` made instead of the sources. */
  readonly dist?: boolean;
  /** How the network differs from the demo's. */
  readonly network?: TopologyOptions;
}

/** Changes to how a program is started. */
export interface StartChanges {
  /** More arguments; a later one overrides an earlier. */
  readonly args?: readonly string[];
  /** More variables. */
  readonly env?: Readonly<Record<string, string>>;
  /** What the program is run by, such as `unshare` with its arguments; it must become the program. */
  readonly wrapper?: readonly string[];
}

/** The portal's base URL. */
export const API_URL = `ws://${ADDRESS.portal[0]}:8080/`;

const READY_MS = 15_000;
const PATH_MS = 5_000;
const SETTLED_MS = 1_000;
const STATUS_MS = 2_000;
const POLL_MS = 20;
const TEMP_FOLDER = "/tmp";
const ROOT = new URL("../../", import.meta.url).pathname;

/** See the head of this file. */
export class Deployment implements AsyncDisposable {
  /** The network. */
  readonly topology: Topology;
  /** Where configuration, sockets and logs are; goes away with the deployment. */
  readonly folder: string;
  readonly #dist: boolean;
  readonly #processes = new Map<ProgramName, Process>();
  readonly #tokens = {
    relay: token("relay"),
    gateway: token("gateway"),
    client: token("client"),
  };
  readonly #onUnload = () => this.#removeFolder();

  private constructor(topology: Topology, folder: string, dist: boolean) {
    this.topology = topology;
    this.folder = folder;
    this.#dist = dist;
    globalThis.addEventListener("unload", this.#onUnload);
  }

  /** Builds the network and writes the portal's configuration; starts no program yet. */
  static async create({ prefix, dist = false, network }: DeploymentOptions): Promise<Deployment> {
    if (dist) await requireExecutables();
    const topology = await Topology.create(prefix, network);
    removeOldFolders(prefix);
    const folder = await Deno.makeTempDir({ dir: TEMP_FOLDER, prefix: `${prefix}-${Deno.pid}-` });
    const deployment = new Deployment(topology, folder, dist);
    await deployment.writeConfig(deployment.config());
    return deployment;
  }

  /** The portal's configuration. */
  config(): Record<string, unknown> {
    const filters = [`tcp/${WEB_PORT}`, "icmp"];
    const site = { sites: ["office"] };
    return {
      account_slug: "demo",
      sites: [{ name: "office", gateway_tokens: [this.#tokens.gateway] }],
      relay_tokens: [this.#tokens.relay],
      accounts: [{ name: "laptop", tokens: [this.#tokens.client] }],
      resources: [
        { name: "wiki", type: "ip", address: ADDRESS.web[0], filters, ...site },
        { name: "wiki over IPv6", type: "cidr", address: "fd00:20::/64", filters, ...site },
        { name: "payroll", type: "ip", address: ADDRESS.payroll[0], ...site },
        { name: "payroll over IPv6", type: "ip", address: ADDRESS.payroll[1], ...site },
      ],
      policies: [{ accounts: ["laptop"], resources: ["wiki", "wiki over IPv6"] }],
    };
  }

  /** What a program authenticates with. */
  token(name: Exclude<ProgramName, "portal">): string {
    return this.#tokens[name.replace("-2", "") as "relay" | "gateway" | "client"];
  }

  /** Replaces the portal's configuration file. */
  async writeConfig(config: unknown): Promise<void> {
    const path = `${this.folder}/portal.jsonc`;
    await Deno.writeTextFile(path, JSON.stringify(config, undefined, 2), { mode: 0o600 });
  }

  /** What starts a program, without arguments. */
  command(name: ProgramName): string[] {
    const program = PROGRAMS[name];
    return this.#dist
      ? [`${ROOT}dist/${program.name}`]
      : [Deno.execPath(), "run", "-A", `${ROOT}${program.entry}`];
  }

  /** Starts a program, without waiting for it to be ready. */
  start(name: ProgramName, { args = [], env = {}, wrapper = [] }: StartChanges = {}): Process {
    const process = this.topology.get(name).spawn(
      PROGRAMS[name].name,
      [...wrapper, ...this.command(name), ...this.#args(name), ...args],
      {
        env: { ...this.#env(name), ...env },
        logFile: `${this.folder}/${name}.log`,
      },
    );
    this.#processes.set(name, process);
    return process;
  }

  /** Starts a program and waits until it can do its work. */
  async startReady(name: ProgramName, changes?: StartChanges): Promise<Process> {
    const process = this.start(name, changes);
    await this.untilReady(name);
    return process;
  }

  /** Starts all programs, in the order in which they need each other. */
  async startAll(): Promise<void> {
    for (const name of this.names()) await this.startReady(name);
  }

  /** All programs that have a place in this network, in the order in which they are started. */
  names(): ProgramName[] {
    const { hasSpares = false } = this.topology.options;
    return START_ORDER.filter((name) => hasSpares || !name.endsWith("-2"));
  }

  /** The program's process, also one that has ended; `undefined` if it was never started. */
  find(name: ProgramName): Process | undefined {
    return this.#processes.get(name);
  }

  /** The program's process, also one that has ended. */
  process(name: ProgramName): Process {
    const process = this.find(name);
    if (process === undefined) throw new Error(`${name} was not started`);
    return process;
  }

  /** Processes that were started, in that order. */
  processes(): Process[] {
    return [...this.#processes.values()];
  }

  /**
   * Waits until a program can do its work.
   *
   * @throws when it ends before, or takes too long
   */
  async untilReady(name: ProgramName): Promise<void> {
    switch (name) {
      case "portal":
        await this.process(name).waitForLine(/: listening addresses=/, READY_MS);
        return;
      case "relay":
      case "relay-2":
        await this.process(name).waitForLine(/Connected to the portal|Joined/i, READY_MS);
        return;
      case "gateway":
      case "gateway-2":
        return await this.untilStatus(name, (status) => status.portal === "connected");
      case "client":
        return await this.untilStatus(
          name,
          (status) => status.portal === "connected" && (status.resources?.length ?? 0) >= 2,
        );
    }
  }

  /** Waits until a program's status is as wanted. */
  async untilStatus(
    name: TunnelProgramName,
    isWanted: (status: ProgramStatus) => boolean | Promise<boolean>,
    timeoutMs = READY_MS,
  ): Promise<void> {
    const start = performance.now();
    for (;;) {
      const status = await this.status(name);
      if (status !== undefined && await isWanted(status)) return;
      const ended = this.process(name).status;
      if (ended !== undefined) {
        throw new Error(`${PROGRAMS[name].name} ended with status ${ended.code}`);
      }
      if (performance.now() - start > timeoutMs) {
        throw new Error(
          `${PROGRAMS[name].name} is not as wanted after ${timeoutMs} ms; its status: ` +
            (status === undefined ? "none" : JSON.stringify(status)),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }

  /** Does some work, and fails at once when one of the programs ends meanwhile. */
  async whileAllRun<T>(work: () => Promise<T>): Promise<T> {
    let isDone = false;
    const ends = this.processes().map(async (process) => {
      const { code } = await process.ended;
      if (!isDone) throw new Error(`${process.name} ended with status ${code}`);
      return await new Promise<never>(() => {});
    });
    try {
      return await Promise.race([work(), ...ends]);
    } finally {
      isDone = true;
    }
  }

  /** What a program says about itself; `undefined` while nobody answers. */
  async status(name: TunnelProgramName): Promise<ProgramStatus | undefined> {
    const path = this.#statusSocket(name);
    using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    try {
      const signal = AbortSignal.timeout(STATUS_MS);
      const response = await fetch("http://localhost/status", { client, signal });
      return { connections: [], ...await response.json() };
    } catch {
      return undefined;
    }
  }

  /**
   * Waits until the client's packets take a path of that kind.
   *
   * What answers first carries the first packets, so a path through the relay may come before the
   * direct one.
   */
  async untilPath(kind: "direct" | "relayed"): Promise<ConnectionStatus> {
    let found: ConnectionStatus | undefined;
    await this.untilStatus("client", ({ connections }) => {
      found = connections.find((connection) => pathKind(connection) === kind);
      return found !== undefined;
    }, PATH_MS);
    return found!;
  }

  /**
   * Waits until packets take paths of that kind and neither end has changed its path for a while.
   *
   * Whenever it changes, what is still under way on a slower path comes after what went by the new one.
   *
   * @returns the paths of both ends, to be compared and read
   */
  async untilSettled(kind: "direct" | "relayed"): Promise<string> {
    let [paths, since] = ["", 0];
    await this.untilStatus("client", async ({ connections }) => {
      const seen = pathsOf(connections, (await this.status("gateway"))?.connections ?? []);
      if (seen !== paths) [paths, since] = [seen, performance.now()];
      return connections.some((connection) => pathKind(connection) === kind) &&
        performance.now() - since >= SETTLED_MS;
    });
    return paths;
  }

  /** The paths that both ends take now, as {@link untilSettled} names them. */
  async paths(): Promise<string> {
    const [client, gateway] = await Promise.all([this.status("client"), this.status("gateway")]);
    return pathsOf(client?.connections ?? [], gateway?.connections ?? []);
  }

  /** Makes the client start over, as it does when the network changes. */
  async resetClient(): Promise<void> {
    const client = this.process("client");
    const since = client.lineCount;
    const start = performance.now();
    client.signal("SIGHUP");
    await client.waitForLine(/SIGHUP/, READY_MS, since);
    // What was connected is connected anew at once: only older handshakes must be gone.
    await this.untilStatus(
      "client",
      (status) =>
        status.portal === "connected" &&
        status.connections.every(({ lastHandshakeMs }) =>
          (lastHandshakeMs ?? 0) <= performance.now() - start
        ),
    );
  }

  /** Ends everything and removes everything. */
  async close(graceMs?: number): Promise<void> {
    await this.topology.close(graceMs);
    globalThis.removeEventListener("unload", this.#onUnload);
    this.#removeFolder();
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #args(name: ProgramName): string[] {
    const { onlyFamily } = this.topology.options;
    const has4 = onlyFamily !== "IPv6";
    const has6 = onlyFamily !== "IPv4";
    const apiUrl = ["--api-url", has4 ? API_URL : `ws://[${ADDRESS.portal[1]}]:8080/`];
    switch (name) {
      case "portal":
        return [
          ...["--config", `${this.folder}/portal.jsonc`],
          ...["--database", `${this.folder}/portal.db`],
          "--listen",
          [
            ...(has4 ? [`${ADDRESS.portal[0]}:8080`] : []),
            ...(has6 ? [`[${ADDRESS.portal[1]}]:8080`] : []),
          ].join(","),
        ];
      case "relay":
      case "relay-2": {
        const [v4, v6] = name === "relay" ? ADDRESS.relay : ADDRESS.relay2;
        return [
          ...apiUrl,
          ...(has4 ? ["--public-ip4-addr", v4] : []),
          ...(has6 ? ["--public-ip6-addr", v6] : []),
          ...["--drain-timeout", "0s"],
        ];
      }
      case "gateway":
      case "gateway-2":
      case "client":
        return [
          ...apiUrl,
          ...["--firezone-id", `demo-${name}`, "--firezone-name", `demo ${name}`],
          ...["--status-socket", this.#statusSocket(name)],
          ...(name === "client" ? ["--dns-control", "disabled"] : []),
          ...(name === "client" ? ["--state-dir", `${this.folder}/client-state`] : []),
        ];
    }
  }

  #env(name: ProgramName): Record<string, string> {
    return {
      NO_COLOR: "1",
      DENO_NO_UPDATE_CHECK: "1",
      FIREZONE_UNPACK_DIR: `${this.folder}/unpacked`,
      ...(name === "portal" ? {} : { FIREZONE_TOKEN: this.token(name) }),
    };
  }

  #statusSocket(name: ProgramName): string {
    return `${this.folder}/${name}.sock`;
  }

  #removeFolder(): void {
    try {
      Deno.removeSync(this.folder, { recursive: true });
    } catch {
      // It is gone already.
    }
  }
}

function pathsOf(...ends: readonly (readonly ConnectionStatus[])[]): string {
  const texts = ends.map((connections) =>
    connections.map(({ path }) => path ? `${path.kind} ${path.local} ${path.remote}` : "none").join(
      ", ",
    )
  );
  return texts.join(" | ");
}

function token(kind: string): string {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `${kind}-${random.toHex()}`;
}

/** What deployments that were killed left behind, if it is ours. */
function removeOldFolders(prefix: string): void {
  for (const name of orphans(TEMP_FOLDER, prefix)) {
    const path = `${TEMP_FOLDER}/${name}`;
    if (Deno.lstatSync(path).uid === Deno.uid()) Deno.removeSync(path, { recursive: true });
  }
}

async function requireExecutables(): Promise<void> {
  for (const { name } of Object.values(PROGRAMS)) {
    const there = await Deno.stat(`${ROOT}dist/${name}`).then(() => true, () => false);
    if (!there) throw new Error(`Cannot find dist/${name}: make it with deno task compile`);
  }
}
