import { assert, assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import packet from "dns-packet";
import type { Millis } from "../units.ts";
import { type DnsQuery, parseQuery } from "./query.ts";
import { ResponseCache } from "./response_cache.ts";

const SERVER = "system 192.0.2.1:53";
const at = (ms: number) => ms as Millis;

Deno.test("ResponseCache answers with the id and spelling of the query, and TTLs that age", () => {
  const cache = new ResponseCache();
  cache.put(at(1000), SERVER, ask("example.com", 1), answer({ ttl: 60 }));
  const message = cache.get(at(11_999), SERVER, ask("eXample.COM", 77));
  const decoded = packet.decode(Buffer.from(message!));
  assertEquals(decoded.id, 77);
  assertEquals(decoded.questions[0].name, "eXample.COM");
  assertEquals(decoded.answers.map(({ ttl }: { ttl: number }) => ttl), [50]);
});

Deno.test("ResponseCache forgets an answer when the shortest of its records ends", () => {
  const cache = new ResponseCache();
  const query = ask("example.com", 1);
  const message = answer({ ttl: 60 }, { type: "NS", name: "com", ttl: 10, data: "ns.com" });
  cache.put(at(0), SERVER, query, message);
  assert(cache.get(at(9_999), SERVER, query));
  assertEquals(cache.get(at(10_000), SERVER, query), undefined);
  assertEquals(cache.size, 0);
});

Deno.test("ResponseCache keeps only complete successes worth five seconds", () => {
  const cases: [what: string, message: Uint8Array][] = [
    ["short", answer({ ttl: 4 })],
    ["a TTL that counts as zero", answer({ ttl: 0x8000_0000 })],
    ["empty", encode({ answers: [] })],
    ["truncated", answer({ ttl: 60, flags: packet.TRUNCATED_RESPONSE })],
    ["no such name", answer({ ttl: 60, flags: 3 })],
    ["cut", answer({ ttl: 60 }).subarray(0, 50)],
    ["without a question", encode({ questions: [], answers: [record(60)] })],
    ["long", encode({ answers: Array.from({ length: 200 }, () => record(60)) })],
  ];
  const cache = new ResponseCache();
  for (const [what, message] of cases) {
    cache.put(at(0), SERVER, ask("example.com", 1), message);
    assertEquals(cache.size, 0, what);
  }
});

Deno.test("ResponseCache keeps apart what may be answered differently", () => {
  const cache = new ResponseCache();
  cache.put(at(0), SERVER, ask("example.com", 1), answer({ ttl: 60 }));
  const others: [server: string, query: DnsQuery][] = [
    ["system 192.0.2.2:53", ask("example.com", 1)],
    [SERVER, ask("example.org", 1)],
    [SERVER, ask("example.com", 1, { questions: [{ type: "AAAA", name: "example.com" }] })],
    [SERVER, ask("example.com", 1, { flags: packet.RECURSION_DESIRED })],
    [SERVER, ask("example.com", 1, { additionals: [opt()] })],
  ];
  for (const [server, query] of others) assertEquals(cache.get(at(1), server, query), undefined);
  assert(cache.get(at(1), SERVER, ask("example.com", 1)));
});

Deno.test("ResponseCache does not keep answers to queries with options", () => {
  const cache = new ResponseCache();
  const cookie = { code: 10, data: Buffer.from("12345678") };
  const query = ask("example.com", 1, { additionals: [opt(cookie)] });
  cache.put(at(0), SERVER, query, answer({ ttl: 60 }));
  assertEquals(cache.size, 0);
});

Deno.test("ResponseCache makes room by forgetting what was asked for longest ago", () => {
  const cache = new ResponseCache({ maxEntries: 2 });
  const put = (name: string) =>
    cache.put(at(0), SERVER, ask(name, 1), encode({ name, answers: [record(60)] }));
  put("a.com");
  put("b.com");
  assert(cache.get(at(1), SERVER, ask("a.com", 1)));
  put("c.com");
  assertEquals(cache.size, 2);
  assertEquals(cache.get(at(1), SERVER, ask("b.com", 1)), undefined);
  assert(cache.get(at(1), SERVER, ask("a.com", 1)));
  cache.flush();
  assertEquals(cache.size, 0);
});

function record(ttl: number) {
  return { type: "A", name: "example.com", ttl, data: "192.0.2.7" };
}

function opt(...options: object[]) {
  return { type: "OPT", name: ".", udpPayloadSize: 1232, flags: 0, options };
}

function answer({ ttl, flags = 0 }: { ttl: number; flags?: number }, ...authorities: object[]) {
  return encode({ flags, answers: [record(ttl)], authorities });
}

function encode(
  { name = "example.com", ...message }: { name?: string; [key: string]: unknown },
): Uint8Array {
  const questions = [{ type: "A", name }];
  return new Uint8Array(packet.encode({ type: "response", id: 1, questions, ...message }));
}

function ask(name: string, id: number, message: object = {}): DnsQuery {
  const questions = [{ type: "A", name }];
  const bytes = new Uint8Array(packet.encode({ type: "query", id, questions, ...message }));
  const result = parseQuery(bytes);
  assert(result.tag === "query");
  return result.query;
}
