/**
 * Network namespaces for the demo and for tests: made, joined, filled with programs, taken away.
 *
 *     await using net = await Namespaces.create("fzt", ["a", "b"]);
 *     await net.link(["a", "eth0"], ["b", "eth0"]);
 *     await net.get("a").ip("addr add 10.0.0.1/24 dev eth0", "link set eth0 up");
 *     const server = net.get("b").spawn("server", ["wireguard-go", "-f", "wg0"]);
 *
 * Needs `ip` and util-linux, and root, where "root" may be that of a user namespace. Names on the
 * machine are `PREFIX-PID-NAME`. What a process that was killed left behind goes away the next time
 * that somebody uses the prefix; its programs go with it at once.
 * @module
 */

import { Process, type ProcessOptions } from "./netns/process.ts";

export { Process, ProcessError, type ProcessOptions } from "./netns/process.ts";

const NETNS_FOLDER = "/run/netns";

/** How a command ended. */
export interface CommandResult {
  /** Exit status. */
  readonly code: number;
  /** Its standard output. */
  readonly stdout: string;
  /** Its standard error. */
  readonly stderr: string;
}

/** Options of {@link Namespace.run}. */
export interface RunOptions {
  /** Variables beside those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** What it reads. */
  readonly stdin?: string;
  /** When it is killed; by default it is not. */
  readonly timeoutMs?: number;
}

/** One network namespace. */
export class Namespace {
  /** Name within its group: `client`. */
  readonly name: string;
  /** Name on the machine, for `ip netns exec`. */
  readonly fullName: string;
  readonly #owner: Namespaces;

  /** For {@link Namespaces.create} alone. */
  constructor(owner: Namespaces, name: string, fullName: string) {
    this.#owner = owner;
    this.name = name;
    this.fullName = fullName;
  }

  /** The command line that runs a command in here. */
  enter(command: readonly string[]): string[] {
    return ["nsenter", `--net=${NETNS_FOLDER}/${this.fullName}`, "--", ...command];
  }

  /** Runs `ip` commands, given without the word `ip`; the first that fails is an error. */
  async ip(...commands: string[]): Promise<void> {
    await runIpBatch(["-n", this.fullName], commands);
  }

  /** Sets kernel parameters below `/proc/sys`, such as `net.ipv4.ip_forward`. */
  async sysctl(values: Readonly<Record<string, string | number>>): Promise<void> {
    const lines = Object.entries(values).map(([key, value]) =>
      `echo ${value} > /proc/sys/${key.replaceAll(".", "/")}`
    );
    const { code, stderr } = await this.run(["sh", "-ec", lines.join("\n")]);
    if (code !== 0) throw new Error(`Cannot set kernel parameters in ${this.name}: ${stderr}`);
  }

  /** Runs a command to its end. */
  run(command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return runCommand(["setpriv", "--pdeathsig", "KILL", "--", ...this.enter(command)], options);
  }

  /** Starts a program, which ends with its namespace at the latest. */
  spawn(
    name: string,
    command: readonly string[],
    options: Omit<ProcessOptions, "name" | "command"> = {},
  ): Process {
    return this.#owner.adopt(new Process({ ...options, name, command: this.enter(command) }));
  }

  /** Ids of the processes that run in here. */
  async pids(): Promise<number[]> {
    return parsePids((await runCommand(["ip", "netns", "pids", this.fullName])).stdout);
  }
}

/** A group of namespaces that live and end together. */
export class Namespaces implements AsyncDisposable {
  readonly #namespaces = new Map<string, Namespace>();
  readonly #processes: Process[] = [];
  readonly #onUnload = () => this.closeNow();
  #open = true;

  private constructor(prefix: string, names: readonly string[]) {
    for (const name of names) {
      this.#namespaces.set(name, new Namespace(this, name, `${prefix}-${Deno.pid}-${name}`));
    }
  }

  /**
   * Makes the namespaces, with their loopback up and without waiting for duplicate addresses.
   *
   * The same process may have one group per prefix at a time.
   */
  static async create(prefix: string, names: readonly string[]): Promise<Namespaces> {
    await sweep(prefix);
    const group = new Namespaces(prefix, names);
    globalThis.addEventListener("unload", group.#onUnload);
    try {
      await runIpBatch([], group.#all().map((ns) => `netns add ${ns.fullName}`));
      await Promise.all(
        group.#all().map(async (ns) => {
          await ns.sysctl({
            "net.ipv6.conf.all.dad_transmits": 0,
            "net.ipv6.conf.default.dad_transmits": 0,
          });
          await ns.ip("link set lo up");
        }),
      );
    } catch (error) {
      await group.close();
      throw error;
    }
    return group;
  }

  /** The namespace of that name. */
  get(name: string): Namespace {
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined) throw new Error(`There is no namespace ${name}`);
    return namespace;
  }

  /** Joins two namespaces by a pair of interfaces, given as [namespace, interface]. */
  async link(a: readonly [string, string], b: readonly [string, string]): Promise<void> {
    await this.linkAll([[a, b]]);
  }

  /** Joins several pairs at once. */
  async linkAll(
    pairs: readonly (readonly [readonly [string, string], readonly [string, string]])[],
  ): Promise<void> {
    await runIpBatch(
      [],
      pairs.map(([a, b]) =>
        `link add ${a[1]} netns ${this.get(a[0]).fullName} type veth ` +
        `peer name ${b[1]} netns ${this.get(b[0]).fullName}`
      ),
    );
  }

  /** Makes a process end when this group does. */
  adopt(process: Process): Process {
    this.#processes.push(process);
    return process;
  }

  /** Ends all programs, asking first, newest first; then takes the namespaces away. */
  async close(graceMs = 3_000): Promise<void> {
    if (!this.#open) return;
    await Promise.all(this.#processes.map((process) => process.stop(graceMs)));
    await Promise.all(this.#all().map(async (ns) => killAll(await ns.pids())));
    this.closeNow();
  }

  /** The same without asking and without waiting, for when the process is about to end. */
  closeNow(): void {
    if (!this.#open) return;
    this.#open = false;
    globalThis.removeEventListener("unload", this.#onUnload);
    for (const process of this.#processes) process.kill();
    for (const ns of this.#all()) {
      if (exists(`${NETNS_FOLDER}/${ns.fullName}`)) deleteNamespaceNow(ns.fullName);
    }
  }

  /** Closes the group. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #all(): Namespace[] {
    return [...this.#namespaces.values()];
  }
}

/** Removes namespaces of a prefix whose makers are gone, with all that runs in them. */
export async function sweep(prefix: string): Promise<void> {
  for (const name of orphans(NETNS_FOLDER, prefix)) {
    killAll(parsePids((await runCommand(["ip", "netns", "pids", name])).stdout));
    deleteNamespaceNow(name);
  }
}

/** Names in a folder that are `PREFIX-PID-…` where no such process is left. */
export function orphans(folder: string, prefix: string): string[] {
  if (!exists(folder)) return [];
  const pattern = new RegExp(`^${prefix}-(\\d+)-`);
  return Array.from(Deno.readDirSync(folder), ({ name }) => name).filter((name) => {
    const pid = pattern.exec(name)?.[1];
    return pid !== undefined && !exists(`/proc/${pid}`);
  });
}

/** Runs a command to its end. */
export async function runCommand(
  command: readonly string[],
  options: RunOptions = {},
): Promise<CommandResult> {
  const child = new Deno.Command(command[0]!, {
    args: command.slice(1),
    env: { ...options.env },
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(options.timeoutMs === undefined ? {} : { signal: AbortSignal.timeout(options.timeoutMs) }),
  }).spawn();
  const written = options.stdin === undefined ? undefined : writeAll(child.stdin, options.stdin);
  const { code, stdout, stderr } = await child.output();
  await written;
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr).trimEnd() };
}

async function runIpBatch(flags: readonly string[], commands: readonly string[]): Promise<void> {
  const stdin = commands.join("\n") + "\n";
  const { code, stderr } = await runCommand(["ip", ...flags, "-batch", "-"], { stdin });
  if (code === 0) return;
  const line = Number(/Command failed -:(\d+)/.exec(stderr)?.[1]);
  const failed = commands[line - 1] ?? commands.join("; ");
  throw new Error(`ip ${[...flags, failed].join(" ")}: ${stderr.replaceAll("\n", "; ")}`);
}

async function writeAll(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // The command ended without reading it all; its exit status tells.
  }
}

function deleteNamespaceNow(name: string): void {
  new Deno.Command("ip", { args: ["netns", "delete", name], stdout: "null", stderr: "null" })
    .outputSync();
}

function parsePids(text: string): number[] {
  return text.split("\n").filter((line) => line !== "").map(Number);
}

function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      Deno.kill(pid, "SIGKILL");
    } catch {
      // It ended meanwhile.
    }
  }
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
