/**
 * The network of the demo, also that of the end-to-end tests.
 *
 *     client ── nat-a ──┐           ┌── nat-b ── gateway ── web
 *                       internet ───┤
 *              portal ──┘           └── relay
 *
 * Each name is a network namespace; `internet` is a router. Both NATs translate IPv4 and IPv6 and
 * let nothing in that nobody inside asked for. `web` stands for the private network: it knows no
 * route to clients, so that it answers only what the gateway sends in its own name.
 * @module
 */

import { type Namespace, Namespaces, type Process } from "../netns.ts";
import type { FetchReport } from "../netns/http_get.ts";
import type { Records } from "../netns/name_server.ts";

export type { Records } from "../netns/name_server.ts";

export type { FetchReport } from "../netns/http_get.ts";

/** Addresses in the topology. */
export const ADDRESS = {
  clientLan: ["192.168.1.2", "fd00:a::2"],
  natA: ["198.51.100.2", "2001:db8:a::2"],
  gatewayLan: ["192.168.2.2", "fd00:b::2"],
  natB: ["203.0.113.2", "2001:db8:b::2"],
  relay: ["192.0.2.2", "2001:db8:c::2"],
  portal: ["192.0.2.6", "2001:db8:d::2"],
  /** Where there are spares; on the Internet, with no NAT in front. */
  gateway2: ["192.0.2.10", "2001:db8:e::2"],
  relay2: ["192.0.2.14", "2001:db8:f::2"],
  /** Granted to the client, but only TCP port {@link WEB_PORT}. */
  web: ["10.20.0.80", "fd00:20::80"],
  /** On the same server, not granted to anybody. */
  payroll: ["10.30.0.80", "fd00:30::80"],
} as const;

/** Where the web server listens, and what the client may reach. */
export const WEB_PORT = 80;

/** Where the web server listens as well; the resource's filters leave it out. */
export const UNGRANTED_PORT = 8000;

/** The namespaces, in the order of a packet's way. */
export const NAMESPACE_NAMES: readonly string[] = [
  "client",
  "nat-a",
  "internet",
  "nat-b",
  "gateway",
  "web",
  "relay",
  "portal",
];

const SPARE_NAMES: readonly string[] = ["gateway-2", "relay-2"];

/** How the network differs from the demo's. */
export interface TopologyOptions {
  /** NATs give each flow a port of its own, so that nobody can guess which. */
  readonly symmetricNats?: boolean;
  /** The only family outside the private network; both by default. */
  readonly onlyFamily?: "IPv4" | "IPv6" | undefined;
  /** There is a second gateway beside the first, and a second relay. */
  readonly hasSpares?: boolean;
}

const SCRIPTS = new URL("../netns/", import.meta.url);
const BRIDGE = "br0";

/** See the head of this file. */
export class Topology implements AsyncDisposable {
  /** All namespaces; programs that run in them end with the topology. */
  readonly namespaces: Namespaces;
  /** How it differs from the demo's. */
  readonly options: TopologyOptions;

  private constructor(namespaces: Namespaces, options: TopologyOptions) {
    this.namespaces = namespaces;
    this.options = options;
  }

  /** Builds it, web server included. */
  static async create(prefix: string, options: TopologyOptions = {}): Promise<Topology> {
    const names = [...NAMESPACE_NAMES, ...options.hasSpares ? SPARE_NAMES : []];
    const topology = new Topology(await Namespaces.create(prefix, names), options);
    try {
      await topology.#build();
    } catch (error) {
      await topology.close();
      throw error;
    }
    return topology;
  }

  /** The namespace of that name. */
  get(name: string): Namespace {
    return this.namespaces.get(name);
  }

  /** Drops UDP between the client's NAT and gateways from now on, in both families. */
  async blockDirect(): Promise<void> {
    const gateways = [ADDRESS.natB, ...this.options.hasSpares ? [ADDRESS.gateway2] : []];
    const pairs = gateways.flatMap((gateway) =>
      ADDRESS.natA.flatMap((address, i) => [address, gateway[i]!])
    );
    await this.#script("internet", "firewall.ts", "drop-udp-between", ...pairs);
  }

  /** Takes the effect of {@link blockDirect} back. */
  async unblockDirect(): Promise<void> {
    await this.#script("internet", "firewall.ts", "clear");
  }

  /** Loses that part of all datagrams that cross the Internet, from now on; needs `nft`. */
  async losePackets(percent: number): Promise<void> {
    // Several datagrams that are sent as one would be lost as one.
    const senders = ["client", "gateway", "relay"];
    await Promise.all(senders.map((name) => this.get(name).ip("link set eth0 gso_max_segs 1")));
    const rules = "table inet loss { chain forwarded {\n" +
      "type filter hook forward priority 0\n" +
      `numgen random mod 100 < ${percent} drop\n}\n}`;
    const { code, stderr } = await this.get("internet").run(["nft", rules]);
    if (code !== 0) throw new Error(`nft ${rules}: ${stderr}`);
  }

  /** Fetches a page of the web server from within a namespace. */
  async fetchPage(
    from: string,
    address: string,
    limitMs: number,
    port = WEB_PORT,
  ): Promise<FetchReport> {
    return JSON.parse(await this.#script(from, "http_get.ts", "page", address, port, limitMs));
  }

  /** Starts a web server in a namespace. */
  async startWebServer(
    name: string,
    addresses: readonly string[],
    port = WEB_PORT,
  ): Promise<Process> {
    const command = scriptCommand("web_server.ts", port, ...addresses);
    const process = this.get(name).spawn(`web server, port ${port}`, command);
    await process.waitForLine(/^listening$/, 10_000);
    return process;
  }

  /** Starts a DNS server in a namespace. @param records as `name_server.ts` takes them */
  async startNameServer(
    name: string,
    records: Records,
    addresses: readonly string[],
  ): Promise<Process> {
    const command = scriptCommand("name_server.ts", JSON.stringify(records), ...addresses);
    const process = this.get(name).spawn("name server", command);
    await process.waitForLine(/^listening$/, 10_000);
    return process;
  }

  /** Asks a DNS server from within a namespace: `NOERROR: 10.0.0.1,10.0.0.2`. */
  async askName(
    from: string,
    transport: "udp" | "tcp",
    server: string,
    name: string,
    type: string,
  ): Promise<string> {
    const { stdout } = await this.get(from)
      .run(scriptCommand("ask_dns.ts", transport, server, name, type));
    return stdout.trimEnd();
  }

  /** Downloads for a while from within a namespace. */
  async download(from: string, address: string, durationMs: number): Promise<FetchReport> {
    const args = ["stream", address, WEB_PORT, durationMs];
    return JSON.parse(await this.#script(from, "http_get.ts", ...args));
  }

  /** Ends all programs and takes the namespaces away. */
  async close(graceMs?: number): Promise<void> {
    await this.namespaces.close(graceMs);
  }

  /** Closes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #build(): Promise<void> {
    await this.namespaces.linkAll([
      [["client", "eth0"], ["nat-a", "lan"]],
      [["nat-a", "wan"], ["internet", "nat-a"]],
      [["nat-b", "wan"], ["internet", "nat-b"]],
      [["gateway", "eth0"], ["nat-b", "lan"]],
      [["gateway", "eth1"], ["web", "eth0"]],
      [["relay", "eth0"], ["internet", "relay"]],
      [["portal", "eth0"], ["internet", "portal"]],
    ]);
    const { hasSpares } = this.options;
    if (hasSpares) await this.#linkSpares();
    await Promise.all([
      this.#host("client", ADDRESS.clientLan, "192.168.1.1", "fd00:a::1"),
      this.#nat("nat-a", ["192.168.1.1", "fd00:a::1"], ADDRESS.natA, [
        "198.51.100.1",
        "2001:db8:a::1",
      ]),
      this.#internet(),
      this.#nat("nat-b", ["192.168.2.1", "fd00:b::1"], ADDRESS.natB, [
        "203.0.113.1",
        "2001:db8:b::1",
      ]),
      this.#host("gateway", ADDRESS.gatewayLan, "192.168.2.1", "fd00:b::1"),
      this.#privateSide("gateway", 1),
      this.#host("relay", ADDRESS.relay, "192.0.2.1", "2001:db8:c::1", 30),
      this.#host("portal", ADDRESS.portal, "192.0.2.5", "2001:db8:d::1", 30),
      ...hasSpares
        ? [
          this.#host("gateway-2", ADDRESS.gateway2, "192.0.2.9", "2001:db8:e::1", 30),
          this.#privateSide("gateway-2", 2),
          this.#host("relay-2", ADDRESS.relay2, "192.0.2.13", "2001:db8:f::1", 30),
        ]
        : [],
      this.#web(),
    ]);
  }

  /** Both gateways are on one private network, which a bridge makes. */
  async #linkSpares(): Promise<void> {
    await this.namespaces.linkAll([
      [["gateway-2", "eth0"], ["internet", "gateway-2"]],
      [["gateway-2", "eth1"], ["web", "eth1"]],
      [["relay-2", "eth0"], ["internet", "relay-2"]],
    ]);
    await this.get("web").ip(
      `link add ${BRIDGE} type bridge`,
      ...["eth0", "eth1"].flatMap((port) => [
        `link set ${port} master ${BRIDGE}`,
        `link set ${port} up`,
      ]),
    );
  }

  /** A machine with one interface. */
  async #host(
    name: string,
    [v4, v6]: readonly [string, string],
    router4: string,
    router6: string,
    bits4 = 24,
  ): Promise<void> {
    await this.#ipOutside(
      name,
      `addr add ${v4}/${bits4} dev eth0`,
      `addr add ${v6}/64 dev eth0 nodad`,
      "link set eth0 up",
      `route add default via ${router4}`,
      `route add default via ${router6}`,
    );
  }

  async #nat(
    name: string,
    [lan4, lan6]: readonly [string, string],
    [wan4, wan6]: readonly [string, string],
    [router4, router6]: readonly [string, string],
  ): Promise<void> {
    await this.get(name).sysctl(FORWARDING);
    await this.#ipOutside(
      name,
      `addr add ${lan4}/24 dev lan`,
      `addr add ${lan6}/64 dev lan nodad`,
      `addr add ${wan4}/24 dev wan`,
      `addr add ${wan6}/64 dev wan nodad`,
      "link set lan up",
      "link set wan up",
      `route add default via ${router4}`,
      `route add default via ${router6}`,
    );
    const ports = this.options.symmetricNats ? ["random"] : [];
    await this.#script(name, "firewall.ts", "masquerade", "wan", ...ports);
  }

  /** Runs `ip` commands except those of a family that is not there. */
  async #ipOutside(name: string, ...commands: string[]): Promise<void> {
    const { onlyFamily } = this.options;
    await this.get(name).ip(...commands.filter((command) => {
      const family = command.includes(":") ? "IPv6" : /\d\./.test(command) ? "IPv4" : undefined;
      return family === undefined || onlyFamily === undefined || family === onlyFamily;
    }));
  }

  async #internet(): Promise<void> {
    await this.get("internet").sysctl(FORWARDING);
    const sides = [
      ["nat-a", "198.51.100.1/24", "2001:db8:a::1/64"],
      ["nat-b", "203.0.113.1/24", "2001:db8:b::1/64"],
      ["relay", "192.0.2.1/30", "2001:db8:c::1/64"],
      ["portal", "192.0.2.5/30", "2001:db8:d::1/64"],
      ...this.options.hasSpares
        ? [
          ["gateway-2", "192.0.2.9/30", "2001:db8:e::1/64"],
          ["relay-2", "192.0.2.13/30", "2001:db8:f::1/64"],
        ]
        : [],
    ];
    const commands = sides.flatMap(([side, v4, v6]) => [
      `addr add ${v4} dev ${side}`,
      `addr add ${v6} dev ${side} nodad`,
      `link set ${side} up`,
    ]);
    await this.#ipOutside("internet", ...commands);
  }

  /** A gateway's place in the private networks: the host of that number. */
  async #privateSide(name: string, host: number): Promise<void> {
    await this.get(name).ip(
      `addr add 10.20.0.${host}/24 dev eth1`,
      `addr add fd00:20::${host}/64 dev eth1 nodad`,
      `addr add 10.30.0.${host}/24 dev eth1`,
      `addr add fd00:30::${host}/64 dev eth1 nodad`,
      "link set eth1 up",
    );
  }

  async #web(): Promise<void> {
    const addresses = [...ADDRESS.web, ...ADDRESS.payroll];
    const device = this.options.hasSpares ? BRIDGE : "eth0";
    await this.get("web").ip(
      ...addresses.map((address) =>
        address.includes(":")
          ? `addr add ${address}/64 dev ${device} nodad`
          : `addr add ${address}/24 dev ${device}`
      ),
      `link set ${device} up`,
    );
    const ports = [WEB_PORT, UNGRANTED_PORT];
    await Promise.all(ports.map((port) => this.startWebServer("web", addresses, port)));
  }

  async #script(
    name: string,
    script: string,
    ...args: (string | number)[]
  ): Promise<string> {
    const { code, stdout, stderr } = await this.get(name).run(scriptCommand(script, ...args));
    if (code !== 0) throw new Error(`${script} ${args.join(" ")} failed in ${name}: ${stderr}`);
    return stdout;
  }
}

const FORWARDING = { "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1 };

function scriptCommand(script: string, ...args: (string | number)[]): string[] {
  return [Deno.execPath(), "run", "-A", new URL(script, SCRIPTS).pathname, ...args.map(String)];
}
