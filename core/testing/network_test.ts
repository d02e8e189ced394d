import { assert, assertEquals, assertThrows } from "@std/assert";
import { SocketAddress, socketAddress } from "../ip/address.ts";
import type { Transmit } from "../transmit.ts";
import { after, type Millis, NEVER } from "../units.ts";
import type { Owner } from "./host.ts";
import type { LinkOptions } from "./link.ts";
import { Mailbox } from "./mailbox.ts";
import { NAT_KINDS } from "./nat.ts";
import { Network, type TraceEntry } from "./network.ts";

const HELLO = new Uint8Array([1, 2, 3]);

Deno.test("a datagram takes the delays of both links and says where it came from", () => {
  const { network, alice, bob, toBob } = twoOnTheInternet({ delayMs: 7 });
  alice.send(toBob, HELLO);
  network.runFor(11);
  assertEquals(bob.mails.length, 0);
  network.runFor(1);
  assertEquals(bob.mails, [
    {
      at: 12 as Millis,
      local: socketAddress("203.0.113.2:2000"),
      from: socketAddress("203.0.113.1:1000"),
      payload: HELLO,
    },
  ]);
  assertEquals(network.now, 12 as Millis);
  assertEquals(network.verdicts.delivered, 1);
});

Deno.test("both families work, each from the address of its own", () => {
  const network = new Network();
  const [alice, bob] = [new Mailbox(), new Mailbox()];
  network.addHost("alice", alice, { addresses: ["203.0.113.1", "2001:db8::1"], port: 1 });
  const host = network.addHost("bob", bob, { addresses: ["203.0.113.2", "2001:db8::2"], port: 2 });
  alice.send(host.endpoint(4), HELLO);
  alice.send(host.endpoint(6), HELLO);
  network.runFor(100);
  assertEquals(bob.mails.map((mail) => mail.from.key), ["203.0.113.1:1", "[2001:db8::1]:1"]);
});

Deno.test("what cannot arrive is counted by reason", () => {
  const { network, alice, toBob } = twoOnTheInternet({});
  alice.send(socketAddress("203.0.113.9:1"), HELLO); // nobody
  alice.send(socketAddress("[2001:db8::1]:1"), HELLO); // no address of that family
  alice.send(toBob, HELLO, socketAddress("203.0.113.2:1000")); // not its own source
  alice.send(socketAddress("203.0.113.2:2001"), HELLO);
  alice.send(toBob, new Uint8Array(1473));
  alice.send(toBob, new Uint8Array(1472));
  network.runFor(100);
  assertEquals(network.verdicts, {
    "delivered": 1,
    "lost": 0,
    "too-big": 1,
    "blocked": 0,
    "filtered": 0,
    "unroutable": 3,
    "closed-port": 1,
  });
});

Deno.test("a host without a port of its own hears all, and must name its sources", () => {
  const network = new Network();
  const [relay, peer] = [new Mailbox(), new Mailbox()];
  network.addHost("relay", relay, { addresses: ["203.0.113.1"] });
  network.addHost("peer", peer, { addresses: ["203.0.113.2"], port: 9 });
  peer.send(socketAddress("203.0.113.1:3478"), HELLO);
  peer.send(socketAddress("203.0.113.1:49152"), HELLO);
  relay.send(socketAddress("203.0.113.2:9"), HELLO, socketAddress("203.0.113.1:50000"));
  network.runFor(100);
  assertEquals(relay.mails.map((mail) => mail.local.port), [3478, 49152]);
  assertEquals(peer.mails.map((mail) => mail.from.port), [50000]);
  relay.send(socketAddress("203.0.113.2:9"), HELLO);
  assertThrows(() => network.runFor(1), Error, "must name their source");
});

Deno.test("loss, duplication and jitter happen as often as asked and replay with the seed", () => {
  const run = (seed: number) => {
    const link = { loss: 0.3, duplication: 0.2, jitterMs: 20 };
    const { network, alice, bob, toBob } = twoOnTheInternet(link, seed);
    for (let i = 0; i < 1000; i++) alice.send(toBob, new Uint8Array([i >> 8, i]));
    network.runFor(1000);
    return {
      lost: network.verdicts.lost,
      order: bob.mails.map((m) => m.payload[0]! << 8 | m.payload[1]!),
    };
  };
  const first = run(1);
  assert(Math.abs(first.lost - 300) < 60, `${first.lost} lost`);
  assert(Math.abs(first.order.length - 700 * 1.2) < 80, `${first.order.length} arrived`);
  assert(first.order.some((n, i) => i > 0 && n < first.order[i - 1]!), "reordered");
  assertEquals(run(1), first);
  assert(JSON.stringify(run(2)) !== JSON.stringify(first));
});

Deno.test("links without luck keep the order", () => {
  const { network, alice, bob, toBob } = twoOnTheInternet({});
  for (let i = 0; i < 50; i++) alice.send(toBob, new Uint8Array([i]));
  network.runFor(100);
  assertEquals(bob.mails.map((mail) => mail.payload[0]), Array.from({ length: 50 }, (_, i) => i));
});

Deno.test("a NAT translates out and back, and lets no stranger in", () => {
  const { network, inside, server, stranger } = behindNat();
  inside.send(socketAddress("203.0.113.1:3478"), HELLO);
  network.runFor(100);
  assertEquals(server.mails[0]!.from.key, "198.51.100.1:5000");
  server.send(server.mails[0]!.from, HELLO);
  stranger.send(server.mails[0]!.from, HELLO);
  network.runFor(100);
  assertEquals(inside.mails.map((mail) => [mail.local.key, mail.from.key]), [
    ["192.168.1.2:5000", "203.0.113.1:3478"],
  ]);
  assertEquals(network.verdicts.filtered, 1);
});

Deno.test("two hosts behind port-restricted NATs meet by hole punching; symmetric ones do not", () => {
  const meet = (left: keyof typeof NAT_KINDS, right: keyof typeof NAT_KINDS) => {
    const network = new Network({ seed: 3 });
    const server = new Mailbox();
    network.addHost("server", server, { addresses: ["203.0.113.1"], port: 1 });
    const hosts = [left, right].map((kind, i) => {
      const address = `198.51.100.${1 + i}`;
      const router = network.addRouter(kind + i, { addresses: [address], nat: NAT_KINDS[kind] });
      const mailbox = new Mailbox();
      const place = { addresses: ["192.168.1.2"], behind: router };
      network.addHost(`host ${i}`, mailbox, { ...place, port: 5000 });
      return mailbox;
    });
    for (const host of hosts) host.send(socketAddress("203.0.113.1:1"), HELLO);
    network.runFor(100);
    const reflexive = server.mails.map((mail) => mail.from);
    const peer = (i: number) => reflexive.find((a) => a.ip.text === `198.51.100.${2 - i}`)!;
    for (let round = 0; round < 3; round++) {
      for (const [i, host] of hosts.entries()) host.send(peer(i), HELLO);
      network.runFor(100);
    }
    return hosts.every((host) => host.mails.length > 0);
  };
  assertEquals(meet("portRestrictedCone", "portRestrictedCone"), true);
  assertEquals(meet("fullCone", "restrictedCone"), true);
  assertEquals(meet("symmetric", "portRestrictedCone"), false);
  assertEquals(meet("symmetric", "symmetric"), false);
});

Deno.test("hairpinning leads back inside, with the external source (RFC 4787 REQ-9)", () => {
  for (const hairpinning of [true, false]) {
    const network = new Network();
    const router = network.addRouter("home", { addresses: ["198.51.100.1"], nat: { hairpinning } });
    const [one, two] = [new Mailbox(), new Mailbox()];
    network.addHost("one", one, { addresses: ["192.168.1.1"], behind: router, port: 1 });
    network.addHost("two", two, { addresses: ["192.168.1.2"], behind: router, port: 2 });
    const [external1, external2] = [
      socketAddress("198.51.100.1:1"),
      socketAddress("198.51.100.1:2"),
    ];
    for (let round = 0; round < 2; round++) {
      one.send(external2, HELLO);
      two.send(external1, HELLO);
      network.runFor(100);
    }
    const expected = hairpinning ? ["198.51.100.1:2", "198.51.100.1:2"] : [];
    assertEquals(one.mails.map((mail) => mail.from.key).slice(-2), expected);
    two.send(socketAddress("192.168.1.1:1"), HELLO); // the direct way is always there
    network.runFor(100);
    assertEquals(one.mails.at(-1)!.from.key, "192.168.1.2:2");
  }
});

Deno.test("a NAT behind a NAT translates twice, and members of the middle are near", () => {
  const network = new Network();
  const carrier = network.addRouter("carrier", { addresses: ["198.51.100.1"] });
  const home = network.addRouter("home", { addresses: ["100.64.0.2"], behind: carrier });
  const [inside, middle, server] = [new Mailbox(), new Mailbox(), new Mailbox()];
  network.addHost("inside", inside, { addresses: ["192.168.1.2"], behind: home, port: 5000 });
  network.addHost("middle", middle, { addresses: ["100.64.0.3"], behind: carrier, port: 1 });
  network.addHost("server", server, { addresses: ["203.0.113.1"], port: 1 });
  inside.send(socketAddress("203.0.113.1:1"), HELLO);
  inside.send(socketAddress("100.64.0.3:1"), HELLO);
  network.runFor(100);
  assertEquals(server.mails[0]!.from.key, "198.51.100.1:5000");
  assertEquals(middle.mails[0]!.from.key, "100.64.0.2:5000");
  server.send(server.mails[0]!.from, HELLO);
  network.runFor(100);
  assertEquals(inside.mails.length, 1);
});

Deno.test("IPv6 behind a router keeps its addresses, behind a firewall or in the open", () => {
  for (const firewall of ["open", {}] as const) {
    const network = new Network();
    const prefixes = ["2001:db8:7::/64"];
    const router = network.addRouter("home", { addresses: ["198.51.100.1"], prefixes, firewall });
    const [inside, outside] = [new Mailbox(), new Mailbox()];
    const addresses = ["192.168.1.2", "2001:db8:7::2"];
    const host = network.addHost("inside", inside, { addresses, behind: router, port: 1 });
    network.addHost("outside", outside, { addresses: ["2001:db8::1"], port: 2 });
    outside.send(host.endpoint(6), HELLO);
    network.runFor(100);
    assertEquals(inside.mails.length, firewall === "open" ? 1 : 0);
    inside.send(socketAddress("[2001:db8::1]:2"), HELLO);
    network.runFor(100);
    assertEquals(outside.mails[0]!.from.key, "[2001:db8:7::2]:1");
    outside.send(host.endpoint(6), HELLO);
    network.runFor(100);
    assertEquals(inside.mails.length, firewall === "open" ? 2 : 1);
  }
});

Deno.test("what nobody routes ends, rather than going round", () => {
  const { network, inside, server } = behindNat();
  server.send(socketAddress("192.168.1.2:5000"), HELLO); // private, unknown outside
  inside.send(socketAddress("192.168.1.77:1"), HELLO); // unknown inside: goes out, ends there
  network.runFor(100);
  assertEquals(network.verdicts.unroutable, 2);
});

Deno.test("block stops both directions until it is lifted, also behind a NAT", () => {
  const { network, inside, server } = behindNat();
  const lift = network.block("198.51.100.1", "203.0.113.0/24");
  inside.send(socketAddress("203.0.113.1:3478"), HELLO);
  network.runFor(100);
  assertEquals([server.mails.length, network.verdicts.blocked], [0, 1]);
  lift();
  inside.send(socketAddress("203.0.113.1:3478"), HELLO);
  network.runFor(100);
  assertEquals(server.mails.length, 1);
  network.dropIf(({ payload }) => payload.length > 3);
  server.send(server.mails[0]!.from, new Uint8Array(4));
  server.send(server.mails[0]!.from, HELLO);
  network.runFor(100);
  assertEquals(inside.mails.length, 1);
});

Deno.test("a host that moves is found at its new place alone", () => {
  const { network, alice, bob, toBob } = twoOnTheInternet({});
  const host = network.hosts[1]!;
  alice.send(toBob, HELLO);
  network.runFor(5);
  network.move(host, { addresses: ["203.0.113.3"] });
  network.runFor(100);
  assertEquals([bob.mails.length, network.verdicts.unroutable], [0, 1]);
  alice.send(host.endpoint(4), HELLO);
  network.runFor(100);
  assertEquals(bob.mails[0]!.local.key, "203.0.113.3:2000");
  network.move(host, undefined);
  bob.send(socketAddress("203.0.113.1:1000"), HELLO);
  network.runFor(100);
  assertEquals(alice.mails.length, 0);
  network.addHost("heir", new Mailbox(), { addresses: ["203.0.113.3"] });
  assertThrows(() => network.move(host, { addresses: ["203.0.113.3"] }), Error, "heir has it");
});

Deno.test("time jumps from deadline to deadline, and stops where a condition holds", () => {
  const network = new Network({ startMs: 50 });
  const alarm = new Alarm([100, 100, 250, 99_000]);
  network.addHost("alarm", alarm, { addresses: ["203.0.113.1"], port: 1 });
  let called = -1;
  network.after(30, (now) => called = now);
  assertEquals(network.runUntil(() => alarm.rang.length === 3), true);
  assertEquals([alarm.rang, network.now, called], [[100, 100, 250], 250 as Millis, 80]);
  assertEquals(network.runUntil(() => false, 1000), false);
  assertEquals(network.now, 1250 as Millis);
  network.runFor(1e9);
  assertEquals(alarm.rang.at(-1), 99_000);
});

Deno.test("a deadline in the past means now", () => {
  const network = new Network({ startMs: 500 });
  const alarm = new Alarm([0, 3]);
  network.addHost("alarm", alarm, { addresses: ["203.0.113.1"], port: 1 });
  network.runFor(0);
  assertEquals(alarm.rang, [500, 500]);
});

Deno.test("a machine that spins is named", () => {
  const network = new Network();
  const spinner: Owner = Object.assign(new Mailbox(), { pollTimeout: () => 0 as Millis });
  network.addHost("whirl", spinner, { addresses: ["203.0.113.1"], port: 1 });
  assertThrows(() => network.runFor(1), Error, "Host whirl spins");
});

Deno.test("a machine that never stops sending is named", () => {
  const network = new Network();
  const destination = socketAddress("203.0.113.2:1");
  const pollTransmit = (): Transmit => ({ source: undefined, destination, payload: HELLO });
  const chatterer: Owner = Object.assign(new Mailbox(), { pollTransmit });
  network.addHost("chatter", chatterer, { addresses: ["203.0.113.1"], port: 1 });
  assertThrows(() => network.runFor(1), Error, "Host chatter never stops");
});

Deno.test("an owner's events are drained after every input", () => {
  const network = new Network();
  class Echo extends Mailbox {
    drain() {
      for (const mail of this.mails.splice(0)) this.send(mail.from, mail.payload);
    }
  }
  const client = new Mailbox();
  network.addHost("echo", new Echo(), { addresses: ["203.0.113.1"], port: 7 });
  network.addHost("client", client, { addresses: ["203.0.113.2"], port: 8 });
  client.send(socketAddress("203.0.113.1:7"), HELLO);
  assertEquals(network.runUntil(() => client.mails.length === 1), true);
  assertEquals(network.now, 20 as Millis);
});

Deno.test("the trace tells every datagram's end; payloads are copies", () => {
  const trace: TraceEntry[] = [];
  const network = new Network({ trace: (entry) => trace.push(entry) });
  const [alice, bob] = [new Mailbox(), new Mailbox()];
  network.addHost("alice", alice, { addresses: ["203.0.113.1"], port: 1 });
  network.addHost("bob", bob, { addresses: ["203.0.113.2"], port: 2 });
  const payload = HELLO.slice();
  alice.send(socketAddress("203.0.113.2:2"), payload);
  alice.send(socketAddress("203.0.113.3:2"), payload);
  network.runFor(1);
  payload.fill(9);
  network.runFor(50);
  assertEquals(trace.map(({ at, verdict, to }) => [at, verdict, to.port]), [
    [5 as Millis, "unroutable", 2],
    [10 as Millis, "delivered", 2],
  ]);
  assertEquals(bob.mails[0]!.payload, HELLO);
});

/** Rings at given instants. */
class Alarm extends Mailbox {
  readonly rang: number[] = [];
  readonly #at: number[];

  constructor(at: number[]) {
    super();
    this.#at = at;
  }

  override pollTimeout(): Millis {
    return this.#at.length > 0 ? after(0 as Millis, this.#at[0]!) : NEVER;
  }

  override handleTimeout(now: Millis): void {
    if (this.pollTimeout() > now) return;
    this.#at.shift();
    this.rang.push(now);
  }
}

function twoOnTheInternet(link: LinkOptions, seed = 0) {
  const network = new Network({ seed });
  const [alice, bob] = [new Mailbox(), new Mailbox()];
  network.addHost("alice", alice, { addresses: ["203.0.113.1"], port: 1000, link });
  const host = network.addHost("bob", bob, { addresses: ["203.0.113.2"], port: 2000 });
  return { network, alice, bob, toBob: new SocketAddress(host.address(4)!, 2000) };
}

function behindNat() {
  const network = new Network();
  const router = network.addRouter("home", { addresses: ["198.51.100.1"] });
  const [inside, server, stranger] = [new Mailbox(), new Mailbox(), new Mailbox()];
  network.addHost("inside", inside, { addresses: ["192.168.1.2"], behind: router, port: 5000 });
  network.addHost("server", server, { addresses: ["203.0.113.1"], port: 3478 });
  network.addHost("stranger", stranger, { addresses: ["203.0.113.2"], port: 3478 });
  return { network, inside, server, stranger };
}
