/**
 * What carries the packets in the tunnel bench: nothing, our programs, or another WireGuard.
 *
 *     client ── nat-a ── internet ── nat-b ── gateway ── web
 *        └──────────── one tunnel each ──────────┘
 *
 * All of them live in the demo's topology at the same time, each with an address of the web server
 * of its own, so runs can alternate from one second to the next. None sees what passes through
 * another.
 *
 * @module
 */

import { testAead } from "@firezone/core/testing";
import { findCommand } from "@firezone/tests/requirements";
import { Deployment } from "../demo/deployment.ts";
import { ADDRESS, type Topology } from "../demo/topology.ts";
import { runCommand } from "../netns.ts";

/** The systems that can be compared. */
export const SYSTEM_NAMES = [
  "none",
  "firezone",
  "wireguard-go",
  "wireguard-linux",
  "boringtun",
] as const;

/** One of them. */
export type SystemName = typeof SYSTEM_NAMES[number];

/** How the two ends meet. */
export type PathKind = "direct" | "relayed";

/** Something that carries packets between the client and the web server. */
export interface System {
  /** Its name. */
  readonly name: SystemName;
  /** Version or the like, for the report. */
  readonly detail: string;
  /** The web server's address that leads through it. */
  readonly address: string;
  /** The paths it can take. */
  readonly paths: readonly PathKind[];
  /** Processes whose time counts, all threads; empty where the kernel does the work. */
  readonly pids: (path: PathKind) => readonly number[];
  /** Makes it take a path, and returns when packets pass. */
  readonly use: (path: PathKind) => Promise<void>;
}

/** Largest packet inside every tunnel. */
export const INNER_MTU = 1280;

const PLAIN = { router: "10.50.0.1", web: "10.50.0.80", network: "10.50.0.0/24" };
/** Each WireGuard has a network between the tunnel's ends and one behind it. */
const NETWORKS = {
  "wireguard-go": { port: 51_820, inner: "10.91.0", web: "10.61.0" },
  "wireguard-linux": { port: 51_821, inner: "10.92.0", web: "10.62.0" },
  "boringtun": { port: 51_822, inner: "10.93.0", web: "10.63.0" },
} as const;
type WireGuardName = keyof typeof NETWORKS;

const USER_SPACE = { "wireguard-go": "wireguard-go", "boringtun": "boringtun-cli" } as const;
const PING_LIMIT_MS = 15_000;

/** The bench's network with its systems. */
export class TunnelNetwork implements AsyncDisposable {
  /** Those that this machine has, in the order asked for. */
  readonly systems: System[] = [];
  /** Those that it has not, with the reason. */
  readonly missing = new Map<SystemName, string>();
  readonly #deployment: Deployment;
  #path: PathKind = "direct";

  private constructor(deployment: Deployment) {
    this.#deployment = deployment;
  }

  /** Builds the topology and starts the systems. */
  static async create(prefix: string, names: readonly SystemName[]): Promise<TunnelNetwork> {
    const network = new TunnelNetwork(await Deployment.create({ prefix }));
    try {
      await network.#preparePlainPath();
      for (const name of names) await network.#add(name);
    } catch (error) {
      await network.close();
      throw error;
    }
    return network;
  }

  /** The namespaces. */
  get topology(): Topology {
    return this.#deployment.topology;
  }

  /** Ends one of our programs. @returns what it has printed */
  async stop(name: "client" | "gateway"): Promise<string> {
    await this.#deployment.process(name).stop();
    return await Deno.readTextFile(`${this.#deployment.folder}/${name}.log`);
  }

  /** Ends everything. */
  async close(): Promise<void> {
    await this.#deployment.close(1_000);
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #add(name: SystemName): Promise<void> {
    switch (name) {
      case "none":
        this.systems.push({
          name,
          detail: "the same way, without a tunnel",
          address: PLAIN.web,
          paths: ["direct"],
          pids: () => [],
          use: () => this.#untilReached(PLAIN.web),
        });
        return;
      case "firezone":
        return await this.#addFirezone();
      case "wireguard-linux":
        return await this.#addWireGuard(name, undefined);
      default: {
        const command = findCommand(USER_SPACE[name]);
        if (command === undefined) this.missing.set(name, `no ${USER_SPACE[name]} on the path`);
        else await this.#addWireGuard(name, command);
      }
    }
  }

  /** A route to the web server beside all tunnels, through the same routers. */
  async #preparePlainPath(): Promise<void> {
    const { topology } = this;
    await this.#addWebNetwork(PLAIN.router, PLAIN.web);
    await topology.get("internet").ip(`route add ${PLAIN.network} via ${ADDRESS.natB[0]}`);
    await topology.get("nat-b").ip(`route add ${PLAIN.network} via ${ADDRESS.gatewayLan[0]}`);
    await topology.get("gateway").sysctl({ "net.ipv4.ip_forward": 1 });
    const firewall = new URL("../netns/firewall.ts", import.meta.url).pathname;
    const command = [Deno.execPath(), "run", "-A", firewall, "masquerade", "eth1"];
    const { code, stderr } = await topology.get("gateway").run(command);
    if (code !== 0) throw new Error(`Cannot masquerade at the gateway: ${stderr}`);
  }

  async #addWebNetwork(router: string, web: string): Promise<void> {
    await this.topology.get("gateway").ip(`addr add ${router}/24 dev eth1`);
    await this.topology.get("web").ip(`addr add ${web}/24 dev eth0`);
  }

  async #addFirezone(): Promise<void> {
    const deployment = this.#deployment;
    await deployment.writeConfig({
      ...deployment.config(),
      resources: [{ name: "web", type: "ip", address: ADDRESS.web[0], sites: ["office"] }, {
        name: "web over IPv6",
        type: "ip",
        address: ADDRESS.web[1],
        sites: ["office"],
      }],
      policies: [{ accounts: ["laptop"], resources: ["web", "web over IPv6"] }],
    });
    await deployment.startAll();
    const pid = (name: "client" | "gateway" | "relay") => deployment.process(name).pid;
    this.systems.push({
      name: "firezone",
      detail: `this project, Deno ${Deno.version.deno}, ${testAead().detail}`,
      address: ADDRESS.web[0],
      paths: ["direct", "relayed"],
      pids: (path) => [
        pid("client"),
        pid("gateway"),
        ...path === "relayed" ? [pid("relay")] : [],
      ],
      use: (path) => this.#usePath(path),
    });
  }

  async #usePath(path: PathKind): Promise<void> {
    const deployment = this.#deployment;
    if (path !== this.#path) {
      if (path === "relayed") await this.topology.blockDirect();
      else await this.topology.unblockDirect();
      // As after a change of network. Packets still under way may begin the new connection at once.
      deployment.process("client").signal("SIGHUP");
      this.#path = path;
    }
    await this.#untilReached(ADDRESS.web[0]);
    await deployment.untilPath(path);
    await this.#untilReached(ADDRESS.web[0]);
  }

  async #addWireGuard(name: WireGuardName, command: string | undefined): Promise<void> {
    const { port, inner, web } = NETWORKS[name];
    // User-space ones have a control socket of that name, which no namespace keeps apart.
    const suffix = `${Deno.pid % 100_000}${name[0]}${name.at(-1)}`;
    const ends = [
      { ns: "client", device: `c${suffix}`, address: `${inner}.1`, peer: ADDRESS.natB[0] },
      { ns: "gateway", device: `g${suffix}`, address: `${inner}.2`, peer: ADDRESS.natA[0] },
    ] as const;
    const pids: number[] = [];
    for (const { ns, device } of ends) {
      if (command === undefined) {
        try {
          await this.topology.get(ns).ip(`link add ${device} type wireguard`);
        } catch {
          this.missing.set(name, "the kernel has no WireGuard");
          return;
        }
      } else {
        const args = name === "boringtun" ? ["--foreground", "--disable-drop-privileges"] : ["-f"];
        const process = this.topology.get(ns).spawn(`${name} ${ns}`, [command, ...args, device]);
        pids.push(process.pid);
        await this.#untilDevice(ns, device);
      }
    }
    const keys = await Promise.all(ends.map(() => makeKeys()));
    for (const [i, { ns, device, address, peer }] of ends.entries()) {
      const settings = [
        ...["wg", "set", device, "listen-port", String(port), "private-key", "/dev/stdin"],
        ...["peer", keys[1 - i]!.publicKey, "endpoint", `${peer}:${port}`],
        // Both begin at once, so that each opens its NAT for the other.
        ...["persistent-keepalive", "1", "allowed-ips", "0.0.0.0/0"],
      ];
      const namespace = this.topology.get(ns);
      const { code, stderr } = await namespace.run(settings, { stdin: keys[i]!.privateKey });
      if (code !== 0) throw new Error(`Cannot configure ${name}: ${stderr}`);
      await namespace.ip(
        `addr add ${address}/24 dev ${device}`,
        `link set ${device} mtu ${INNER_MTU} up`,
      );
    }
    await this.topology.get("client").ip(`route add ${web}.0/24 dev ${ends[0].device}`);
    await this.#addWebNetwork(`${web}.1`, `${web}.80`);
    this.systems.push({
      name,
      detail: await versionOf(name, command),
      address: `${web}.80`,
      paths: ["direct"],
      pids: () => pids,
      use: () => this.#untilReached(`${web}.80`),
    });
  }

  async #untilDevice(ns: string, device: string): Promise<void> {
    const socket = `/var/run/wireguard/${device}.sock`;
    for (let attempt = 0; attempt < 200; attempt++) {
      const exists = await Deno.lstat(socket).then(() => true, () => false);
      const link = await this.topology.get(ns).run(["ip", "link", "show", device]);
      if (exists && link.code === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`${device} did not come up`);
  }

  async #untilReached(address: string): Promise<void> {
    const until = performance.now() + PING_LIMIT_MS;
    do {
      const { code } = await this.topology.get("client").run(
        ["ping", "-n", "-c", "1", "-W", "1", address],
      );
      if (code === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    } while (performance.now() < until);
    throw new Error(`${address} does not answer the client`);
  }
}

async function makeKeys(): Promise<{ privateKey: string; publicKey: string }> {
  const privateKey = (await runCommand(["wg", "genkey"])).stdout.trim();
  const publicKey = (await runCommand(["wg", "pubkey"], { stdin: privateKey })).stdout.trim();
  return { privateKey, publicKey };
}

async function versionOf(name: WireGuardName, command: string | undefined): Promise<string> {
  if (command === undefined) return `Linux ${Deno.osRelease()}`;
  if (name === "wireguard-go") {
    const { code, stdout } = await runCommand(["dpkg-query", "-W", "-f", "${Version}", name]);
    if (code === 0) return `Debian's ${name} ${stdout}`;
  }
  return (await runCommand([command, "--version"])).stdout.split("\n")[0] ?? name;
}
