/**
 * The client's stub resolver between hostile programs and hostile servers.
 *
 * Queries and answers are made by another codec and then damaged, or are any bytes.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import packet from "dns-packet";
import fc from "fast-check";
import { Buffer } from "node:buffer";
import { readU16 } from "@firezone/core/bytes";
import { parseQuery, PROXY_RANGE_V4, PROXY_RANGE_V6 } from "@firezone/core/dns";
import { ip, parseIpAddress } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import { type ForwardCommand, QUERY_TIMEOUT_MS, StubResolver } from "@firezone/client/dns";
import { damage, damages } from "./raw_stun.ts";
import type { Coverage, FuzzTarget } from "./target.ts";

type Start = Extract<ForwardCommand, { tag: "start" }>;
type Asker = { readonly id: number; readonly isUdp: boolean; answers: number };

const SENTINEL = ip("100.100.111.1");
/** Names of resources end so. */
const OURS = "example.com";
const REAL = ["192.0.2.7", "10.0.0.1"];

const names = fc.oneof(
  fc.constantFrom(OURS, `db.${OURS}`, `Db.eXample.COM`, "example.org", ".", "a", "x".repeat(63)),
  fc.constantFrom("1.0.96.100.in-addr.arpa", "use-application-dns.net", "_dns.resolver.arpa"),
  fc.array(fc.stringMatching(/^[a-z0-9-]{1,20}$/), { minLength: 1, maxLength: 8 })
    .map((labels) => [...labels, OURS].join(".")),
);
const types = fc.constantFrom("A", "AAAA", "PTR", "SRV", "TXT", "MX", "UNKNOWN_65", "ANY");
const opt = fc.record({
  type: fc.constant("OPT"),
  name: fc.constant("."),
  udpPayloadSize: fc.nat(0xffff),
  flags: fc.constantFrom(0, 0x8000),
  ednsVersion: fc.constantFrom(0, 0, 0, 1),
  options: fc.constant([]),
});
const records = fc.record({
  type: fc.constantFrom("A", "CNAME", "TXT"),
  name: names,
  ttl: fc.nat(300),
  data: fc.constantFrom(...REAL, "example.org", "x".repeat(200)),
}).map((record) => ({
  ...record,
  data: record.type === "A" ? REAL[0] : record.type === "CNAME" ? OURS : record.data,
}));
const queries = fc.record({
  id: fc.nat(0xffff),
  questions: fc.array(fc.record({ type: types, name: names }), { minLength: 1, maxLength: 2 }),
  additionals: fc.array(opt, { maxLength: 2 }),
  damage: damages,
}).map(({ damage: list, ...message }) => damage(encode({ type: "query", ...message }), list));

type Step =
  | { readonly tag: "query"; readonly bytes: Uint8Array; readonly isUdp: boolean }
  | {
    readonly tag: "answer";
    readonly index: number;
    readonly flags: number;
    readonly answers: readonly object[];
    readonly damage: Parameters<typeof damage>[1];
  }
  | { readonly tag: "bytes"; readonly index: number; readonly bytes: Uint8Array }
  | { readonly tag: "failure"; readonly index: number }
  | { readonly tag: "neighbour"; readonly bytes: Uint8Array }
  | { readonly tag: "network" }
  | { readonly tag: "wait"; readonly ms: number };

const index = fc.nat(5);
const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      tag: fc.constant("query" as const),
      bytes: fc.oneof(queries, queries, fc.uint8Array({ maxLength: 60 })),
      isUdp: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      tag: fc.constant("answer" as const),
      index,
      flags: fc.constantFrom(0x80, 0x80, 0x83, 0x82, 0x280),
      answers: fc.array(records, { maxLength: 20 }),
      damage: damages,
    }),
  },
  fc.record({
    tag: fc.constant("bytes" as const),
    index,
    bytes: fc.uint8Array({ maxLength: 80 }),
  }),
  fc.record({ tag: fc.constant("failure" as const), index }),
  fc.record({ tag: fc.constant("neighbour" as const), bytes: queries }),
  fc.constant({ tag: "network" } as const),
  fc.record({ tag: fc.constant("wait" as const), ms: fc.nat(3_000) }),
);

/**
 * Whatever comes from either side: every query gets exactly one answer, with its id and no longer
 * than it may be; addresses of resources are proxy addresses; sockets do not pile up.
 */
export const dnsTarget: FuzzTarget = {
  name: "dns",
  description: "the client's resolver with right and broken queries and answers",
  property: (coverage) =>
    fc.property(fc.array(steps, { maxLength: 30 }), (list) => {
      const world = new World(coverage);
      for (const step of list) world.take(step);
      world.finish();
    }),
};

class World {
  readonly #coverage: Coverage;
  readonly #resolver = new StubResolver<Asker>({ random: seededRandom(1), maxNames: 4 });
  readonly #open = new Map<number, Start>();
  readonly #askers: Asker[] = [];
  #now = 0 as Millis;

  constructor(coverage: Coverage) {
    this.#coverage = coverage;
    this.#resolver.setSystemServers([ip("192.0.2.53")]);
    this.#resolver.setResources([{ id: "r", pattern: `**.${OURS}`, ipStack: "dual" }]);
  }

  take(step: Step): void {
    const resolver = this.#resolver;
    switch (step.tag) {
      case "query":
        this.#ask(step.bytes, step.isUdp);
        break;
      case "neighbour": {
        const answer = resolver.answerNeighbour(step.bytes);
        if (answer) this.#checkAddresses(answer);
        break;
      }
      case "network":
        resolver.handleNetworkChange(this.#now);
        break;
      case "wait":
        this.#now = this.#now + step.ms as Millis;
        resolver.handleTimeout(this.#now);
        break;
      default:
        this.#respond(step);
    }
    this.#drain();
  }

  /** After the longest wait nothing is left. */
  finish(): void {
    this.take({ tag: "wait", ms: QUERY_TIMEOUT_MS });
    assertEquals(this.#open.size, 0, "sockets are left");
    for (const asker of this.#askers) assertEquals(asker.answers, 1, "one answer for each");
    assertEquals(this.#resolver.pollTimeout(), Infinity as Millis);
  }

  #ask(bytes: Uint8Array, isUdp: boolean): void {
    const isIgnored = parseQuery(bytes).tag === "ignored";
    const asker: Asker = { id: isIgnored ? -1 : readU16(bytes, 0), isUdp, answers: 0 };
    if (!isIgnored) this.#askers.push(asker);
    this.#coverage.hit(`query ${parseQuery(bytes).tag}`);
    this.#resolver.handleQuery(this.#now, asker, isUdp ? "udp" : "tcp", SENTINEL, bytes);
  }

  #respond(step: Extract<Step, { index: number }>): void {
    const all = [...this.#open.values()];
    const command = all[step.index % Math.max(1, all.length)];
    if (!command) return;
    const { forwardId, message } = command;
    if (step.tag === "failure") return this.#resolver.handleFailure(this.#now, forwardId);
    const bytes = step.tag === "bytes" ? step.bytes : damage(answerTo(message, step), step.damage);
    const isTaken = this.#resolver.handleResponse(this.#now, forwardId, bytes);
    this.#coverage.hit(isTaken ? "answer taken" : "answer refused");
  }

  #drain(): void {
    for (let answer; (answer = this.#resolver.pollAnswer()) !== undefined;) {
      const { to, message } = answer;
      to.answers++;
      assert(message.length >= 12);
      assertEquals(readU16(message, 0), to.id, "id");
      assert((readU16(message, 2) & 0x8000) !== 0, "a response");
      if (to.isUdp) assert(message.length <= 1232, `${message.length} bytes over UDP`);
      this.#checkAddresses(message);
    }
    for (let command; (command = this.#resolver.pollForward()) !== undefined;) {
      if (command.tag === "start") this.#open.set(command.forwardId, command);
      else assert(this.#open.delete(command.forwardId), "only what is open is closed");
    }
    while (this.#resolver.pollEvent() !== undefined);
  }

  /** The addresses of a resource's name are proxy addresses, whoever answered. */
  #checkAddresses(message: Uint8Array): void {
    let decoded: ReturnType<typeof packet.decode>;
    try {
      decoded = packet.decode(Buffer.from(message));
    } catch {
      return; // passed on as a server sent it
    }
    const [question] = decoded.questions;
    const name = question?.name.toLowerCase() ?? "";
    const isOurs = /^([a-z0-9_-]+\.)*example\.com$/.test(name);
    if (!isOurs || !["A", "AAAA"].includes(question!.type) || question!.class !== "IN") return;
    this.#coverage.hit("addresses of a resource");
    for (const { type, data } of decoded.answers) {
      if (type !== "A" && type !== "AAAA") continue;
      const address = parseIpAddress(data as string)!;
      assert([PROXY_RANGE_V4, PROXY_RANGE_V6].some((range) => range.contains(address)), data);
    }
  }
}

function answerTo(
  query: Uint8Array,
  { flags, answers }: { readonly flags: number; readonly answers: readonly object[] },
): Uint8Array {
  const { id, questions } = packet.decode(Buffer.from(query));
  return encode({ type: "response", id, flags, questions, answers });
}

function encode(message: object): Uint8Array {
  return new Uint8Array(packet.encode(message));
}
