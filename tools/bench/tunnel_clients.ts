/**
 * What a gateway with many idle clients costs: `deno run -A tools/bench/tunnel_clients.ts [CLIENTS]`.
 *
 * The real machines of one gateway, a relay and many clients connect on a network of one wire (the
 * tests' network asks every host after every step, which takes hours here) and then say nothing. Only the gateway's machine is on the clock: how much of a processor's time it takes
 * in each second of the network's time, keep-alives and all. System calls come on top, one or two
 * for each datagram that is counted.
 * @module
 */

import { base64 } from "@firezone/core/bytes";
import { type AeadBackend, selectAead } from "@firezone/core/crypto";
import { ip, type IpAddress, prefix, SocketAddress } from "@firezone/core/ip";
import { Deadlines } from "@firezone/core/deadlines";
import { type Owner, seededRandom, TransmitQueue } from "@firezone/core/testing";
import type { ClientMessage, GatewayMessage } from "@firezone/core/portal";
import type { Transmit } from "@firezone/core/transmit";
import { after, earlier, type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import { ClientState } from "@firezone/client";
import { GatewayState } from "@firezone/gateway";
import { EPOCH_SECONDS, RELAY_PORT, RelayHost, udpPacket } from "@firezone/tests/simulation";

/** What it costs. */
export interface IdleCost {
  /** Clients that are connected. */
  readonly clients: number;
  /** Share of one processor that the gateway's machine takes, in percent. */
  readonly cpuPercent: number;
  /** Datagrams in and out of the gateway per second. */
  readonly datagramsPerSecond: number;
  /** Heap and other memory of V8 for each connection, both of its ends together, in bytes. */
  readonly bytesPerConnection: number;
}

const DELAY_MS = 1;
const RELAY = "203.0.113.1";
/** Where the gateway is. */
export const GATEWAY_ADDRESS = "192.0.2.1";
/** A host of the resource. */
export const SERVER: IpAddress = ip("10.0.0.7");
/** The port of all ends. */
export const PORT = 52_625;
const RESOURCE = { id: "resource", prefix: prefix("10.0.0.0/24") };
/** Connections are made at this pace: all at once would be another bench. */
const CLIENTS_PER_STEP = 20;
const STEP_MS = 100;
/** Longer than it takes a connection to count as idle. */
const SETTLE_MS = 60_000;
const MEASURED_MS = 100_000;

/** Connects that many clients, waits until they are idle, and measures. */
export function measureIdle(clients: number): IdleCost {
  const world = new World();
  for (let i = 0; i < clients; i++) world.addClient(i);
  world.wire.runFor(STEP_MS);
  const before = memory();
  for (let i = 0; i < clients; i++) {
    world.connect(i);
    if (i % CLIENTS_PER_STEP === 0) world.wire.runFor(STEP_MS);
  }
  world.wire.runFor(SETTLE_MS);
  const bytesPerConnection = (memory() - before) / clients;
  world.gateway.reset();
  world.wire.runFor(MEASURED_MS);
  const connected = world.gateway.machine.status(world.wire.now).connections
    .filter(({ state }) => state === "idle").length;
  return {
    clients: connected,
    cpuPercent: 100 * world.gateway.spentMs / MEASURED_MS,
    datagramsPerSecond: 1000 * world.gateway.datagrams / MEASURED_MS,
    bytesPerConnection,
  };
}

function memory(): number {
  (globalThis as { gc?: () => void }).gc?.();
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** A network where everybody reaches everybody after {@link DELAY_MS}, in order. */
export class Wire {
  /** The present instant. */
  now: Millis = 0 as Millis;
  readonly #owners = new Map<string, Owner>();
  readonly #addresses = new Map<Owner, SocketAddress>();
  readonly #deadlines = new Deadlines<Owner>();
  #due: { at: Millis; what: () => void }[] = [];

  /** Adds somebody; datagrams that name no source come from this address. */
  add(owner: Owner, address: SocketAddress): void {
    this.#owners.set(address.ip.text, owner);
    this.#addresses.set(owner, address);
    this.settle(owner);
  }

  /** Does something after the delay, behind everything that is under way. */
  later(what: () => void): void {
    this.#due.push({ at: after(this.now, DELAY_MS), what });
  }

  /** Sends what somebody wants sent, and notes when it wants to act next. */
  settle(owner: Owner): void {
    owner.drain?.(this.now);
    for (let transmit; (transmit = owner.pollTransmit()) !== undefined;) {
      const { destination, payload } = transmit;
      const source = transmit.source ?? this.#addresses.get(owner)!;
      const to = this.#owners.get(destination.ip.text);
      if (to === undefined) continue;
      this.later(() => {
        to.handleDatagram(this.now, destination, source, payload);
        this.settle(to);
      });
    }
    owner.drain?.(this.now);
    this.#deadlines.set(owner, owner.pollTimeout() ?? NEVER);
  }

  /** Lets time pass. */
  runFor(ms: number): void {
    const end = after(this.now, ms);
    for (;;) {
      const next = this.#due[0]?.at ?? NEVER;
      const at = earlier(next, this.#deadlines.next);
      if (at > end) break;
      if (at > this.now) this.now = at;
      if (next <= this.now) {
        const batch = this.#due.filter((one) => one.at <= this.now);
        this.#due = this.#due.slice(batch.length);
        for (const { what } of batch) what();
      } else {
        const owner = this.#deadlines.takeDue(this.now)!;
        owner.handleTimeout(this.now);
        this.settle(owner);
      }
    }
    this.now = end;
  }
}

/** A machine on the network, with a clock that runs while it works. */
export class Peer<M extends ClientState | GatewayState> implements Owner {
  spentMs = 0;
  datagrams = 0;
  readonly batch = new TransmitQueue();

  constructor(readonly machine: M, readonly onTurn: (now: Millis) => void) {}

  reset(): void {
    this.spentMs = this.datagrams = 0;
  }

  handleDatagram(now: Millis, local: SocketAddress, from: SocketAddress, bytes: Uint8Array): void {
    this.datagrams++;
    this.#timed(() =>
      this.machine.handleDatagram(now, local, from, bytes, 0, bytes.length, { push() {} })
    );
  }

  handleTimeout(now: Millis): void {
    this.#timed(() => this.machine.handleTimeout(now));
  }

  pollTimeout(): Millis {
    return this.#timed(() => this.machine.pollTimeout());
  }

  pollTransmit(): Transmit | undefined {
    const transmit = this.#timed(() => this.batch.pollTransmit() ?? this.machine.pollTransmit());
    if (transmit) this.datagrams++;
    return transmit;
  }

  drain(now: Millis): void {
    this.onTurn(now);
  }

  #timed<T>(work: () => T): T {
    const start = performance.now();
    const result = work();
    this.spentMs += performance.now() - start;
    return result;
  }
}

/** One gateway, one relay, and a portal that grants everything at once. */
export class World {
  /** What they are on. */
  readonly wire: Wire = new Wire();
  /** The gateway. */
  readonly gateway: Peer<GatewayState>;
  readonly #random = seededRandom(1);
  readonly #aead: AeadBackend = selectAead();
  readonly #relay: RelayHost;
  readonly #clients = new Map<string, Peer<ClientState>>();

  /** Nobody is a client yet. */
  constructor() {
    const publicAddresses = { v4: ip(RELAY), v6: undefined };
    this.#relay = new RelayHost({ publicAddresses, stampSecret: "secret", random: this.#random });
    this.wire.add(this.#relay, at(RELAY, RELAY_PORT));
    this.gateway = new Peer(new GatewayState(this.#options()), () => this.#onGateway());
    this.wire.add(this.gateway, at(GATEWAY_ADDRESS, PORT));
    this.gateway.machine.handlePortalMessage(this.wire.now, {
      tag: "init",
      interface: { ipv4: ip("100.64.0.1"), ipv6: ip("fd00:2021:1111::1") },
      relays: [this.#relayFor("gateway")],
      authorizations: undefined,
    });
  }

  /** Adds a client that does nothing by itself. */
  addClient(index: number): void {
    const id = `client-${index}`;
    const peer = new Peer<ClientState>(new ClientState(this.#options()), () => this.#onClient(id));
    this.#clients.set(id, peer);
    this.wire.add(peer, clientAddress(index));
    const { ipv4, ipv6 } = innerAddresses(index);
    const { now } = this.wire;
    peer.machine.handlePortalMessage(now, {
      tag: "init",
      interface: { ipv4, ipv6, upstreamDns: [], upstreamDoh: [], searchDomain: undefined },
      resources: [{
        ...RESOURCE,
        type: "cidr",
        name: "private",
        addressDescription: undefined,
        sites: [],
        filters: [],
      }],
      relays: [this.#relayFor(id)],
      skippedResources: 0,
    });
  }

  /** Lets a client send its first packet. */
  connect(index: number): void {
    const peer = this.#clients.get(`client-${index}`)!;
    const packet = udpPacket(innerAddresses(index).ipv4, SERVER, 1);
    this.wire.later(() => {
      peer.machine.handleTunPacket(this.wire.now, packet, 0, packet.length, peer.batch);
      this.wire.settle(peer);
    });
  }

  /** The datagram with a packet of a connected client, which the network does not get to see. */
  sealed(index: number, packet: Uint8Array): { from: SocketAddress; payload: Uint8Array } {
    const { machine, batch } = this.#clients.get(`client-${index}`)!;
    machine.handleTunPacket(this.wire.now, packet, 0, packet.length, batch);
    const { payload } = batch.pollTransmit()!;
    return { from: clientAddress(index), payload };
  }

  #options() {
    return {
      privateKey: this.#random(32),
      aead: this.#aead,
      random: this.#random,
      unixMillisAtZero: EPOCH_SECONDS * 1000,
    };
  }

  #relayFor(who: string) {
    return {
      id: "relay",
      servers: { v4: at(RELAY, RELAY_PORT) },
      ...this.#relay.credentials(who),
    };
  }

  #onClient(id: string): void {
    const peer = this.#clients.get(id)!;
    for (let event; (event = peer.machine.pollEvent()) !== undefined;) {
      if (event.tag === "request-flow") this.#authorize(id, peer);
      else if (event.tag === "candidates") {
        const { candidates } = event;
        this.#tellGateway({ tag: "ice-candidates", peerId: id, candidates });
      }
    }
  }

  #onGateway(): void {
    for (let event; (event = this.gateway.machine.pollEvent()) !== undefined;) {
      if (event.tag !== "candidates") continue;
      const { clientId, candidates } = event;
      this.#tellClient(clientId, { tag: "ice-candidates", peerId: "gateway", candidates });
    }
  }

  #tellGateway(message: GatewayMessage): void {
    this.wire.later(() => {
      this.gateway.machine.handlePortalMessage(this.wire.now, message);
      this.wire.settle(this.gateway);
    });
  }

  #tellClient(id: string, message: ClientMessage): void {
    const peer = this.#clients.get(id)!;
    this.wire.later(() => {
      peer.machine.handlePortalMessage(this.wire.now, message);
      this.wire.settle(peer);
    });
  }

  #authorize(id: string, peer: Peer<ClientState>): void {
    const { machine } = this.gateway;
    const keys = base64(peer.machine.publicKey) + base64(machine.publicKey);
    const text = keys.replaceAll(/[^a-zA-Z0-9]/g, "");
    const clientIce = { username: text.slice(0, 4), password: text.slice(4, 26) };
    const gatewayIce = { username: text.slice(26, 30), password: text.slice(30, 52) };
    const presharedKey = new Uint8Array(32).map((_, i) => keys.charCodeAt(i));
    this.#tellGateway({
      tag: "authorize-flow",
      ref: id,
      resource: { ...RESOURCE, type: "cidr", name: "private", filters: [] },
      client: {
        id,
        publicKey: peer.machine.publicKey,
        presharedKey,
        ...innerAddresses(Number(id.slice("client-".length))),
      },
      clientIce,
      gatewayIce,
      expiresAt: (EPOCH_SECONDS + 86_400) as UnixSeconds,
    });
    this.#tellClient(id, {
      tag: "flow-created",
      resourceId: RESOURCE.id,
      gatewayId: "gateway",
      gatewayPublicKey: machine.publicKey,
      gatewayIps: undefined,
      siteId: "site",
      presharedKey,
      clientIce,
      gatewayIce,
    });
  }
}

function at(address: string, port: number): SocketAddress {
  return new SocketAddress(ip(address), port);
}

function clientAddress(index: number): SocketAddress {
  return at(`198.18.${index >> 8}.${index & 0xff}`, PORT);
}

/** The tunnel addresses of a client. */
export function innerAddresses(index: number): { ipv4: IpAddress; ipv6: IpAddress } {
  return {
    ipv4: ip(`100.65.${index >> 8}.${index & 0xff}`),
    ipv6: ip(`fd00:2021:1111::1:${(index + 1).toString(16)}`),
  };
}

if (import.meta.main) {
  const cost = measureIdle(Number(Deno.args[0] ?? 1000));
  console.log(
    `${cost.clients} idle clients: ${cost.cpuPercent.toFixed(2)} % of a processor, ` +
      `${cost.datagramsPerSecond.toFixed(0)} datagrams/s, ` +
      `${(cost.bytesPerConnection / 1024).toFixed(1)} KiB for both ends of each`,
  );
}
