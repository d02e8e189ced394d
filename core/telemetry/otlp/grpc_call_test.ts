import { assertEquals, assertMatch } from "@std/assert";
import { createServer, type ServerHttp2Stream } from "node:http2";
import { MAX_BODY_LENGTH } from "../../http2/mod.ts";
import { acceptance, OtlpCollector, refusal, silence } from "../../testing/otlp_collector.ts";
import { authorityOf, type GrpcOutcome, startGrpcCall } from "./grpc_call.ts";
import { ProtobufWriter } from "./protobuf.ts";

const PATH = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const EMPTY = new Uint8Array();

Deno.test("a call brings the message, and answers with the service's", async () => {
  await using collector = OtlpCollector.listen();
  let seen: (string | null)[] = [];
  collector.answer = ({ headers }) => {
    seen = ["content-type", "te", "grpc-timeout"].map((name) => headers.get(name));
    return acceptance(new Uint8Array([7, 8]));
  };
  assertEquals(await call(collector.port), { tag: "ok", message: new Uint8Array([7, 8]) });
  assertEquals(collector.requests, [PATH]);
  assertEquals(seen, ["application/grpc", "trailers", "10000m"]);
});

Deno.test("a call is understood by a service that sends its status at the end", async () => {
  const server = createServer();
  let path: unknown;
  let code = 0;
  server.on("stream", (stream: ServerHttp2Stream, headers: Record<string, unknown>) => {
    path = headers[":path"];
    const ok = { ":status": 200, "content-type": "application/grpc" };
    stream.respond(ok, { waitForTrailers: true });
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": `${code}` }));
    stream.resume();
    stream.end(code === 0 ? new Uint8Array([0, 0, 0, 0, 1, 9]) : undefined);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const { port } = server.address() as { port: number };
  assertEquals(await call(port), { tag: "ok", message: new Uint8Array([9]) });
  assertEquals(path, PATH);
  code = 7;
  assertEquals(await call(port), { tag: "refused", reason: "PERMISSION_DENIED", mayRetry: false });
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

Deno.test("a status other than 0 is a refusal, final or not", async () => {
  await using collector = OtlpCollector.listen();
  const cases: [Response, string, boolean][] = [
    [refusal(14, "too much"), "UNAVAILABLE: too much", true],
    [refusal(3, "too much"), "INVALID_ARGUMENT: too much", false],
    [refusal(99), "status 99", false],
    [new Response(null, { status: 503 }), "HTTP status 503", true],
    [new Response("lost", { status: 404 }), "HTTP status 404", false],
    [Response.redirect("http://127.0.0.1:1/"), "HTTP status 302", false],
  ];
  for (const [answer, reason, mayRetry] of cases) {
    collector.answer = () => answer;
    assertEquals(await call(collector.port), { tag: "refused", reason, mayRetry });
  }
  collector.answer = () => {
    const message = `%${"long".repeat(200)}`;
    return new Response(null, { headers: { "grpc-status": "5", "grpc-message": message } });
  };
  const outcome = await call(collector.port);
  assertMatch(outcome.tag === "refused" ? outcome.reason : "", /^NOT_FOUND: %(long){49}lon…$/);
});

Deno.test("an answer that cannot be understood is none", async () => {
  await using collector = OtlpCollector.listen();
  const grpc = { headers: { "content-type": "application/grpc", "grpc-status": "0" } };
  const notGrpc = { tag: "unreachable", reason: "the answer is not gRPC" } as const;
  const empty = { tag: "ok", message: EMPTY } as const;
  const cases: [Response, GrpcOutcome][] = [
    [new Response("<html>"), notGrpc],
    [refusal(1234), notGrpc],
    // What an acceptance says is of no weight.
    [new Response(null, grpc), empty],
    [new Response(new Uint8Array([0, 0, 0, 0]), grpc), empty],
    [new Response(new Uint8Array([0, 0, 0, 0, 9, 1]), grpc), {
      tag: "ok",
      message: new Uint8Array([1]),
    }],
    [new Response(new Uint8Array([1, 0, 0, 0, 1, 7]), grpc), empty],
  ];
  for (const [answer, outcome] of cases) {
    collector.answer = () => answer;
    assertEquals(await call(collector.port), outcome);
  }
});

Deno.test("an endless answer is read no further than the limit", async () => {
  await using collector = OtlpCollector.listen();
  let written = 0;
  collector.answer = () =>
    new Response(
      new ReadableStream({
        pull: (controller) => {
          written += 16384;
          if (written > 100 * MAX_BODY_LENGTH) controller.close();
          else controller.enqueue(new Uint8Array(16384));
        },
      }),
    );
  const outcome = await call(collector.port);
  assertEquals(outcome, { tag: "unreachable", reason: "the answer is too long" });
});

Deno.test("a call ends in time though nobody answers, or nobody reads", async () => {
  await using collector = OtlpCollector.listen();
  collector.answer = silence;
  const late = { tag: "unreachable", reason: "no answer within 0.1 s" } as const;
  assertEquals(await call(collector.port, 60), late);
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  assertEquals(await call((silent.addr as Deno.NetAddr).port, 60), late);
});

Deno.test("a call can be given up", async () => {
  await using collector = OtlpCollector.listen();
  collector.answer = silence;
  const server = { host: "127.0.0.1", port: collector.port };
  const started = startGrpcCall(server, PATH, EMPTY, 10_000);
  started.abort("enough");
  assertEquals(await started.outcome, { tag: "unreachable", reason: "enough" });
  started.abort("again");
});

Deno.test("what does not speak HTTP/2, or is not there, is unreachable", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  const texts = ["HTTP/1.1 400 Bad Request\r\n\r\n".repeat(20), "", "\xff".repeat(9999)];
  const serving = (async () => {
    for (const text of texts) {
      const connection = await listener.accept();
      await connection.write(new TextEncoder().encode(text)).catch(() => {});
      connection.close();
    }
  })();
  for (const _ of texts) assertEquals((await call(port)).tag, "unreachable");
  await serving;
  listener.close();
  const outcome = await call(port);
  assertMatch(outcome.tag === "unreachable" ? outcome.reason : "", /Connection refused/);
});

Deno.test("a long request waits for room, and arrives whole", async () => {
  await using collector = OtlpCollector.listen();
  const name = new ProtobufWriter().string(5, "x".repeat(300_000)).bytes;
  const scope = new ProtobufWriter().message(1, () => {}).blob(2, name).bytes;
  const request = new ProtobufWriter().message(1, (r) => r.message(1, () => {}).blob(2, scope));
  const server = { host: "localhost", port: collector.port };
  const { outcome } = startGrpcCall(server, PATH, request.bytes, 10_000);
  assertEquals((await outcome).tag, "ok");
  assertEquals(collector.spans[0]!.name.length, 300_000);
});

Deno.test("proxies of the environment have no part in it", async () => {
  await using collector = OtlpCollector.listen();
  Deno.env.set("HTTP_PROXY", "http://127.0.0.1:1");
  try {
    assertEquals((await call(collector.port)).tag, "ok");
  } finally {
    Deno.env.delete("HTTP_PROXY");
  }
});

Deno.test("an IPv6 address is written in brackets", () => {
  assertEquals(authorityOf({ host: "::1", port: 4317 }), "[::1]:4317");
  assertEquals(authorityOf({ host: "otel.example", port: 4317 }), "otel.example:4317");
});

function call(port: number, timeoutMs = 10_000): Promise<GrpcOutcome> {
  return startGrpcCall({ host: "127.0.0.1", port }, PATH, EMPTY, timeoutMs).outcome;
}
