import { assert, assertEquals } from "@std/assert";
import { ip, prefix, PROTOCOL, socketAddress } from "@firezone/core/ip";
import type {
  AuthorizeFlow,
  Filter,
  GatewayInit,
  GatewayResource,
  Relay,
} from "@firezone/core/portal";
import { seededRandom, testAead, TransmitQueue } from "@firezone/core/testing";
import { type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import { type GatewayEvent, GatewayState } from "./gateway_state.ts";

const EPOCH = 1_800_000_000;
const SERVER = ip("10.0.0.7");
const RELAY: Relay = {
  id: "relay",
  servers: { v4: socketAddress("203.0.113.1:3478") },
  username: "user",
  password: "password",
};

Deno.test("a client that is authorised may come: the portal is told, with its reference", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  assertEquals(run.events(), ["flow-authorized alice/a"]);
  assertEquals(run.access(), { alice: ["a"] });
  run.authorize("alice", cidr("b", "10.0.1.0/24"));
  run.authorize("bob", cidr("a"));
  assertEquals(run.access(), { alice: ["a", "b"], bob: ["a"] });
});

Deno.test("without a relay the portal gets no answer, and nobody gets access", () => {
  const run = new Run([]);
  run.authorize("alice", cidr("a"));
  assertEquals(run.events(), ["no-relays"]);
  assertEquals(run.access(), {});
});

Deno.test("access is withdrawn by the portal, one resource at a time, and the client with the last", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  run.authorize("alice", cidr("b", "10.0.1.0/24"));
  run.events();
  run.reject("alice", "a");
  assertEquals(run.events(), ["access-revoked alice/a"]);
  run.reject("alice", "a");
  run.reject("nobody", "a");
  assertEquals(run.events(), [], "what is gone cannot be withdrawn");
  run.reject("alice", "b");
  assertEquals(run.events(), ["access-revoked alice/b", "client-gone alice"]);
  assertEquals(run.access(), {});
  assertEquals(run.state.status(run.now).connections, []);
});

Deno.test("access ends by itself to the second, unless it is prolonged", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"), 60);
  run.authorize("alice", cidr("b", "10.0.1.0/24"), 60);
  run.authorize("bob", cidr("a"), Infinity);
  run.state.handlePortalMessage(run.now, {
    tag: "expiry-updated",
    clientId: "alice",
    resourceId: "b",
    expiresAt: (EPOCH + 120) as UnixSeconds,
  });
  run.runUntil(59_999);
  assertEquals(run.access(), { alice: ["a", "b"], bob: ["a"] });
  run.runUntil(61_000);
  assertEquals(run.access(), { alice: ["b"], bob: ["a"] });
  run.runUntil(121_000);
  assertEquals(run.access(), { bob: ["a"] });
  run.runUntil(86_400_000);
  assertEquals(run.access(), { bob: ["a"] });
});

Deno.test("an authorisation that comes again replaces the one before", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"), 60);
  run.authorize("alice", cidr("a"), 120);
  run.runUntil(90_000);
  assertEquals(run.access(), { alice: ["a"] });
});

Deno.test("init withdraws what it does not list, and prolongs what it does", () => {
  const run = new Run();
  for (const client of ["alice", "bob"]) {
    run.authorize(client, cidr("a"), 60);
    run.authorize(client, cidr("b", "10.0.1.0/24"), 60);
  }
  run.init([{ clientId: "alice", resourceId: "b", expiresAt: (EPOCH + 600) as UnixSeconds }]);
  assertEquals(run.access(), { alice: ["b"] });
  run.runUntil(300_000);
  assertEquals(run.access(), { alice: ["b"] });
  run.init(undefined);
  assertEquals(run.access(), { alice: ["b"] }, "older portals list nothing, which says nothing");
});

Deno.test("access outlives the connection, and a start over on another network", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  run.runUntil(12_000); // no candidate came
  assertEquals(run.state.status(run.now).connections, []);
  assertEquals(run.access(), { alice: ["a"] });
  run.authorize("alice", cidr("a"));
  run.state.reset(run.now, new Uint8Array(32).fill(3));
  assertEquals(run.state.status(run.now).connections, []);
  assertEquals(run.access(), { alice: ["a"] });
});

Deno.test("what is for nobody is passed over, and counted only if it was for a client", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  run.runUntil(12_000);
  run.send("ff02::16", "fe80::1"); // what every host says to routers (MLDv2)
  run.send("224.0.0.22");
  assertEquals(run.drops(), {});
  run.send(run.addressOf("alice"));
  run.send("100.64.7.7");
  run.send("192.0.2.1");
  assertEquals(run.drops(), { noPeer: 3 });
});

Deno.test("filters hold in both directions: a reply comes from a port that is admitted", () => {
  const run = new Run();
  run.authorize(
    "alice",
    cidr("a", "10.0.0.0/24", [{ protocol: "udp", portStart: 53, portEnd: 53 }]),
  );
  run.send(run.addressOf("alice"), SERVER.text, 53);
  assertEquals(run.drops(), {});
  run.send(run.addressOf("alice"), SERVER.text, 80);
  run.send(run.addressOf("alice"), "10.0.1.7", 53);
  assertEquals(run.drops(), { deniedInbound: 2 });
  run.update(cidr("a", "10.0.0.0/24", [{ protocol: "udp", portStart: 80, portEnd: 80 }]));
  run.send(run.addressOf("alice"), SERVER.text, 80);
  assertEquals(run.drops(), { deniedInbound: 2 });
});

Deno.test("an ICMP error passes whoever sent it, and what this machine itself sends", () => {
  const run = new Run();
  run.authorize(
    "alice",
    cidr("a", "10.0.0.0/24", [{ protocol: "udp", portStart: 53, portEnd: 53 }]),
  );
  const to = run.addressOf("alice");
  run.state.handleTunPacket(run.now, icmpError("192.0.2.99", to), 0, 56, new TransmitQueue());
  run.send(to, GATEWAY.ipv4.text, 80);
  assertEquals(run.drops(), {});
});

Deno.test("of a resource only name and filters change while it is in use", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  run.update({ type: "internet", id: "a", name: "", filters: [] });
  run.update(cidr("a", "0.0.0.0/0"));
  run.update(cidr("unknown", "0.0.0.0/0"));
  run.send(run.addressOf("alice"), "192.0.2.1", 80);
  assertEquals(run.drops(), { deniedInbound: 1 });
});

Deno.test("a client with other addresses is found at those alone, with what it may reach", () => {
  const run = new Run();
  run.authorize("alice", cidr("a"));
  const before = run.addressOf("alice");
  run.move("alice");
  run.authorize("alice", cidr("b", "10.0.1.0/24"));
  assertEquals(run.access(), { alice: ["a", "b"] });
  run.send(before, SERVER.text, 80);
  assertEquals(run.drops(), { noPeer: 1 });
  run.send(run.addressOf("alice"), SERVER.text, 80);
  assertEquals(run.drops(), { noPeer: 1 });
});

Deno.test("what makes no sense changes nothing", () => {
  const run = new Run();
  const { now, state } = run;
  state.handlePortalMessage(now, { tag: "ice-candidates", peerId: "nobody", candidates: ["x"] });
  state.handlePortalMessage(now, {
    tag: "expiry-updated",
    clientId: "nobody",
    resourceId: "a",
    expiresAt: undefined,
  });
  state.handleResolved(now, 7, [SERVER]);
  for (let length = 0; length < 64; length++) {
    const bytes = new Uint8Array(length).fill(length * 41);
    state.handleTunPacket(now, bytes, 0, length, new TransmitQueue());
  }
  assertEquals(run.events(), []);
  assertEquals(run.access(), {});
});

Deno.test("nothing is looked at every second while there are no clients", () => {
  const run = new Run([]);
  run.events();
  assertEquals(run.state.pollTimeout(), NEVER);
  const other = new Run();
  other.authorize("alice", cidr("a"), 5);
  other.runUntil(60_000);
  assertEquals(other.access(), {});
  assert(other.state.pollTimeout() > other.now + 1_000, "the relay alone is left");
});

const GATEWAY = { ipv4: ip("100.64.0.2"), ipv6: ip("fd00:2021:1111::2") };

/** A gateway whose portal is the test. */
class Run {
  readonly state: GatewayState;
  now = 0 as Millis;
  readonly #numbers = new Map<string, number>();
  #next = 10;

  constructor(readonly relays: readonly Relay[] = [RELAY]) {
    const random = seededRandom(1);
    this.state = new GatewayState({
      privateKey: random(32),
      aead: testAead(),
      random,
      unixMillisAtZero: EPOCH * 1000,
    });
    this.init(undefined);
    this.events();
  }

  init(authorizations: GatewayInit["authorizations"]): void {
    this.state.handlePortalMessage(this.now, {
      tag: "init",
      interface: GATEWAY,
      relays: this.relays,
      authorizations,
    });
  }

  authorize(
    clientId: string,
    resource: GatewayResource,
    seconds = 86_400,
  ): void {
    const n = this.#numberOf(clientId);
    const flow: AuthorizeFlow = {
      tag: "authorize-flow",
      ref: `${clientId}/${resource.id}`,
      resource,
      client: {
        id: clientId,
        publicKey: new Uint8Array(32).fill(n),
        presharedKey: new Uint8Array(32),
        ipv4: ip(`100.64.0.${n}`),
        ipv6: ip(`fd00:2021:1111::${n}`),
      },
      clientIce: { username: `c${n}mh`, password: "xeez6p6qyqmqw43xdyu2q7" },
      gatewayIce: { username: `g${n}wj`, password: "kwomcb6zu3gppp5absmcva" },
      expiresAt: seconds === Infinity ? undefined : (EPOCH + seconds) as UnixSeconds,
    };
    this.state.handlePortalMessage(this.now, flow);
  }

  /** Gives a client other addresses from the next authorisation on. */
  move(clientId: string): void {
    this.#numbers.set(clientId, this.#next++);
  }

  reject(clientId: string, resourceId: string): void {
    this.state.handlePortalMessage(this.now, { tag: "reject-access", clientId, resourceId });
  }

  update(resource: GatewayResource): void {
    this.state.handlePortalMessage(this.now, { tag: "resource-updated", resource });
  }

  /** Goes from deadline to deadline. */
  runUntil(ms: number): void {
    while (this.now < ms) {
      const due = Math.max(this.state.pollTimeout(), this.now + 1);
      this.now = Math.min(due, ms) as Millis;
      this.state.handleTimeout(this.now);
      while (this.state.pollTransmit() !== undefined);
      this.events();
    }
  }

  send(destination: string, source = SERVER.text, port = 80): void {
    const [to, from] = [ip(destination), ip(source)];
    const header = to.family === 4 ? 20 : 40;
    const packet = new Uint8Array(header + 8);
    packet.set(to.family === 4 ? [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17] : [0x60, 0, 0, 0, 0, 8, 17]);
    packet.set(from.bytes, to.family === 4 ? 12 : 8);
    packet.set(to.bytes, to.family === 4 ? 16 : 24);
    packet.set([port >> 8, port & 0xff, 0, 99, 0, 8], header);
    this.state.handleTunPacket(this.now, packet, 0, packet.length, new TransmitQueue());
  }

  addressOf(clientId: string): string {
    return `100.64.0.${this.#numberOf(clientId)}`;
  }

  /** What was told since the last time, but for candidates. */
  events(): string[] {
    const told: string[] = [];
    for (let event; (event = this.state.pollEvent()) !== undefined;) told.push(...describe(event));
    return told;
  }

  access(): Record<string, readonly string[]> {
    const { peers } = this.state.status(this.now);
    return Object.fromEntries(peers.map((peer) => [peer.clientId, peer.resources]));
  }

  drops(): Record<string, number> {
    const all = Object.entries(this.state.status(this.now).drops);
    return Object.fromEntries(all.filter(([, count]) => count > 0));
  }

  #numberOf(clientId: string): number {
    let n = this.#numbers.get(clientId);
    if (n === undefined) this.#numbers.set(clientId, n = this.#next++);
    return n;
  }
}

function describe(event: GatewayEvent): string[] {
  switch (event.tag) {
    case "flow-authorized":
      return [`${event.tag} ${event.ref}`];
    case "access-revoked":
      return [`${event.tag} ${event.clientId}/${event.resourceId}`];
    case "client-gone":
      return [`${event.tag} ${event.clientId}`];
    case "candidates":
    case "candidates-invalidated":
    case "interface-changed":
      return [];
    default:
      return [event.tag];
  }
}

function cidr(
  id: string,
  range = "10.0.0.0/24",
  filters: readonly Filter[] = [],
): GatewayResource {
  return { type: "cidr", id, name: "", prefix: prefix(range), filters };
}

/** "Time exceeded" about a UDP packet to a server. */
function icmpError(router: string, to: string): Uint8Array {
  const packet = new Uint8Array(56);
  packet.set([0x45, 0, 0, 56, 0, 0, 0, 0, 64, PROTOCOL.icmp]);
  packet.set(ip(router).bytes, 12);
  packet.set(ip(to).bytes, 16);
  packet[20] = 11;
  packet.set([0x45, 0, 0, 28, 0, 0, 0, 0, 1, PROTOCOL.udp], 28);
  packet.set(ip(to).bytes, 40);
  packet.set(SERVER.bytes, 44);
  packet.set([0, 99, 0, 53], 48);
  return packet;
}
