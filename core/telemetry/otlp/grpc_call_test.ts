import { assertEquals, assertMatch } from "@std/assert";
import { acceptRequest, OtlpCollector, respondWith } from "../../testing/otlp_collector.ts";
import { authorityOf, type GrpcOutcome, MAX_RESPONSE_LENGTH, startGrpcCall } from "./grpc_call.ts";

const PATH = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const EMPTY = new Uint8Array();

Deno.test("a call brings the message, and answers with the service's", async () => {
  await using collector = await OtlpCollector.listen();
  collector.answer = (stream) => respondWith(stream, 0, new Uint8Array([0, 0, 0, 0, 2, 7, 8]));
  assertEquals(await call(collector.port), { tag: "ok", message: new Uint8Array([7, 8]) });
  assertEquals(collector.requests, [PATH]);
});

Deno.test("a status other than 0 is a refusal, final or not", async () => {
  await using collector = await OtlpCollector.listen();
  const outcomes: GrpcOutcome[] = [];
  for (const code of [14, 3, 99]) {
    collector.answer = (stream) => respondWith(stream, code, EMPTY, "too%20much");
    outcomes.push(await call(collector.port));
  }
  // Without a message the status comes in the only headers.
  collector.answer = (stream) =>
    stream.respond({ ":status": 200, "grpc-status": "12" }, { endStream: true });
  outcomes.push(await call(collector.port));
  for (const status of [503, 404]) {
    collector.answer = (stream) => stream.respond({ ":status": status }, { endStream: true });
    outcomes.push(await call(collector.port));
  }
  assertEquals(outcomes, [
    { tag: "refused", reason: "UNAVAILABLE: too much", mayRetry: true },
    { tag: "refused", reason: "INVALID_ARGUMENT: too much", mayRetry: false },
    { tag: "refused", reason: "status 99: too much", mayRetry: false },
    { tag: "refused", reason: "UNIMPLEMENTED", mayRetry: false },
    { tag: "refused", reason: "HTTP status 503", mayRetry: true },
    { tag: "refused", reason: "HTTP status 404", mayRetry: false },
  ]);
});

Deno.test("an answer that cannot be understood is none", async () => {
  await using collector = await OtlpCollector.listen();
  collector.answer = (stream) => stream.respond({ ":status": 200 }, { endStream: true });
  assertEquals(await call(collector.port), {
    tag: "unreachable",
    reason: "the answer has no gRPC status",
  });
  collector.answer = (stream) => stream.session!.destroy();
  assertEquals((await call(collector.port)).tag, "unreachable");
  collector.answer = (stream) => stream.close(2);
  assertEquals((await call(collector.port)).tag, "unreachable");
  collector.answer = (stream) => respondWith(stream, 5, EMPTY, `%${"long".repeat(200)}`);
  const outcome = await call(collector.port);
  assertMatch(outcome.tag === "refused" ? outcome.reason : "", /^NOT_FOUND: %(long){49}lon…$/);
});

Deno.test("an endless answer is read no further than the limit", async () => {
  await using collector = await OtlpCollector.listen();
  let written = 0;
  collector.answer = (stream) => {
    stream.respond({ ":status": 200 });
    const more = () => {
      if (stream.destroyed || written > 100 * MAX_RESPONSE_LENGTH) return;
      written += 16384;
      stream.write(new Uint8Array(16384), more);
    };
    more();
  };
  assertEquals(await call(collector.port), {
    tag: "unreachable",
    reason: "the answer is too long",
  });
});

Deno.test("a call ends in time though nobody answers, or nobody reads", async () => {
  await using collector = await OtlpCollector.listen();
  collector.answer = () => {};
  assertEquals(await call(collector.port, 50), {
    tag: "unreachable",
    reason: "no answer within 0.1 s",
  });
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  assertEquals((await call((silent.addr as Deno.NetAddr).port, 50)).tag, "unreachable");
});

Deno.test("a call can be given up", async () => {
  await using collector = await OtlpCollector.listen();
  collector.answer = () => {};
  const server = { host: "127.0.0.1", port: collector.port };
  const started = startGrpcCall(server, PATH, EMPTY, 10_000);
  started.abort("enough");
  assertEquals(await started.outcome, { tag: "unreachable", reason: "enough" });
  started.abort("again");
});

Deno.test("what does not speak HTTP/2, or is not there, is unreachable", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const serving = (async () => {
    for (const text of ["HTTP/1.1 400 Bad Request\r\n\r\n".repeat(20), "", "\xff".repeat(9999)]) {
      const connection = await listener.accept();
      await connection.write(new TextEncoder().encode(text)).catch(() => {});
      connection.close();
    }
  })();
  for (let i = 0; i < 3; i++) assertEquals((await call(port)).tag, "unreachable");
  await serving;
  listener.close();
  const reason = `connect ECONNREFUSED 127.0.0.1:${port}`;
  assertEquals(await call(port), { tag: "unreachable", reason });
});

Deno.test("an IPv6 address is written in brackets", () => {
  assertEquals(authorityOf({ host: "::1", port: 4317 }), "[::1]:4317");
  assertEquals(authorityOf({ host: "otel.example", port: 4317 }), "otel.example:4317");
});

Deno.test("an answer to a call of a collector is empty", async () => {
  await using collector = await OtlpCollector.listen();
  collector.answer = acceptRequest;
  assertEquals(await call(collector.port), { tag: "ok", message: EMPTY });
});

function call(port: number, timeoutMs = 10_000): Promise<GrpcOutcome> {
  return startGrpcCall({ host: "127.0.0.1", port }, PATH, EMPTY, timeoutMs).outcome;
}
