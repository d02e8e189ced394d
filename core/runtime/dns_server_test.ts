import { assertEquals } from "@std/assert";
import { frameMessage, makeAnswer, parseQuery } from "../dns/mod.ts";
import { ip } from "../ip/mod.ts";
import { logger } from "../telemetry/mod.ts";
import { askTcp, askUdp, queryBytes } from "../testing/fake_dns.ts";
import { DnsServer, type Reply } from "./dns_server.ts";

const HOST = "127.0.0.1";

Deno.test("DnsServer answers over UDP and TCP, several questions on one connection", async () => {
  await using run = await start((reply, bytes) => answer(reply, bytes));
  assertEquals(await askUdp(HOST, run.port, queryBytes("a.test", "A")), "NXDOMAIN:");
  const queries = Array.from({ length: 40 }, (_, i) => queryBytes(`n${i}.test`, "A"));
  const answers = await askTcp(HOST, run.port, ...queries);
  assertEquals(answers, queries.map(() => "NXDOMAIN:"));
  assertEquals(run.heard.slice(0, 2), [`udp ${HOST} ${HOST}`, `tcp ${HOST} ${HOST}`]);
});

Deno.test("DnsServer answers a connection whose other side has ended, later and in any order", async () => {
  const waiting: (() => void)[] = [];
  await using run = await start((reply, bytes) => {
    waiting.push(() => answer(reply, bytes));
    if (waiting.length === 3) queueMicrotask(() => waiting.toReversed().forEach((go) => go()));
  });
  const queries = ["a", "b", "c"].map((name) => queryBytes(name, "A"));
  assertEquals((await askTcp(HOST, run.port, ...queries)).length, 3);
});

Deno.test("DnsServer does not mix up questions of several sockets that have one id", async () => {
  const waiting: (() => void)[] = [];
  await using run = await start((reply, bytes) => {
    const parsed = parseQuery(bytes);
    if (parsed.tag !== "query") return;
    const rcode = parsed.query.question.name.startsWith("a.") ? 2 : 3;
    waiting.push(() => reply(makeAnswer(parsed.query, rcode)));
    if (waiting.length === 3) { for (const go of waiting.toReversed()) go(); }
  });
  const [a, b, c] = ["a.test", "b.test", "a.b.test"].map((name) =>
    queryBytes(name, "A", { id: 7 })
  );
  const answers = await Promise.all([
    askUdp(HOST, run.port, a!),
    askUdp(HOST, run.port, b!),
    askTcp(HOST, run.port, c!),
  ]);
  assertEquals(answers.flat(), ["SERVFAIL:", "NXDOMAIN:", "SERVFAIL:"]);
});

Deno.test("DnsServer does not read on while too many questions of a connection wait", async () => {
  const replies: (() => void)[] = [];
  const enough = Promise.withResolvers<void>();
  await using run = await start((reply, bytes) => {
    replies.push(() => answer(reply, bytes));
    if (replies.length === 32) enough.resolve();
  });
  const queries = Array.from({ length: 50 }, (_, i) => queryBytes(`n${i}.test`, "A"));
  const asked = askTcp(HOST, run.port, ...queries);
  await enough.promise;
  // Another connection is served meanwhile, so there was time for more of the first.
  const other = askTcp(HOST, run.port, queryBytes("other.test", "A"));
  while (replies.length < 33) await new Promise((resolve) => setTimeout(resolve, 1));
  replies.pop()!();
  assertEquals(await other, ["NXDOMAIN:"]);
  assertEquals(replies.length, 32);
  while (replies.length > 0) {
    replies.shift()!();
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assertEquals((await asked).length, 50);
});

Deno.test("DnsServer survives connections that break off and replies that come too late", async () => {
  let late: (() => void) | undefined;
  const heard = Promise.withResolvers<void>();
  await using run = await start((reply, bytes) => {
    late = () => answer(reply, bytes);
    heard.resolve();
  });
  const connection = await Deno.connect({ hostname: HOST, port: run.port });
  await connection.write(frameMessage(queryBytes("a.test", "A")));
  await connection.write(new Uint8Array([0xff]));
  await heard.promise;
  connection.close();
  late!();
  late!();
  await run.server.close();
  late!();
});

Deno.test("DnsServer moves to other addresses, and says whether it listens", async () => {
  await using run = await start(answer);
  assertEquals(run.server.isListening, true);
  run.server.listen([ip("127.0.0.2")]);
  await run.listening();
  assertEquals(await askUdp("127.0.0.2", run.port, queryBytes("a.test", "A")), "NXDOMAIN:");
  run.server.listen([]);
  assertEquals(run.server.isListening, false);
});

Deno.test("DnsServer tries again when an address cannot be had", async () => {
  const held = Deno.listen({ hostname: HOST, port: 0 });
  const { port } = held.addr;
  const server = new DnsServer({ onQuery: answer3, log: logger("test"), port });
  server.listen([ip(HOST)]);
  // Its UDP socket is there, its TCP one is not.
  await new Promise((resolve) => setTimeout(resolve, 50));
  assertEquals(server.isListening, false);
  held.close();
  while (!server.isListening) await new Promise((resolve) => setTimeout(resolve, 10));
  assertEquals(await askTcp(HOST, port, queryBytes("a.test", "A")), ["NXDOMAIN:"]);
  await server.close();
});

function answer3(reply: Reply, _transport: unknown, _to: unknown, bytes: Uint8Array) {
  answer(reply, bytes);
}

function answer(reply: Reply, bytes: Uint8Array): void {
  const parsed = parseQuery(bytes);
  if (parsed.tag === "query") reply(makeAnswer(parsed.query, 3));
}

async function start(onQuery: (reply: Reply, bytes: Uint8Array) => void) {
  const heard: string[] = [];
  // A port that is free now, for both protocols.
  const { port } = await (async () => {
    using probe = Deno.listen({ hostname: HOST, port: 0 });
    return await Promise.resolve(probe.addr);
  })();
  let wake = () => {};
  const server = new DnsServer({
    onQuery: (reply, transport, to, bytes, from) => {
      heard.push(`${transport} ${from} ${to}`);
      onQuery(reply, bytes);
    },
    onListening: () => wake(),
    log: logger("test"),
    port,
  });
  const listening = async () => {
    while (!server.isListening) await new Promise<void>((resolve) => wake = resolve);
  };
  server.listen([ip(HOST)]);
  await listening();
  return { server, port, heard, listening, [Symbol.asyncDispose]: () => server.close() };
}
