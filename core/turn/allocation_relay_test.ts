/** Our allocation against our relay, both as machines, in virtual time. */

import { assert, assertEquals } from "@std/assert";
import { Forwarding, type RelayCommand, RelayServer } from "@firezone/relay";
import { ip, type SocketAddress, socketAddress } from "../ip/address.ts";
import { METHOD, parseStunMessage } from "../stun/mod.ts";
import { seededRandom } from "../testing/random.ts";
import { after, earlier, type Millis, type UnixSeconds } from "../units.ts";
import { Allocation, type AllocationEvent, type TurnServers } from "./allocation.ts";
import { writeChannelDataHeader } from "./channel_data.ts";
import { relayCredentials } from "./credentials.ts";

const SECRET = "ab".repeat(32);
const PUBLIC = { v4: ip("203.0.113.1"), v6: ip("2001:db8::1") };
const V4 = socketAddress("203.0.113.1:3478");
const V6 = socketAddress("[2001:db8::1]:3478");
const HOST4 = socketAddress("10.0.0.2:52625");
const HOST6 = socketAddress("[2001:db8:c::2]:52625");
const PEER = socketAddress("192.0.2.9:7000");
const SECOND = 1000;
const MINUTE = 60 * SECOND;

Deno.test("An allocation comes about within four round trips and carries data both ways", () => {
  const net = new Net({ v4: V4, v6: V6 });
  net.delayMs = 20;
  const start = net.now;
  net.run(SECOND, () => net.relayed(4) !== undefined);
  // BINDING, ALLOCATE without a nonce, ALLOCATE with one.
  assertEquals(net.now - start, 3 * 2 * net.delayMs);
  assertEquals(net.allocation.rttMs, 40);
  assertEquals(net.relayed(6)?.port, net.relayed(4)?.port);
  net.allocation.bindChannel(net.now, PEER);
  net.run(SECOND);
  assert(net.carriesBothWays(PEER));
});

Deno.test("Peers that are asked for early are reachable as soon as the relay allows it", () => {
  const net = new Net({ v4: V4 });
  const peers = Array.from({ length: 30 }, (_, i) => socketAddress(`192.0.2.9:${7000 + i}`));
  for (const peer of peers) net.allocation.bindChannel(net.now, peer);
  net.run(SECOND);
  assert(peers.every((peer) => net.carriesBothWays(peer)));
});

Deno.test("An idle allocation lives for a day, through stale nonces, with little talk", () => {
  const net = new Net({ v4: V4 });
  net.run(24 * 60 * MINUTE);
  assertEquals(net.events.filter((e) => e.tag === "candidate-removed"), []);
  assertEquals(net.server.allocationCount, 1);
  const perHour = (method: number) => net.requests.filter((m) => m === method).length / 24;
  assert(perHour(METHOD.binding) <= 60 * 60 / 25);
  assert(perHour(METHOD.refresh) <= 12 + 2, "one per 5 min and a few for new nonces");
});

Deno.test("A channel in use lives on; one that is not can be had again at any time", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.allocation.bindChannel(net.now, PEER);
  for (let i = 0; i < 60; i++) {
    net.run(MINUTE);
    assert(net.carriesBothWays(PEER), `after ${i} min`);
  }
  // Refreshed once more after 5 min, expired after 15, cooled down after 20.
  for (const silence of [16, 19, 21, 40]) {
    net.run(silence * MINUTE);
    assertEquals(net.allocation.channelFor(PEER), undefined);
    net.allocation.bindChannel(net.now, PEER);
    net.run(SECOND);
    assert(net.carriesBothWays(PEER), `after ${silence} min of silence`);
  }
});

Deno.test("A third of all datagrams lost: the allocation still comes about and stays", () => {
  const net = new Net({ v4: V4 });
  const random = seededRandom(5);
  net.loses = () => random(1)[0]! < 85;
  net.run(60 * SECOND);
  assert(!net.allocation.isFailed);
  net.run(3 * 60 * MINUTE, () => net.allocation.isFailed);
  // A request of four sends fails about once in ten; the relay is found again each time.
  net.loses = () => false;
  net.run(30 * SECOND);
  assert(net.allocation.isFailed || net.relayed(4) !== undefined);
});

Deno.test("An allocation of an earlier life on the same address is replaced", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  const first = net.relayed(4);
  net.renew();
  net.run(SECOND);
  assert(net.relayed(4) !== undefined && net.relayed(4)?.key !== first?.key);
  assertEquals(net.server.allocationCount, 1);
});

Deno.test("New credentials on the same address take over the old allocation", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.renew("another salt");
  net.run(SECOND);
  assert(net.relayed(4) !== undefined);
  assertEquals(net.server.allocationCount, 1);
});

Deno.test("The relay restarts with another secret: noticed, given up, and had again with new ones", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.restartRelay("cd".repeat(32));
  net.allocation.refresh(net.now);
  net.run(20 * SECOND);
  assert(net.allocation.isFailed);
  assertEquals(net.events.slice(-2).map((e) => e.tag), ["candidate-removed", "failed"]);
  net.renew();
  net.run(SECOND);
  assert(net.relayed(4) !== undefined);
});

Deno.test("The relay restarts with the same secret: a new allocation, and the channels again", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.allocation.bindChannel(net.now, PEER);
  net.run(SECOND);
  net.restartRelay(SECRET);
  net.allocation.refresh(net.now);
  net.run(SECOND);
  assertEquals(net.events.slice(-4).map((e) => e.tag), [
    "candidate-removed",
    "candidate-removed",
    "candidate-added",
    "candidate-added",
  ]);
  assert(net.carriesBothWays(PEER));
});

Deno.test("The NAT gives another port: a new candidate and a new allocation within half a minute", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.mapped4 = socketAddress("198.51.100.1:6000");
  net.run(26 * SECOND);
  const added = net.events.flatMap((e) => e.tag === "candidate-added" ? [e.candidate.kind] : []);
  assertEquals(added.slice(-3), ["srflx", "relay", "relay"]);
  assertEquals(net.server.allocationCount, 1, "the newest of this user");
});

Deno.test("The active family breaks: the other one takes over", () => {
  const net = new Net({ v4: V4, v6: V6 });
  net.run(SECOND);
  const active = net.allocation.activeServer!;
  net.loses = (to) => to.equals(active);
  net.run(60 * SECOND);
  assert(!net.allocation.isFailed);
  assert(net.allocation.activeServer?.family !== active.family);
  assert(net.relayed(4) !== undefined);
});

Deno.test("The relay goes silent and comes back within the time of one more probe", () => {
  const net = new Net({ v4: V4 });
  net.run(SECOND);
  net.loses = () => true;
  net.run(40 * SECOND, () => net.events.at(-1)?.tag === "candidate-removed");
  net.run(2 * SECOND);
  net.loses = () => false;
  net.run(4 * SECOND);
  assert(net.relayed(4) !== undefined);
});

Deno.test("A relay of one family gives what it has", () => {
  for (const [server, family] of [[V4, 4], [V6, 6]] as const) {
    const net = new Net(family === 4 ? { v4: server } : { v6: server }, family);
    net.run(SECOND);
    assert(net.relayed(family) !== undefined);
    assertEquals(net.relayed(family === 4 ? 6 : 4), undefined);
  }
});

Deno.test("A relay without free ports refuses; the allocation waits to be asked again", () => {
  const net = new Net({ v4: V4 });
  net.opens = false;
  net.run(20 * SECOND);
  assertEquals(net.events.at(-1), {
    tag: "refused",
    request: "allocate",
    code: 508,
    reason: "Insufficient Capacity",
  });
  net.opens = true;
  net.allocation.refresh(net.now);
  net.run(SECOND);
  assert(net.relayed(4) !== undefined);
});

/** One allocation and one relay on a network with delay and loss. */
class Net {
  now = 1000 as Millis;
  delayMs = 5;
  mapped4 = socketAddress("198.51.100.1:5000");
  /** Whether a datagram to this address gets lost. */
  loses: (to: SocketAddress) => boolean = () => false;
  /** Whether the relay's machine opens sockets. */
  opens = true;
  allocation: Allocation;
  server: RelayServer;
  readonly events: AllocationEvent[] = [];
  /** Methods of all requests that were sent. */
  readonly requests: number[] = [];
  readonly #servers: TurnServers;
  readonly #random = seededRandom(3);
  readonly #public: { v4?: typeof PUBLIC.v4; v6?: typeof PUBLIC.v6 };
  #secret = SECRET;
  #flights: { at: Millis; land: () => void }[] = [];

  constructor(servers: TurnServers, onlyFamily?: 4 | 6) {
    this.#servers = servers;
    this.#public = onlyFamily === undefined
      ? PUBLIC
      : onlyFamily === 4
      ? { v4: PUBLIC.v4 }
      : { v6: PUBLIC.v6 };
    this.server = this.#makeServer();
    this.allocation = this.#makeAllocation("salt");
  }

  relayed(family: 4 | 6): SocketAddress | undefined {
    return this.allocation.relayedAddress(family);
  }

  /** Our program starts anew, on the same address. */
  renew(salt = "salt"): void {
    this.allocation = this.#makeAllocation(salt);
  }

  restartRelay(secret: string): void {
    this.#secret = secret;
    this.server = this.#makeServer();
  }

  /** Lets time pass until `isDone`. */
  run(ms: number, isDone = () => false): void {
    const end = after(this.now, ms);
    while (true) {
      this.#drain();
      if (isDone()) return;
      let due = earlier(this.allocation.pollTimeout(), this.server.pollTimeout());
      for (const { at } of this.#flights) due = earlier(due, at);
      if (due > end) break;
      assert(due >= this.now, "what is due was done");
      this.now = due;
      const landed = this.#flights.filter((f) => f.at <= this.now);
      this.#flights = this.#flights.filter((f) => f.at > this.now);
      for (const flight of landed) flight.land();
      this.allocation.handleTimeout(this.now);
      this.server.handleTimeout(this.now);
    }
    this.now = end;
  }

  /** Sends a packet each way between us and the peer. */
  carriesBothWays(peer: SocketAddress): boolean {
    const channel = this.allocation.channelFor(peer);
    const relayed = this.allocation.relayedAddress(peer.family);
    const server = this.allocation.activeServer;
    if (channel === undefined || relayed === undefined || server === undefined) return false;
    const out = new Forwarding();
    const bytes = new Uint8Array(9);
    writeChannelDataHeader(bytes, 0, channel, 5);
    this.allocation.noteChannelData(this.now, "sent", channel);
    const client = this.#mapped(server);
    const { server: relay, now } = this;
    const up = relay.handleClientInput(now, this.#wall(), client, bytes, 0, 9, out) &&
      out.direction === "peer" && out.destination.equals(peer) &&
      out.allocationPort === relayed.port;
    if (!up) return false;
    const down = relay.handlePeerInput(now, peer, relayed.port, 0, 5, out) &&
      out.direction === "client" && out.destination.equals(client) && out.channel === channel;
    if (down) this.allocation.noteChannelData(now, "received", channel);
    return down && this.allocation.peerFor(channel)?.equals(peer) === true;
  }

  #wall(): UnixSeconds {
    return 1_800_000_000 + Math.floor(this.now / 1000) as UnixSeconds;
  }

  #mapped(server: SocketAddress): SocketAddress {
    return server.family === 4 ? this.mapped4 : HOST6;
  }

  #makeServer(): RelayServer {
    return new RelayServer({
      publicAddresses: this.#public,
      stampSecret: this.#secret,
      random: this.#random,
    });
  }

  #makeAllocation(salt: string): Allocation {
    const credentials = relayCredentials(2_145_916_800 as UnixSeconds, this.#secret, salt);
    const options = { id: "relay", servers: this.#servers, credentials };
    return new Allocation({ ...options, random: this.#random, software: "test" }, this.now);
  }

  #drain(): void {
    for (let e; (e = this.allocation.pollEvent()) !== undefined;) this.events.push(e);
    for (let t; (t = this.allocation.pollTransmit()) !== undefined;) {
      const { destination, payload } = t;
      this.requests.push(parseStunMessage(payload, 0, payload.length)!.method);
      this.#fly(destination, () => this.#atRelay(this.#mapped(destination), payload));
    }
    for (let command; (command = this.server.pollCommand()) !== undefined;) this.#obey(command);
    for (let t; (t = this.server.pollTransmit()) !== undefined;) {
      const { destination, payload } = t;
      const from = destination.family === 4 ? V4 : V6;
      // What the NAT no longer knows goes nowhere.
      if (destination.equals(this.#mapped(from))) {
        this.#fly(destination, () => this.#atHost(from, payload));
      }
    }
  }

  #fly(to: SocketAddress, land: () => void): void {
    if (!this.loses(to)) this.#flights.push({ at: after(this.now, this.delayMs), land });
  }

  #atRelay(client: SocketAddress, bytes: Uint8Array): void {
    const out = new Forwarding();
    this.server.handleClientInput(this.now, this.#wall(), client, bytes, 0, bytes.length, out);
    this.#drain();
  }

  #atHost(from: SocketAddress, bytes: Uint8Array): void {
    const message = parseStunMessage(bytes, 0, bytes.length)!;
    this.allocation.handleInput(this.now, from.family === 4 ? HOST4 : HOST6, from, message);
    this.#drain();
  }

  #obey(command: RelayCommand): void {
    if (command.tag !== "create-allocation") return;
    if (this.opens) this.server.handleAllocationCreated(this.now, command.id);
    else this.server.handleAllocationFailed(this.now, command.id);
    this.#drain();
  }
}
