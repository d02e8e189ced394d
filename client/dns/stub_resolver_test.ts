import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import packet from "dns-packet";
import fc from "fast-check";
import { ip, socketAddress } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import {
  type DnsTransport,
  type ForwardCommand,
  MAX_IN_FLIGHT,
  QUERY_TIMEOUT_MS,
  type StubEvent,
  StubResolver,
  type StubResolverOptions,
} from "./stub_resolver.ts";

const SENTINEL = "100.100.111.1";
const PROXY_V4 = ["100.96.0.1", "100.96.0.2", "100.96.0.3", "100.96.0.4"];
const PROXY_V6 = [1, 2, 3, 4].map((n) => `fd00:2021:1111:8000::${n}`);

Deno.test("StubResolver answers or forwards by the table", async (t) => {
  const FORWARD = "forward";
  const SITE = "site";
  /** Name and type; then what is answered, as `RCODE: data`, or where it goes. */
  const table: [name: string, type: string, outcome: string][] = [
    ["use-application-dns.net", "A", "NXDOMAIN:"],
    ["use-application-dns.net", "AAAA", "NXDOMAIN:"],
    ["_dns.resolver.arpa", "SVCB", "NOERROR:"],
    ["resolver.arpa", "A", "NOERROR:"],
    ["my-resolver.arpa", "A", FORWARD],
    ["USE-application-dns.NET", "A", "NXDOMAIN:"],
    ["db.example.com", "A", `NOERROR: ${PROXY_V4}`],
    ["DB.Example.COM", "A", `NOERROR: ${PROXY_V4}`],
    ["db.example.com", "AAAA", `NOERROR: ${PROXY_V6}`],
    ["db.example.com", "ANY", `NOERROR: ${[...PROXY_V4, ...PROXY_V6]}`],
    ["db.example.com", "HTTPS", "NOERROR:"],
    ["db.example.com", "SVCB", "NOERROR:"],
    ["db.example.com", "SRV", SITE],
    ["db.example.com", "TXT", SITE],
    ["db.example.com", "MX", FORWARD],
    ["db.example.com", "CNAME", FORWARD],
    ["db.example.com", "NS", FORWARD],
    ["db.example.com", "SOA", FORWARD],
    ["example.com", "A", `NOERROR: ${PROXY_V4}`], // *. also matches the apex
    ["a.b.example.com", "A", FORWARD],
    ["v4.test", "A", `NOERROR: ${PROXY_V4}`],
    ["v4.test", "AAAA", "NOERROR:"],
    ["v6.test", "A", "NOERROR:"],
    ["v6.test", "AAAA", `NOERROR: ${PROXY_V6}`],
    ["example.org", "A", FORWARD],
    ["example.org", "AAAA", FORWARD],
    ["example.org", "HTTPS", FORWARD],
    ["example.org", "SRV", FORWARD],
    ["example.org", "TXT", FORWARD],
    ["example.org", "MX", FORWARD],
    ["1.0.96.100.in-addr.arpa", "PTR", FORWARD], // assigned to nobody yet
    ["1.2.0.192.in-addr.arpa", "PTR", FORWARD],
    [".", "NS", FORWARD],
  ];
  for (const transport of ["udp", "tcp"] as const) {
    for (const [name, type, outcome] of table) {
      await t.step(`${type} ${name} over ${transport}`, () => {
        const run = start();
        run.resolver.setResources([
          { id: "r1", pattern: "*.example.com", ipStack: "dual" },
          { id: "r4", pattern: "v4.test", ipStack: "ipv4_only" },
          { id: "r6", pattern: "v6.test", ipStack: "ipv6_only" },
        ]);
        run.ask(name, type, { transport });
        if (outcome === FORWARD || outcome === SITE) {
          const command = run.forwarded();
          assertEquals(command.transport, transport);
          assertEquals(
            command.target,
            outcome === SITE ? { tag: "site", resourceId: "r1" } : SYSTEM,
          );
          assertEquals(run.answers(), []);
        } else {
          assertEquals(run.answers(), [outcome]);
          assertEquals(run.commands(), []);
        }
      });
    }
  }
});

Deno.test("StubResolver answers A and AAAA with a TTL of 1 s, RA set and the spelling kept", () => {
  const run = start({ pattern: "*.example.com" });
  run.ask("dB.Example.com", "A", { id: 77 });
  const answer = run.answer();
  assertEquals([answer.id, answer.flag_ra, answer.flag_aa, answer.flag_tc], [
    77,
    true,
    false,
    false,
  ]);
  assertEquals(answer.questions[0].name, "dB.Example.com");
  assertEquals(answer.answers.map((record: { ttl: number }) => record.ttl), [1, 1, 1, 1]);
});

Deno.test("StubResolver tells of a resource's name every time, and of new records once", () => {
  const run = start({ pattern: "*.example.com" });
  run.ask("db.example.com", "A");
  run.ask("DB.example.com", "AAAA");
  run.ask("db.example.com", "HTTPS");
  const [changed, first, second, ...others] = run.events();
  assertEquals(changed, { tag: "records-changed" });
  assert(first?.tag === "domain-resolved");
  assertEquals(first.resolved.domain, "db.example.com");
  assertEquals(first.resolved.slot, 0);
  assertEquals(first.resolved.resourceIds, ["r1"]);
  assertEquals(second, first);
  assertEquals(others, []);
});

Deno.test("StubResolver names all resources of a name, the most specific first", () => {
  const run = start();
  run.resolver.setResources([
    { id: "all", pattern: "**", ipStack: "dual" },
    { id: "exact", pattern: "db.example.com", ipStack: "ipv4_only" },
    { id: "star", pattern: "*.example.com", ipStack: "dual" },
  ]);
  run.ask("db.example.com", "AAAA");
  assertEquals(run.answers(), [`NOERROR: ${PROXY_V6}`]);
  const resolved = run.events().find((event) => event.tag === "domain-resolved");
  assertEquals(resolved?.resolved.resourceIds, ["exact", "star", "all"]);
  run.ask("db.example.com", "TXT");
  assertEquals(run.forwarded().target, { tag: "site", resourceId: "exact" });
});

Deno.test("StubResolver answers the families of all resources of a name", () => {
  for (const other of ["db.example.com", "*.example.com", "**"]) {
    const run = start();
    run.resolver.setResources([
      { id: "a", pattern: "db.example.com", ipStack: "ipv4_only" },
      { id: "b", pattern: other, ipStack: "ipv6_only" },
    ]);
    run.ask("db.example.com", "A");
    run.ask("db.example.com", "AAAA");
    assertEquals(run.answers(), [`NOERROR: ${PROXY_V4}`, `NOERROR: ${PROXY_V6}`]);
  }
});

Deno.test("StubResolver lets nobody deny the name of a resource, only records of a type", () => {
  const NXDOMAIN = 3;
  const rcodeOf = (name: string, type: string, flags = NXDOMAIN) => {
    const run = start({ pattern: "*.example.com" }, { systemNames: ["portal.example.com"] });
    run.ask(name, type);
    run.reply(run.forwarded(), { flags });
    return run.answer().rcode;
  };
  assertEquals(rcodeOf("db.example.com", "MX"), "NOERROR");
  assertEquals(rcodeOf("DB.example.com", "SSHFP"), "NOERROR");
  assertEquals(rcodeOf("db.example.com", "SRV"), "NOERROR");
  assertEquals(rcodeOf("db.example.com", "MX", 2), "SERVFAIL");
  assertEquals(rcodeOf("db.example.org", "MX"), "NXDOMAIN");
  assertEquals(rcodeOf("portal.example.com", "A"), "NXDOMAIN");
});

Deno.test("StubResolver answers PTR for proxy addresses while their resource is there", () => {
  const run = start({ pattern: "*.example.com" });
  run.ask("db.example.com", "A");
  run.answers();
  const v6 = [...`fd002021111180000000000000000004`].reverse().join(".") + ".ip6.arpa";
  run.ask("4.0.96.100.in-addr.arpa", "PTR");
  run.ask(v6, "PTR");
  assertEquals(run.answers(), ["NOERROR: db.example.com", "NOERROR: db.example.com"]);
  run.ask("5.0.96.100.in-addr.arpa", "PTR");
  run.ask(v6, "A");
  run.ask("0.96.100.in-addr.arpa", "PTR");
  run.ask("x.0.96.100.in-addr.arpa", "PTR");
  run.ask("z" + v6.slice(1), "PTR");
  run.resolver.setResources([]);
  run.ask("4.0.96.100.in-addr.arpa", "PTR");
  assertEquals(run.commands().length, 6);
});

Deno.test("StubResolver keeps addresses over changes of the resources and over restarts", () => {
  const run = start({ pattern: "*.example.com" });
  run.ask("a.example.com", "A");
  run.ask("b.example.com", "A");
  const before = run.answers();
  run.resolver.setResources([]);
  assertEquals(run.resolver.resolvedDomains(), []);
  run.resolver.setResources([{ id: "r2", pattern: "**.example.com", ipStack: "dual" }]);
  const next = start({ pattern: "*.example.com" }, { records: run.resolver.proxyRecords() });
  for (const { ask, answers, resolver } of [run, next]) {
    ask("a.example.com", "A");
    ask("b.example.com", "A");
    assertEquals(answers(), before);
    assertEquals(resolver.resolvedDomains().map(({ domain }) => domain), [
      "a.example.com",
      "b.example.com",
    ]);
  }
  assertEquals(next.events().some((event) => event.tag === "records-changed"), false);
});

Deno.test("StubResolver takes addresses from the name asked for longest ago when there are too many", () => {
  const run = start({ pattern: "*.example.com" }, { maxNames: 2 });
  for (const name of ["a", "b", "c"]) run.ask(`${name}.example.com`, "A");
  assertEquals(run.answers()[2], "NOERROR: 100.96.0.9,100.96.0.10,100.96.0.11,100.96.0.12");
  assertEquals(run.events().filter(({ tag }) => tag === "domain-evicted"), [
    { tag: "domain-evicted", domain: "a.example.com" },
  ]);
  run.ask("1.0.96.100.in-addr.arpa", "PTR");
  assertEquals(run.forwarded().target, SYSTEM);
});

Deno.test("StubResolver tries the search domain for names of one label", () => {
  const run = start({ pattern: "*.example.com" });
  run.resolver.setInterface([], [], "Example.com.");
  run.ask("db", "A");
  assertEquals(run.answers(), [`NOERROR: ${PROXY_V4}`]);
  const resolved = run.events().find((event) => event.tag === "domain-resolved");
  assertEquals(resolved?.resolved.domain, "db.example.com");
  run.ask("db", "HTTPS");
  assertEquals(run.answers(), ["NOERROR:"]);
  run.ask("db.test", "A");
  assertEquals(run.forwarded().target, SYSTEM);
  run.resolver.setInterface([], [], "example.org");
  run.ask("db", "A");
  assertEquals(run.forwarded().target, SYSTEM);
});

Deno.test("StubResolver answers neighbours with addresses of resources, and else not at all", () => {
  const run = start();
  run.resolver.setResources([
    { id: "r1", pattern: "intranet", ipStack: "ipv4_only" },
    { id: "r2", pattern: "*.example.com", ipStack: "dual" },
  ]);
  run.resolver.setInterface([], [], "example.com");
  const ask = (name: string, type: string) => {
    const answer = run.resolver.answerNeighbour(encode({ questions: [{ type, name }] }));
    if (!answer) return undefined;
    const { rcode, answers } = packet.decode(Buffer.from(answer));
    return `${rcode}: ${answers.map(({ data }: { data: unknown }) => data)}`.trim();
  };
  assertEquals(ask("intranet", "A"), `NOERROR: ${PROXY_V4}`);
  assertEquals(ask("Intranet", "AAAA"), "NOERROR:");
  assertEquals(ask("db", "A"), "NOERROR: 100.96.0.5,100.96.0.6,100.96.0.7,100.96.0.8");
  assertEquals(ask("db.example.com", "ANY")?.split(",").length, 8);
  const resolved = run.events().flatMap((e) =>
    e.tag === "domain-resolved" ? e.resolved.domain : []
  );
  assertEquals(resolved, ["intranet", "intranet", "db.example.com", "db.example.com"]);
  for (const [name, type] of [["printer.test", "A"], ["intranet", "MX"], ["intranet", "TXT"]]) {
    assertEquals(ask(name!, type!), undefined);
  }
  assertEquals(run.resolver.answerNeighbour(new Uint8Array(12)), undefined);
  assertEquals([run.answers(), run.commands()], [[], []]);
});

Deno.test("StubResolver forwards names that no host can have", () => {
  const run = start({ pattern: "**" });
  run.askRaw([3, 0x61, 0x2e, 0x62, 0], 1);
  run.askRaw([1, 0x2a, 0], 1);
  run.askRaw([0], 1);
  assertEquals(run.commands().length, 3);
});

Deno.test("StubResolver asks what the sentinel stands for, under another id", () => {
  const run = start();
  run.resolver.setInterface(
    [socketAddress("1.1.1.1:53"), socketAddress("8.8.8.8:5353")],
    [],
    undefined,
  );
  assertEquals(run.resolver.sentinels.map(({ address }) => address.text), [
    "100.100.111.2",
    "100.100.111.3",
  ]);
  run.ask("example.org", "A", { id: 5, sentinel: "100.100.111.3" });
  const command = run.forwarded();
  assertEquals(command.target, { tag: "portal", address: socketAddress("8.8.8.8:5353") });
  assertEquals(run.reply(command, { answers: [A_RECORD] }), true);
  assertEquals(run.answer().id, 5);
  assertEquals(run.commands(), [{ tag: "stop", forwardId: command.forwardId }]);
  assertEquals(run.resolver.pollTimeout(), Infinity);
});

Deno.test("StubResolver asks HTTPS servers with id 0 and gives the id back", () => {
  const run = start();
  run.resolver.setInterface([], ["https://dns.google/dns-query"], undefined);
  run.ask("example.org", "A", { id: 5, sentinel: "100.100.111.2" });
  const command = run.forwarded();
  assertEquals(command.target, { tag: "doh", url: "https://dns.google/dns-query" });
  assertEquals(packet.decode(Buffer.from(command.message)).id, 0);
  run.reply(command, { answers: [A_RECORD] });
  assertEquals(run.answer().id, 5);
});

Deno.test("StubResolver fails what comes to a sentinel that stands for nothing", () => {
  const run = start({ pattern: "*.example.com" });
  run.ask("example.org", "A", { sentinel: "100.100.111.9" });
  run.ask("db.example.com", "A", { sentinel: "100.100.111.9" });
  assertEquals(run.answers(), ["SERVFAIL:", `NOERROR: ${PROXY_V4}`]);
});

Deno.test("StubResolver asks the system for the portal's name, whatever else is set", () => {
  const run = start({ pattern: "**" }, { systemNames: ["API.portal.test."] });
  run.resolver.setInterface([socketAddress("1.1.1.1:53")], [], undefined);
  run.resolver.setSystemServers([ip("192.0.2.53"), ip("192.0.2.54")]);
  for (const type of ["A", "AAAA", "HTTPS"]) {
    run.ask("api.portal.test", type, { sentinel: "100.100.111.2" });
    assertEquals(run.forwarded().target, SYSTEM);
  }
  // The second server is tried when the first one fails.
  run.ask("api.portal.test", "A", { sentinel: "100.100.111.2" });
  const first = run.forwarded();
  run.resolver.handleFailure(run.now, first.forwardId);
  const [stop, second] = run.commands();
  assertEquals(stop?.tag, "stop");
  assert(second?.tag === "start");
  assertEquals(second.target, { tag: "system", address: socketAddress("192.0.2.54:53") });
  run.resolver.handleFailure(run.now, second.forwardId);
  assertEquals(run.answers(), ["SERVFAIL:"]);
  // Without servers of the system it goes the way of everything else.
  run.commands();
  run.resolver.setSystemServers([]);
  run.ask("api.portal.test", "A", { sentinel: "100.100.111.2" });
  assertEquals(run.forwarded().target.tag, "portal");
});

Deno.test("StubResolver lets servers of the system share the time that is waited", () => {
  const run = start(undefined, { systemNames: ["portal.test"] });
  run.resolver.setSystemServers([ip("192.0.2.53"), ip("192.0.2.54")]);
  run.ask("portal.test", "A", { sentinel: "100.100.111.2" });
  run.forwarded();
  run.advance(QUERY_TIMEOUT_MS / 2);
  assertEquals(run.forwarded().target, { tag: "system", address: socketAddress("192.0.2.54:53") });
  run.advance(QUERY_TIMEOUT_MS / 2 - 1);
  assertEquals(run.answers(), []);
  run.advance(1);
  assertEquals(run.answers(), ["SERVFAIL:"]);
});

Deno.test("StubResolver fails a query after 5 s of silence, and ignores what comes later", () => {
  const run = start();
  run.ask("example.org", "A");
  const command = run.forwarded();
  assertEquals(run.resolver.pollTimeout(), run.now + QUERY_TIMEOUT_MS);
  run.advance(QUERY_TIMEOUT_MS - 1);
  assertEquals(run.answers(), []);
  run.advance(1);
  assertEquals(run.answers(), ["SERVFAIL:"]);
  assertEquals(run.commands(), [{ tag: "stop", forwardId: command.forwardId }]);
  assertEquals(run.reply(command, { answers: [A_RECORD] }), false);
  run.resolver.handleFailure(run.now, command.forwardId);
  assertEquals(run.answers(), []);
  assertEquals(run.resolver.pollTimeout(), Infinity);
});

Deno.test("StubResolver goes on waiting when something else than the answer comes", () => {
  const run = start();
  run.ask("example.org", "A");
  const command = run.forwarded();
  const bad = [
    new Uint8Array(),
    new Uint8Array(11),
    new Uint8Array(12),
    command.message,
  ];
  for (const bytes of bad) {
    assertEquals(run.resolver.handleResponse(run.now, command.forwardId, bytes), false);
  }
  assertEquals(
    run.reply(command, { id: 1 + packet.decode(Buffer.from(command.message)).id }),
    false,
  );
  assertEquals(run.reply(command, { questions: [{ type: "A", name: "example.net" }] }), false);
  assertEquals(run.answers(), []);
  assertEquals(run.reply(command, { flags: 3 }), true);
  assertEquals(run.answers(), ["NXDOMAIN:"]);
});

Deno.test("StubResolver lets 1000 queries wait and fails more at once", () => {
  const run = start();
  for (let i = 0; i < MAX_IN_FLIGHT; i++) run.ask(`n${i}.test`, "A");
  assertEquals(run.answers(), []);
  run.ask("more.test", "A");
  assertEquals(run.answers(), ["SERVFAIL:"]);
  run.advance(QUERY_TIMEOUT_MS);
  assertEquals(run.answers().length, MAX_IN_FLIGHT);
  run.ask("more.test", "A");
  assertEquals(run.answers(), []);
});

Deno.test("StubResolver truncates over UDP to what the asker takes, and not over TCP", () => {
  const answers = (n: number) =>
    Array.from({ length: n }, (_, i) => ({ ...A_RECORD, data: `192.0.2.${i}` }));
  const cases: [
    transport: DnsTransport,
    edns: number | undefined,
    records: number,
    cut: boolean,
  ][] = [
    ["udp", undefined, 10, false],
    ["udp", undefined, 30, true],
    ["udp", 1232, 30, false],
    ["udp", 4096, 60, true],
    ["tcp", undefined, 60, false],
  ];
  for (const [transport, edns, records, isCut] of cases) {
    const run = start();
    run.ask("example.org", "A", { transport, edns });
    run.reply(run.forwarded(), { answers: answers(records) });
    const answer = run.answer();
    assertEquals([answer.flag_tc, answer.answers.length], [isCut, isCut ? 0 : records]);
  }
});

Deno.test("StubResolver passes on what was truncated before", () => {
  const run = start();
  run.ask("example.org", "A");
  run.reply(run.forwarded(), { flags: packet.TRUNCATED_RESPONSE });
  assertEquals(run.answer().flag_tc, true);
});

Deno.test("StubResolver answers from its cache until the TTL ends or resources change", () => {
  const run = start();
  const askTwice = () => {
    run.ask("example.org", "A");
    const [command] = run.commands();
    if (command?.tag === "start") run.reply(command, { answers: [A_RECORD] });
    run.commands();
    return { asked: command !== undefined, ttl: run.answer().answers[0].ttl };
  };
  assertEquals(askTwice(), { asked: true, ttl: 60 });
  run.advance(10_000);
  assertEquals(askTwice(), { asked: false, ttl: 50 });
  run.advance(50_000);
  assertEquals(askTwice(), { asked: true, ttl: 60 });
  assertEquals(askTwice(), { asked: false, ttl: 60 });
  run.resolver.setResources([]);
  assertEquals(askTwice(), { asked: true, ttl: 60 });
  run.resolver.handleNetworkChange(run.now);
  assertEquals(askTwice(), { asked: true, ttl: 60 });
});

Deno.test("StubResolver asks again on another network, within the first deadline", () => {
  const run = start();
  run.ask("example.org", "A");
  const first = run.forwarded();
  run.advance(4000);
  run.resolver.handleNetworkChange(run.now);
  const [stop, again] = run.commands();
  assertEquals(stop, { tag: "stop", forwardId: first.forwardId });
  assert(again?.tag === "start");
  assertEquals(again.target, first.target);
  run.advance(1000);
  assertEquals(run.answers(), ["SERVFAIL:"]);
});

Deno.test("StubResolver answers nonsense with an error, and answers not at all", () => {
  const run = start({ pattern: "*.example.com" });
  const send = (bytes: Uint8Array) =>
    run.resolver.handleQuery(run.now, "c", "udp", ip(SENTINEL), bytes);
  send(new Uint8Array(5));
  send(encode({ type: "response", questions: [{ type: "A", name: "db.example.com" }] }));
  assertEquals(run.answers(), []);
  send(new Uint8Array(12));
  send(new Uint8Array([0, 1, 0x28, ...new Uint8Array(9)]));
  send(encode({ questions: [{ type: "AXFR", name: "example.org" }] }));
  assertEquals(run.answers(), ["FORMERR:", "NOTIMP:", "REFUSED:"]);
});

Deno.test("StubResolver names patterns that make no sense and goes on without them", () => {
  const run = start();
  run.resolver.setResources([
    { id: "bad", pattern: "a..b", ipStack: "dual" },
    { id: "good", pattern: "db.example.com", ipStack: "dual" },
  ]);
  assertEquals(run.events(), [{ tag: "bad-pattern", resourceId: "bad", pattern: "a..b" }]);
  run.ask("db.example.com", "A");
  assertEquals(run.answers(), [`NOERROR: ${PROXY_V4}`]);
});

Deno.test("StubResolver takes any bytes from either side, and answers every query in the end", () => {
  const query = fc.record({
    name: fc.constantFrom("db.example.com", "example.org", "use-application-dns.net"),
    type: fc.constantFrom("A", "AAAA", "PTR", "HTTPS", "SRV", "MX"),
  });
  const step = fc.oneof(
    fc.record({ tag: fc.constant("ask" as const), query }),
    fc.record({ tag: fc.constant("bytes" as const), bytes: fc.uint8Array({ maxLength: 60 }) }),
    fc.record({ tag: fc.constant("noise" as const), bytes: fc.uint8Array({ maxLength: 60 }) }),
    fc.record({ tag: fc.constant("reply" as const) }),
    fc.record({ tag: fc.constant("fail" as const) }),
    fc.record({ tag: fc.constant("network" as const) }),
    fc.record({ tag: fc.constant("wait" as const), ms: fc.nat(3000) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const run = start({ pattern: "*.example.com" });
    const open = new Map<number, Extract<ForwardCommand, { tag: "start" }>>();
    let asked = 0;
    let answered = 0;
    const drain = () => {
      for (const command of run.commands()) {
        if (command.tag === "stop") assert(open.delete(command.forwardId));
        else open.set(command.forwardId, command);
      }
      answered += run.answers("asked").length;
    };
    for (const step of steps) {
      const [first] = open.values();
      if (step.tag === "ask") {
        asked++;
        run.ask(step.query.name, step.query.type, { client: "asked" });
      } else if (step.tag === "bytes") {
        run.resolver.handleQuery(run.now, "noise", "udp", ip(SENTINEL), step.bytes);
      } else if (step.tag === "network") run.resolver.handleNetworkChange(run.now);
      else if (step.tag === "wait") run.advance(step.ms);
      else if (first) {
        if (step.tag === "reply") assert(run.reply(first, { answers: [] }));
        else if (step.tag === "fail") run.resolver.handleFailure(run.now, first.forwardId);
        else run.resolver.handleResponse(run.now, first.forwardId, step.bytes);
      }
      drain();
      assert(run.resolver.pollTimeout() > run.now);
    }
    run.advance(QUERY_TIMEOUT_MS);
    drain();
    assertEquals(open.size, 0);
    assertEquals(answered, asked);
    assertEquals(run.resolver.pollTimeout(), Infinity);
  }));
});

const SYSTEM = { tag: "system", address: socketAddress("192.0.2.53:53") } as const;
/** What the codec does not know by name. */
const CODEC_NAMES: Readonly<Record<string, string>> = { SVCB: "UNKNOWN_64", HTTPS: "UNKNOWN_65" };
const A_RECORD = { type: "A", name: "example.org", ttl: 60, data: "192.0.2.7" };

interface AskOptions {
  id?: number;
  transport?: DnsTransport;
  sentinel?: string;
  edns?: number | undefined;
  client?: string;
}

/** A resolver with one server of the system, and what a test does with it. */
function start(resource?: { pattern: string }, options: Partial<StubResolverOptions> = {}) {
  const resolver = new StubResolver<string>({ random: seededRandom(1), ...options });
  let now = 1000 as Millis;
  assert(resolver.setSystemServers([ip("192.0.2.53")]));
  if (resource) resolver.setResources([{ id: "r1", ipStack: "dual", ...resource }]);
  const drain = <T>(poll: () => T | undefined): T[] => {
    const all: T[] = [];
    for (let one; (one = poll()) !== undefined;) all.push(one);
    return all;
  };
  const commands = () => drain(() => resolver.pollForward());
  const messages = (client?: string) =>
    drain(() => resolver.pollAnswer())
      .filter(({ to }) => client === undefined || to === client)
      .map(({ message }) => packet.decode(Buffer.from(message)));
  const handle = (bytes: Uint8Array, options: AskOptions) =>
    resolver.handleQuery(
      now,
      options.client ?? "c",
      options.transport ?? "udp",
      ip(options.sentinel ?? SENTINEL),
      bytes,
    );
  return {
    resolver,
    get now() {
      return now;
    },
    advance(ms: number) {
      now = (now + ms) as Millis;
      resolver.handleTimeout(now);
    },
    ask(name: string, type: string, options: AskOptions = {}) {
      const opt = options.edns && {
        type: "OPT",
        name: ".",
        udpPayloadSize: options.edns,
        flags: 0,
        options: [],
      };
      handle(
        encode({
          id: options.id ?? 1,
          flags: packet.RECURSION_DESIRED,
          questions: [{ type: CODEC_NAMES[type] ?? type, name }],
          additionals: opt ? [opt] : [],
        }),
        options,
      );
    },
    askRaw(name: number[], type: number) {
      handle(new Uint8Array([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, type, 0, 1]), {});
    },
    /** Answers a forwarded query as a server would. */
    reply(command: Extract<ForwardCommand, { tag: "start" }>, changes: object): boolean {
      const { id, questions } = packet.decode(Buffer.from(command.message));
      const message = encode({ type: "response", id, questions, ...changes });
      return resolver.handleResponse(now, command.forwardId, message);
    },
    commands,
    forwarded() {
      const [command, ...others] = commands().filter(({ tag }) => tag === "start");
      assert(command?.tag === "start" && others.length === 0);
      return command;
    },
    answer: () => {
      const [message, ...others] = messages();
      assert(message !== undefined && others.length === 0);
      return message;
    },
    /** All answers as `RCODE: data`. */
    answers: (client?: string) =>
      messages(client).map(({ rcode, answers }) =>
        `${rcode}: ${answers.map(({ data }: { data: unknown }) => data)}`.trim()
      ),
    events: (): StubEvent[] => drain(() => resolver.pollEvent()),
  };
}

function encode(message: object): Uint8Array {
  return new Uint8Array(packet.encode({ type: "query", id: 1, ...message }));
}
