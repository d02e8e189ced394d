/**
 * What answering costs, without sockets; and what the codec would cost in its place.
 *
 * Two groups: a whole turn of the resolver, and reading a query and writing its answer alone.
 */

import { Buffer } from "node:buffer";
import packet from "dns-packet";
import { encodeQuery, makeAnswer, parseQuery, RecordType } from "@firezone/core/dns";
import { ip } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import type { Millis } from "@firezone/core/units";
import { StubResolver } from "./stub_resolver.ts";

const SENTINEL = ip("100.100.111.1");
const NOW = 0 as Millis;
const RESOURCE = encodeQuery(1, "db.example.com", "A");
const OTHER = encodeQuery(1, "www.example.org", "A");
const UNCACHED = encodeQuery(1, "mail.example.org", "MX");

const small = resolver(1);
const large = resolver(1000);

Deno.bench("a resource's name, 1 resource", { group: "answer", baseline: true }, () => {
  turn(small, RESOURCE);
});

Deno.bench("a resource's name, 1000 resources with wildcards", { group: "answer" }, () => {
  turn(large, RESOURCE);
});

Deno.bench("another name from the cache", { group: "answer" }, () => turn(small, OTHER));

Deno.bench("another name, there and back", { group: "answer" }, () => {
  small.handleQuery(NOW, 0, "udp", SENTINEL, UNCACHED);
  const command = small.pollForward()!;
  if (command.tag !== "start") throw new Error("nothing was forwarded");
  const response = new Uint8Array(command.message);
  response[2]! |= 0x80;
  small.handleResponse(NOW, command.forwardId, response);
  small.pollForward();
  small.pollAnswer();
});

const RECORDS = [1, 2, 3, 4].map((n) => ip(`100.96.0.${n}`));

Deno.bench("core/dns", { group: "codec", baseline: true }, () => {
  const parsed = parseQuery(RESOURCE);
  if (parsed.tag !== "query") throw new Error("not a query");
  makeAnswer(
    parsed.query,
    0,
    RECORDS.map(({ bytes }) => ({ type: RecordType.A, ttlSeconds: 1, data: bytes })),
  );
});

Deno.bench("dns-packet", { group: "codec" }, () => {
  const query = packet.decode(Buffer.from(RESOURCE.buffer));
  packet.encode({
    type: "response",
    id: query.id,
    flags: packet.RECURSION_AVAILABLE,
    questions: query.questions,
    answers: RECORDS.map(({ text }) => ({
      type: "A",
      name: query.questions[0].name,
      ttl: 1,
      data: text,
    })),
  });
});

function turn(resolver: StubResolver<number>, query: Uint8Array): void {
  resolver.handleQuery(NOW, 0, "udp", SENTINEL, query);
  while (resolver.pollEvent() !== undefined);
  if (resolver.pollAnswer() === undefined) throw new Error("no answer");
}

/** One that has `www.example.org` in its cache. */
function resolver(resources: number): StubResolver<number> {
  const stub = new StubResolver<number>({ random: seededRandom(1) });
  stub.setSystemServers([ip("192.0.2.53")]);
  stub.setResources(Array.from({ length: resources }, (_, i) => ({
    id: `r${i}`,
    pattern: i === 0 ? "*.example.com" : `**.site${i}.example.net`,
    ipStack: "dual" as const,
  })));
  stub.handleQuery(NOW, 0, "udp", SENTINEL, OTHER);
  const command = stub.pollForward()!;
  if (command.tag !== "start") throw new Error("nothing was forwarded");
  const parsed = parseQuery(command.message);
  if (parsed.tag !== "query") throw new Error("not a query");
  const record = { type: RecordType.A, ttlSeconds: 3600, data: ip("192.0.2.7").bytes };
  stub.handleResponse(NOW, command.forwardId, makeAnswer(parsed.query, 0, [record]));
  stub.pollForward();
  stub.pollAnswer();
  return stub;
}
