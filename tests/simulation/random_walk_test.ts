/**
 * Whatever happens to a tunnel, in whatever order: once it is over, what is granted is reachable and
 * what is not is not. Seeds replay exactly; one that fails becomes a test of its own.
 * @module
 */

import { assertEquals } from "@std/assert";
import { ip, type IpAddress, type Prefix, prefix } from "@firezone/core/ip";
import type { Filter } from "@firezone/core/portal";
import { NAT_KINDS, seededRandom } from "@firezone/core/testing";
import {
  ADDRESSES,
  behindNat,
  cidrResource,
  gatewayId,
  IDS,
  TunnelWorld,
  udpPacket,
} from "./tunnel_world.ts";

const SEEDS = 16;
const STEPS = 12;
/** From the end of a trouble until everything works; more than a path is believed in. */
const RECOVERY_MS = 20_000;

interface Granted {
  readonly range: Prefix;
  readonly filters: readonly Filter[];
}

/** Ranges that resources come and go with, and a host in each. */
const RANGES = ["10.0.0.0/24", "10.0.0.0/16", "10.0.1.0/24", "10.0.1.7/32"].map((text) =>
  prefix(text)
);
const HOSTS = ["10.0.0.7", "10.0.1.7", "10.0.2.7", "10.1.0.7"].map((text) => ip(text));
const DNS_ONLY: Filter[] = [{ protocol: "udp", portStart: 53, portEnd: 53 }];

class Walk {
  readonly world: TunnelWorld;
  readonly steps: string[] = [];
  readonly #random: (below: number) => number;
  readonly #granted = new Map<string, Granted>();
  #moves = 0;

  constructor(seed: number) {
    const random = seededRandom(seed);
    this.#random = (below) => random(2).reduce((sum, byte) => sum * 256 + byte, 0) % below;
    const kinds = Object.values(NAT_KINDS);
    const place = (name: string, address: string, inside: string) =>
      behindNat(name, address, inside, kinds[this.#random(kinds.length)]);
    this.world = new TunnelWorld({
      seed,
      client: place("home", "198.51.100.1", "192.168.1.2"),
      gateway: place("office", "198.51.100.2", "10.9.0.2"),
      moreGateways: [place("second", "198.51.100.3", "10.9.1.2")],
      relays: [{ v4: "203.0.113.1" }, { v4: "203.0.113.2" }],
    });
    this.#granted.set(IDS.resource, { range: RANGES[0]!, filters: [] });
    this.world.network.runFor(1000);
  }

  step(): void {
    const actions: Record<string, () => void> = {
      "idle for a while": () => this.world.network.runFor(30_000 + this.#random(600_000)),
      "roam": () => this.#roam(),
      "client starts anew": () => this.world.restartClient(),
      "gateway starts anew": () => this.world.restartGateway(this.#random(2)),
      "gateway roams": () => this.#roamGateway(),
      "gateway ends and comes back": () => this.#loseGateway(),
      "portal away": () => this.#losePortal(),
      "relay reboots": () => this.#rebootRelay(true),
      "relay reboots unnoticed": () => this.#rebootRelay(false),
      "direct path blocked": () => this.#blockDirect(),
      "bad link": () => this.#badLink(),
      "resource granted": () => this.#grant(),
      "resource taken away": () => this.#takeAway(),
      "access lost at the gateway": () => this.#loseAccess(),
    };
    const names = Object.keys(actions);
    const name = names[this.#random(names.length)]!;
    this.steps.push(name);
    actions[name]!();
  }

  /** Everything granted is reached, in both directions, and nothing else is. */
  check(): void {
    for (const host of HOSTS) {
      for (const port of [53, 80]) {
        const expected = this.#admits(host, port);
        const got = this.#reaches(host, port, expected ? RECOVERY_MS : 3_000);
        assertEquals(got, expected, `${host} port ${port} after ${this.steps.join(", ")}`);
      }
    }
  }

  #admits(host: IpAddress, port: number): boolean {
    return [...this.#granted.values()].some(({ range, filters }) =>
      range.contains(host) && (filters.length === 0 || port === 53)
    );
  }

  #reaches(host: IpAddress, port: number, limitMs: number): boolean {
    const { world } = this;
    const end = world.network.now + limitMs;
    while (world.network.now < end) {
      const before = world.gateways.map(({ received }) => received.length);
      const packet = udpPacket(ADDRESSES.client.ipv4, host, this.#random(256));
      packet.set([port >> 8, port & 0xff], 22);
      world.sendFromClient(packet);
      const arrivedAt = () => world.gateways.findIndex((g, i) => g.received.length > before[i]!);
      if (!world.network.runUntil(() => arrivedAt() >= 0, 250)) continue;
      const gateway = world.gateways[arrivedAt()]!;
      const reply = answerTo(gateway.received.at(-1)!);
      const answered = world.client.received.length;
      gateway.send(world.network.now, reply);
      if (world.runUntilClientGot(answered + 1, 1000)) return true;
    }
    return false;
  }

  #roam(): void {
    const { world } = this;
    const n = ++this.#moves;
    const place = behindNat(`place-${n}`, `198.51.101.${n}`, "172.16.0.2", NAT_KINDS.symmetric);
    world.network.move(world.client.host, place(world.network));
    world.client.machine.reset(world.network.now, new Uint8Array(32).fill(n));
    world.initClient();
  }

  #roamGateway(): void {
    const i = this.#random(2);
    const { machine } = this.world.gateways[i]!;
    machine.reset(this.world.network.now, new Uint8Array(32).fill(100 + ++this.#moves));
    this.world.initGateway(i);
  }

  #loseGateway(): void {
    const { world } = this;
    const i = this.#random(2);
    world.gateways[i]!.machine.shutDown(world.network.now);
    world.offline.add(gatewayId(i));
    world.network.runFor(200);
    this.#use(5_000);
    world.offline.clear();
    world.restartGateway(i);
  }

  #losePortal(): void {
    const { world } = this;
    world.portalIsUp = false;
    this.#use(this.#random(60_000));
    world.portalIsUp = true;
    world.initClient();
    for (const i of world.gateways.keys()) world.initGateway(i);
  }

  #rebootRelay(isTold: boolean): void {
    const { world } = this;
    world.relays[this.#random(2)]!.restart(`secret ${++this.#moves}`);
    if (!isTold) return;
    const now = world.network.now;
    const tell = (who: string) =>
      ({ tag: "relays-presence", disconnectedIds: [], connected: world.relaysFor(who) }) as const;
    world.client.machine.handlePortalMessage(now, tell("client"));
    for (const [i, gateway] of world.gateways.entries()) {
      gateway.machine.handlePortalMessage(now, tell(gatewayId(i)));
    }
  }

  #blockDirect(): void {
    const restore = this.world.network.dropIf(({ from, to }) =>
      !isRelay(from.ip) && !isRelay(to.ip)
    );
    this.#use(20_000);
    restore();
  }

  #badLink(): void {
    const { link } = this.world.client.host;
    link.loss = 0.2;
    this.#use(20_000);
    link.loss = 0;
  }

  #grant(): void {
    const range = RANGES[this.#random(RANGES.length)]!;
    const id = `00000000-0000-4000-8000-00000000010${this.#random(3)}`;
    const filters = this.#random(2) === 0 ? [] : DNS_ONLY;
    // A resource that was another one before is another one for the gateways, too.
    this.#withdraw(id);
    const resource = cidrResource(id, range, filters);
    this.#granted.set(id, { range, filters });
    this.world.putResource(resource);
    this.world.client.machine.handlePortalMessage(this.world.network.now, {
      tag: "resource-created-or-updated",
      resource,
    });
  }

  #takeAway(): void {
    const ids = [...this.#granted.keys()];
    if (ids.length === 1) return;
    const id = ids[this.#random(ids.length)]!;
    this.#granted.delete(id);
    this.world.resources.delete(id);
    this.world.client.machine.handlePortalMessage(this.world.network.now, {
      tag: "resource-deleted",
      resourceId: id,
    });
    this.#withdraw(id);
  }

  #loseAccess(): void {
    this.#withdraw([...this.#granted.keys()][this.#random(this.#granted.size)]!);
  }

  #withdraw(resourceId: string): void {
    for (const { machine } of this.world.gateways) {
      machine.handlePortalMessage(this.world.network.now, {
        tag: "reject-access",
        clientId: IDS.client,
        resourceId,
      });
    }
  }

  /** Sends now and then, whether or not it arrives. */
  #use(ms: number): void {
    const end = this.world.network.now + ms;
    while (this.world.network.now < end) {
      const host = HOSTS[this.#random(HOSTS.length)]!;
      this.world.sendFromClient(udpPacket(ADDRESSES.client.ipv4, host, 1));
      this.world.network.runFor(500);
    }
  }
}

/** The packet with source and destination exchanged. */
function answerTo(packet: Uint8Array): Uint8Array {
  const reply = packet.slice();
  reply.set(packet.subarray(12, 16), 16);
  reply.set(packet.subarray(16, 20), 12);
  reply.set(packet.subarray(20, 22), 22);
  reply.set(packet.subarray(22, 24), 20);
  return reply;
}

function isRelay(address: IpAddress): boolean {
  return address.text.startsWith("203.0.113.");
}

for (let seed = 1; seed <= SEEDS; seed++) {
  Deno.test(`whatever happens, what is granted is reached and nothing else, seed ${seed}`, () => {
    const walk = new Walk(seed);
    walk.check();
    for (let i = 0; i < STEPS; i++) {
      walk.step();
      walk.check();
    }
  });
}
