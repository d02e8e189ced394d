/**
 * Many clients in one process: the load of the fairness bench. Orders come as JSON in the variable
 * `ORDERS`, see {@link LoadOrders}; what the clients received is printed as JSON.
 *
 * Each client is a real `ClientState` with a socket and a connection to the portal of its own. Packets
 * are made and counted here instead of passing through a TUN device. While traffic flows this thread
 * blocks in epoll; the portals' connections wait that long.
 *
 * @module
 */

import { base64 } from "@firezone/core/bytes";
import { Secret } from "@firezone/core/cli";
import { type AeadBackend, selectAead } from "@firezone/core/crypto";
import { ip, type IpAddress, SocketAddressCache } from "@firezone/core/ip";
import { Epoll, ReceiveSlots, SendStructs, UdpSocket } from "@firezone/core/os/linux";
import {
  candidatesToGateway,
  createFlow,
  invalidatedCandidatesToGateway,
  parseClientMessage,
  PortalConnection,
  type PortalEvent,
} from "@firezone/core/portal";
import { monotonicNow, SendBatch, unixMillisAtZero } from "@firezone/core/runtime";

import { systemRandom } from "@firezone/core/system_random";
import type { InboundPackets } from "@firezone/core/transmit";
import type { Millis } from "@firezone/core/units";
import { ClientState } from "@firezone/client";
import { Arrivals } from "./arrivals.ts";
import { burstOf, type EndReport, PAYLOAD, TAG, TICK_MS } from "./fairness_server.ts";
import { Pace } from "./pace.ts";

/** What to do. */
export interface LoadOrders {
  /** The portal. */
  readonly apiUrl: string;
  /** One token per client. */
  readonly tokens: readonly string[];
  /** Where the server is. */
  readonly server: string;
  /** Its port. */
  readonly port: number;
  /** Datagrams per second of each client. */
  readonly perSecond: number;
  /** How long each direction is measured. */
  readonly seconds: number;
}

const HEADERS = 28;
/** Of each client's socket: more would only hide that this process cannot keep up. */
const BUFFERS = { receiveBuffer: 1 << 20, sendBuffer: 1 << 20 };
const SETTLE_MS = 300;
/** The beginning of a direction, in which code is compiled that nobody ran before: no gaps count. */
const WARM_UP_MS = 500;
/** For what is under way when the server stops. */
const LAST_MS = 50;
const CONNECT_MS = 60_000;
const POLL_MS = 2;

/** What all clients send through and receive into: one thread serves one after the other. */
class Shared {
  /** A single one: after a pause, a client that is served with all it has makes the others wait. */
  readonly slots = new ReceiveSlots(1);
  readonly structs = new SendStructs(4);
  readonly addresses = new SocketAddressCache();
  readonly aead: AeadBackend = selectAead();
}

/** One client. */
class LoadClient implements InboundPackets {
  readonly socket: UdpSocket;
  ipv4: IpAddress | undefined;
  isConnected = false;
  readonly #index: number;
  readonly #machine: ClientState;
  readonly #portal: PortalConnection;
  readonly #batch: SendBatch;
  readonly #arrivals: Arrivals;
  #packet = new Uint8Array(HEADERS + PAYLOAD);

  constructor(index: number, orders: LoadOrders, shared: Shared, arrivals: Arrivals) {
    const { slots, structs, addresses, aead } = shared;
    this.#index = index;
    this.#arrivals = arrivals;
    this.socket = UdpSocket.open({ family: 4, port: 0, slots, structs, addresses, ...BUFFERS });
    this.#batch = new SendBatch(this.socket, { lanes: 2 });
    this.#machine = new ClientState({
      privateKey: systemRandom(32),
      aead,
      random: systemRandom,
      unixMillisAtZero: unixMillisAtZero(),
    }, false);
    const name = `load-${index}`;
    this.#portal = new PortalConnection({
      apiUrl: new URL(orders.apiUrl),
      token: new Secret(orders.tokens[index]!),
      login: { role: "client", id: name, name },
      onEvent: (event) => this.#onPortal(event),
    });
    this.#portal.connect(base64(this.#machine.publicKey));
  }

  get isReady(): boolean {
    return this.ipv4 !== undefined;
  }

  /** Sends packets to the server, all with the same tag and argument. */
  send(now: Millis, orders: LoadOrders, tag: number, count: number, argument = 0): void {
    const packet = this.#packet;
    if (packet[0] === 0) writeHeaders(packet, this.ipv4!, ip(orders.server), orders.port);
    const view = new DataView(packet.buffer);
    view.setUint8(HEADERS, tag);
    view.setUint16(HEADERS + 1, this.#index);
    view.setUint32(HEADERS + 3, argument);
    for (let i = 0; i < count; i++) {
      this.#machine.handleTunPacket(now, packet, 0, packet.length, this.#batch);
    }
    this.settle(now);
  }

  receive(now: Millis): void {
    const { socket } = this;
    const messages = socket.receive();
    for (let m = 0; m < messages; m++) {
      const end = socket.start(m) + socket.length(m);
      const [step, local, from] = [socket.segmentSize(m), socket.local(m), socket.from(m)];
      for (let at = socket.start(m); at < end; at += step) {
        const until = Math.min(at + step, end);
        this.#machine.handleDatagram(now, local, from, socket.buffer, at, until, this);
      }
    }
    this.settle(now);
  }

  push(buf: Uint8Array, start: number, end: number): void {
    if (end - start < HEADERS + 3 || buf[start + 9] !== 17) return;
    const at = start + HEADERS;
    this.#arrivals.take(buf[at + 1]! << 8 | buf[at + 2]!, performance.now());
  }

  settle(now: Millis): void {
    const machine = this.#machine;
    if (machine.pollTimeout() <= now) machine.handleTimeout(now);
    this.#drainEvents();
    for (let t; (t = machine.pollTransmit()) !== undefined;) this.#batch.transmit(t);
    while (machine.pollPacket() !== undefined);
    this.#batch.flush();
  }

  close(): void {
    this.#machine.shutDown(monotonicNow());
    this.settle(monotonicNow());
    this.#portal.close();
    this.socket.close();
  }

  #onPortal(event: PortalEvent): void {
    if (event.tag === "fatal") throw new Error(`load ${this.#index}: ${event.reason}`);
    if (event.tag !== "message") return;
    const message = parseClientMessage(event.event, event.payload);
    if (message.tag === "unknown" || message.tag === "malformed") return;
    this.#machine.handlePortalMessage(monotonicNow(), message);
    this.settle(monotonicNow());
  }

  #drainEvents(): void {
    for (let event; (event = this.#machine.pollEvent()) !== undefined;) {
      switch (event.tag) {
        case "request-flow":
          this.#portal.send(createFlow(event.resourceId, event.connectedGatewayIds));
          break;
        case "candidates":
          this.#portal.send(candidatesToGateway(event.gatewayId, event.candidates));
          break;
        case "candidates-invalidated":
          this.#portal.send(invalidatedCandidatesToGateway(event.gatewayId, event.candidates));
          break;
        case "interface-changed":
          this.ipv4 = event.interface.ipv4;
          break;
        case "path-changed":
          this.isConnected = event.path.kind === "direct";
          break;
        case "gateway-failed":
        case "flow-failed":
          throw new Error(`load ${this.#index}: ${event.reason}`);
      }
    }
  }
}

/** All of them. */
class Crowd {
  readonly #orders: LoadOrders;
  readonly #arrivals: Arrivals;
  readonly #clients: LoadClient[];
  readonly #epoll = new Epoll(1024);
  #sent = 0;

  constructor(orders: LoadOrders) {
    this.#orders = orders;
    this.#arrivals = new Arrivals(orders.tokens.length);
    const shared = new Shared();
    this.#clients = orders.tokens.map((_, i) => new LoadClient(i, orders, shared, this.#arrivals));
    for (const [i, { socket }] of this.#clients.entries()) {
      this.#epoll.add(socket.fd, i, { readable: true });
    }
  }

  /** Until every client has a direct way to the gateway. */
  async connect(): Promise<void> {
    const until = performance.now() + CONNECT_MS;
    await this.#until(until, () => this.#clients.every((client) => client.isReady));
    for (const client of this.#clients) {
      client.send(monotonicNow(), this.#orders, TAG.data, 1);
      await this.#until(until, () => client.isConnected);
    }
    await this.#until(performance.now() + SETTLE_MS, () => false).catch(() => {});
  }

  /** Clients send to the server. */
  up(): void {
    const { seconds, perSecond } = this.#orders;
    this.#tellAll(TAG.begin, 0);
    const count = burstOf(perSecond);
    const pace = new Pace(TICK_MS);
    let first = 0;
    pace.begin(performance.now());
    this.#serve(seconds * 1000, () => pace.waitMs(performance.now()), () => {
      if (!pace.take(performance.now())) return;
      // Each tick begins with another client.
      first = (first + 1) % this.#clients.length;
      for (let i = 0; i < this.#clients.length; i++) {
        const client = this.#clients[(first + i) % this.#clients.length]!;
        client.send(monotonicNow(), this.#orders, TAG.data, count);
        this.#sent += count;
      }
    });
    this.#report();
  }

  /** The server sends to the clients; what arrived is printed. */
  down(): void {
    const { seconds, perSecond } = this.#orders;
    this.#arrivals.begin(performance.now());
    this.#tellAll(TAG.begin, perSecond);
    this.#serve(WARM_UP_MS, () => TICK_MS);
    this.#arrivals.beginGaps(performance.now());
    this.#serve(seconds * 1000 - WARM_UP_MS, () => TICK_MS);
    this.#tellAll(TAG.begin, 0);
    this.#serve(LAST_MS, () => TICK_MS);
    const report: EndReport = { sent: this.#sent, shares: this.#arrivals.shares() };
    console.log(JSON.stringify(report));
    this.#report();
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }

  #tellAll(tag: number, argument: number): void {
    for (const client of this.#clients) {
      client.send(monotonicNow(), this.#orders, tag, 1, argument);
    }
  }

  /** Asks the server for its report, after what is still under way. */
  #report(): void {
    this.#serve(SETTLE_MS, () => TICK_MS);
    for (const client of this.#clients.slice(0, 3)) {
      client.send(monotonicNow(), this.#orders, TAG.report, 1);
      this.#serve(SETTLE_MS, () => TICK_MS);
    }
  }

  #serve(durationMs: number, waitMs: () => number, onTurn = () => {}): void {
    const end = performance.now() + durationMs;
    while (performance.now() < end) {
      this.#turn(waitMs());
      onTurn();
    }
  }

  #turn(waitMs: number): void {
    const events = this.#epoll.wait(waitMs);
    for (let i = 0; i < events; i++) {
      this.#clients[this.#epoll.token(i)]!.receive(monotonicNow());
    }
  }

  async #until(end: number, isDone: () => boolean): Promise<void> {
    while (!isDone()) {
      if (performance.now() > end) throw new Error("the clients did not connect in time");
      this.#turn(0);
      for (const client of this.#clients) client.settle(monotonicNow());
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** IPv4 and UDP, the latter without a checksum, which IPv4 allows. */
function writeHeaders(packet: Uint8Array, from: IpAddress, to: IpAddress, port: number): void {
  const view = new DataView(packet.buffer);
  view.setUint8(0, 0x45);
  view.setUint16(2, packet.length);
  view.setUint8(6, 0x40);
  view.setUint8(8, 64);
  view.setUint8(9, 17);
  packet.set(from.bytes, 12);
  packet.set(to.bytes, 16);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += view.getUint16(at);
  view.setUint16(10, ~(sum % 0xffff) & 0xffff);
  view.setUint16(20, port);
  view.setUint16(22, port);
  view.setUint16(24, packet.length - 20);
}

if (import.meta.main) {
  const crowd = new Crowd(JSON.parse(Deno.env.get("ORDERS")!));
  await crowd.connect();
  console.log("connected");
  crowd.up();
  crowd.down();
  crowd.close();
}
