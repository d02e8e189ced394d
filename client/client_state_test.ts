import { assert, assertEquals } from "@std/assert";
import { ip, prefix, PROTOCOL, socketAddress } from "@firezone/core/ip";
import type { ClientResource, Filter, FlowCreated, Relay } from "@firezone/core/portal";
import { seededRandom, testAead, TransmitQueue } from "@firezone/core/testing";
import { type Millis, NEVER } from "@firezone/core/units";
import { type ClientEvent, ClientState } from "./client_state.ts";

const US = ip("100.64.0.1");
const US6 = ip("fd00:2021:1111::1");
const SERVER = "10.0.0.7";
const OFFICE = { id: "office", name: "Office" };
const LAB = { id: "lab", name: "Lab" };
const RELAY: Relay = {
  id: "relay",
  servers: { v4: socketAddress("203.0.113.1:3478") },
  username: "user",
  password: "password",
};

Deno.test("the first packet to a resource asks for a gateway, once in two seconds", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  run.send(SERVER);
  assertEquals(run.requests(), ["r"]);
  run.at(1_999).send(SERVER);
  assertEquals(run.requests(), []);
  run.at(2_000).send(SERVER);
  assertEquals(run.requests(), ["r"]);
});

Deno.test("several resources are asked for at the same time", () => {
  const run = new Run(cidr("a", "10.0.0.0/24"), cidr("b", "10.0.1.0/24"));
  for (const server of ["10.0.0.7", "10.0.1.7", "10.0.0.8"]) run.send(server);
  assertEquals(run.requests(), ["a", "b"]);
});

Deno.test("nothing is asked for packets to ourselves, to groups, to nowhere, or of others", () => {
  const run = new Run(cidr("all", "100.64.0.0/10"), cidr("r", "10.0.0.0/24"));
  run.send(US.text);
  run.send("224.0.0.22");
  run.send("192.0.2.1");
  run.send(SERVER, "192.168.1.2");
  assertEquals(run.requests(), []);
  assertEquals(run.drops(), { noResource: 2, notOurSource: 1 });
});

Deno.test("nothing is asked for what the filters forbid: it is answered here", () => {
  const run = new Run(cidr("r", "10.0.0.0/24", [{ protocol: "udp", portStart: 53, portEnd: 53 }]));
  run.send(SERVER, US.text, 80);
  assertEquals(run.requests(), []);
  const reply = run.state.pollPacket()!;
  assertEquals([reply[9], reply[20], reply[21]], [PROTOCOL.icmp, 3, 13]);
  run.send(SERVER, US.text, 53);
  assertEquals(run.requests(), ["r"]);
});

Deno.test("a request that was not passed on yet goes with its resource", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  run.send(SERVER);
  run.state.handlePortalMessage(run.now, { tag: "resource-deleted", resourceId: "r" });
  assertEquals(run.requests(), []);
  run.state.handlePortalMessage(run.now, { tag: "resource-deleted", resourceId: "r" });
  run.state.handlePortalMessage(run.now, { tag: "resource-deleted", resourceId: "never was" });
  assertEquals(run.state.status(run.now).resources, []);
});

Deno.test("resources with one address are all listed", () => {
  const run = new Run(cidr("a", "10.0.0.0/24"), cidr("b", "10.0.0.0/24"));
  assertEquals(run.state.status(run.now).resources.map(({ id }) => id), ["a", "b"]);
  assertEquals(run.routes().filter((route) => route === "10.0.0.0/24"), ["10.0.0.0/24"]);
});

Deno.test("another name changes nothing for traffic; address, site, stack, filters and kind do", () => {
  const other: Record<string, ClientResource> = {
    address: cidr("r", "10.0.0.0/25"),
    site: { ...cidr("r", "10.0.0.0/24"), sites: [LAB] },
    filters: cidr("r", "10.0.0.0/24", [{ protocol: "icmp" }]),
    kind: dns("r", "dual"),
  };
  for (const [what, resource] of Object.entries(other)) {
    const run = new Run(cidr("r", "10.0.0.0/24"));
    run.connect("r", "g");
    run.put({ ...cidr("r", "10.0.0.0/24"), name: "Renamed" });
    assertEquals(run.carrier("r"), "g");
    assertEquals(run.state.status(run.now).resources[0]!.name, "Renamed");
    run.put(resource);
    assertEquals(run.carrier("r"), undefined, what);
    assertEquals(run.state.status(run.now).connections, [], what);
  }
  const run = new Run(dns("r", "dual"));
  run.state.setDomains([{ domain: "a.example.com", slot: 0, resourceIds: ["r"] }]);
  run.send("100.96.0.1");
  assertEquals(run.requests(), ["r"]);
  run.answer("r", "g");
  run.put(dns("r", "ipv4_only"));
  assertEquals(run.carrier("r"), undefined);
});

Deno.test("filters that change let what flows go on", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  run.connect("r", "g");
  run.state.handlePortalMessage(run.now, {
    tag: "resource-filters-updated",
    resourceId: "r",
    filters: [{ protocol: "icmp" }],
  });
  assertEquals(run.carrier("r"), "g");
  run.send(SERVER);
  assert(run.state.pollPacket(), "it is refused now");
});

Deno.test("init takes away what it does not list, and keeps what it does", () => {
  const run = new Run(cidr("a", "10.0.0.0/24"), cidr("b", "10.0.1.0/24"));
  run.connect("a", "g");
  run.connect("b", "g", "10.0.1.7");
  run.init(cidr("b", "10.0.1.0/24"), cidr("c", "10.0.2.0/24"));
  const { resources, connections } = run.state.status(run.now);
  assertEquals(resources.map(({ id, gatewayId }) => [id, gatewayId]), [["b", "g"], [
    "c",
    undefined,
  ]]);
  assertEquals(connections.length, 1);
  run.init();
  assertEquals(run.state.status(run.now).connections, []);
});

Deno.test("an answer that nobody awaits counts for nothing", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  run.answer("r", "g");
  assertEquals(run.carrier("r"), undefined, "nobody asked");
  run.connect("r", "g");
  run.answer("r", "h");
  assertEquals(run.carrier("r"), "g", "it was answered already");
});

Deno.test("after a refusal a site is offline until somebody is there, or five minutes are over", () => {
  const run = new Run(cidr("a", "10.0.0.0/24"), cidr("b", "10.0.1.0/24"));
  run.send(SERVER);
  run.requests();
  run.refuse("a", "offline");
  assertEquals(run.statuses(), ["offline", "offline"]);
  assert(run.state.pollTimeout() <= run.now + 300_000);
  run.at(300_000).state.handleTimeout(run.now);
  assertEquals(run.statuses(), ["unknown", "unknown"]);
  run.send(SERVER);
  run.refuse("a", "forbidden");
  assertEquals(run.statuses(), ["unknown", "unknown"], "another reason says nothing of the site");
  run.refuse("never was", "offline");
});

Deno.test("reset asks for what was connected, at the same gateway, and for nothing else", () => {
  const run = new Run(cidr("a", "10.0.0.0/24"), cidr("b", "10.0.1.0/24"));
  run.connect("a", "g");
  run.at(1).state.reset(run.now, new Uint8Array(32).fill(3));
  assertEquals(run.drain().filter((event) => event.tag === "request-flow"), [
    { tag: "request-flow", resourceId: "a", connectedGatewayIds: ["g"] },
  ]);
  assertEquals(run.state.status(run.now).connections, []);
});

Deno.test("reset drops what belongs to the former key, and nothing of the interface", () => {
  const run = new Run();
  run.init(cidr("a", "10.0.0.0/24"));
  run.send(SERVER);
  run.state.reset(run.now, new Uint8Array(32).fill(3));
  const tags = run.drain().map(({ tag }) => tag);
  assertEquals(tags, ["interface-changed", "dns-changed", "routes-changed", "names-changed"]);
});

Deno.test("any change of addresses, servers or search domain is told, resources or not", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  const before = {
    ipv4: US,
    ipv6: US6,
    upstreamDns: [],
    upstreamDoh: [],
    searchDomain: undefined,
  };
  const changes = [
    { ipv4: ip("100.64.0.99") },
    { ipv6: ip("fd00:2021:1111::99") },
    { upstreamDns: [socketAddress("192.0.2.53:53")] },
    { upstreamDoh: ["https://dns.example/dns-query"] },
    { searchDomain: "corp.example" },
  ];
  for (const change of changes) {
    const next = { ...before, ...change };
    run.state.handlePortalMessage(run.now, { tag: "config-changed", interface: next });
    const { upstreamDns, upstreamDoh, searchDomain } = next;
    assertEquals(run.drain(), [
      { tag: "interface-changed", interface: next },
      { tag: "dns-changed", upstreamDns, upstreamDoh, searchDomain },
    ]);
  }
});

Deno.test("what makes no sense changes nothing", () => {
  const run = new Run(cidr("r", "10.0.0.0/24"));
  const { now, state } = run;
  const messages = [
    { tag: "ice-candidates", peerId: "nobody", candidates: ["nonsense"] },
    { tag: "invalidate-ice-candidates", peerId: "nobody", candidates: [""] },
    { tag: "resource-filters-updated", resourceId: "nobody", filters: [] },
    { tag: "relays-presence", disconnectedIds: ["nobody"], connected: [] },
    {
      tag: "flow-creation-failed",
      resourceId: "nobody",
      reason: "offline",
      violatedProperties: [],
    },
  ] as const;
  for (const message of messages) state.handlePortalMessage(now, message);
  for (let length = 0; length < 64; length++) {
    const bytes = new Uint8Array(length).fill(length * 37);
    state.handleTunPacket(now, bytes, 0, length, new TransmitQueue());
  }
  assertEquals(run.requests(), []);
  assertEquals(state.status(now).connections, []);
});

Deno.test("pollTimeout says now while something is queued, and never without work", () => {
  const run = new Run();
  assertEquals(run.state.pollTimeout(), NEVER);
  run.init(cidr("r", "10.0.0.0/24"));
  assertEquals(run.state.pollTimeout(), 0);
});

/** A client whose portal is the test. */
class Run {
  readonly state: ClientState;
  now = 0 as Millis;

  constructor(...resources: ClientResource[]) {
    const random = seededRandom(1);
    this.state = new ClientState({
      privateKey: random(32),
      aead: testAead(),
      random,
      unixMillisAtZero: 0,
    });
    if (resources.length > 0) {
      this.init(...resources);
      this.#initial = this.drain();
    }
  }

  #initial: ClientEvent[] = [];

  at(ms: number): this {
    this.now = ms as Millis;
    return this;
  }

  init(...resources: ClientResource[]): void {
    this.state.handlePortalMessage(this.now, {
      tag: "init",
      interface: {
        ipv4: US,
        ipv6: US6,
        upstreamDns: [],
        upstreamDoh: [],
        searchDomain: undefined,
      },
      resources,
      relays: [RELAY],
      skippedResources: 0,
    });
  }

  put(resource: ClientResource): void {
    this.state.handlePortalMessage(this.now, { tag: "resource-created-or-updated", resource });
  }

  send(destination: string, source = US.text, port = 80): void {
    const packet = new Uint8Array(28);
    packet.set([0x45, 0, 0, 28, 0, 0, 0, 0, 64, PROTOCOL.udp]);
    packet.set(ip(source).bytes, 12);
    packet.set(ip(destination).bytes, 16);
    packet.set([0, 99, port >> 8, port & 0xff, 0, 8], 20);
    this.state.handleTunPacket(this.now, packet, 0, packet.length, new TransmitQueue());
  }

  /** Asks for a resource and gets this gateway. */
  connect(resourceId: string, gatewayId: string, server = SERVER): void {
    this.send(server);
    assertEquals(this.requests(), [resourceId]);
    this.answer(resourceId, gatewayId);
  }

  answer(resourceId: string, gatewayId: string): void {
    const flow: FlowCreated = {
      tag: "flow-created",
      resourceId,
      gatewayId,
      gatewayPublicKey: new Uint8Array(32).fill(9),
      gatewayIps: undefined,
      siteId: OFFICE.id,
      presharedKey: new Uint8Array(32),
      clientIce: { username: "mhk3", password: "xeez6p6qyqmqw43xdyu2q7" },
      gatewayIce: { username: "wjgw", password: "kwomcb6zu3gppp5absmcva" },
    };
    this.state.handlePortalMessage(this.now, flow);
  }

  refuse(resourceId: string, reason: string): void {
    this.state.handlePortalMessage(this.now, {
      tag: "flow-creation-failed",
      resourceId,
      reason: reason as "offline",
      violatedProperties: [],
    });
  }

  drain(): ClientEvent[] {
    const events: ClientEvent[] = [];
    for (let event; (event = this.state.pollEvent()) !== undefined;) events.push(event);
    return events;
  }

  /** Resources that gateways were asked for since the last time. */
  requests(): string[] {
    return this.drain().flatMap((one) => one.tag === "request-flow" ? [one.resourceId] : []);
  }

  routes(): string[] {
    return this.#initial.flatMap((one) =>
      one.tag === "routes-changed" ? one.routes.map(String) : []
    );
  }

  carrier(id: string): string | undefined {
    return this.state.status(this.now).resources.find((one) => one.id === id)?.gatewayId;
  }

  statuses(): string[] {
    return this.state.status(this.now).resources.map(({ status }) => status);
  }

  /** Reasons for which something was dropped. */
  drops(): Record<string, number> {
    const all = Object.entries(this.state.status(this.now).drops);
    return Object.fromEntries(all.filter(([, count]) => count > 0));
  }
}

const COMMON = { name: "", addressDescription: undefined, sites: [OFFICE] };

function cidr(id: string, range: string, filters: readonly Filter[] = []): ClientResource {
  return { ...COMMON, type: "cidr", id, prefix: prefix(range), filters };
}

function dns(id: string, ipStack: "dual" | "ipv4_only"): ClientResource {
  return { ...COMMON, type: "dns", id, pattern: "*.example.com", ipStack, filters: [] };
}
