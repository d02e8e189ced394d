import { assert, assertEquals, assertRejects } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { ip } from "@firezone/core/ip";
import { type AddressMethod, discoverAddresses, discoverResource } from "./cloud_metadata.ts";

const NONE = { v4: undefined, v6: undefined };
const GCE = "/computeMetadata/v1/instance";

Deno.test("GCE tells both addresses, to those who say that they know whom they ask", async () => {
  await using server = new FakeMetadata({
    [`GET ${GCE}/network-interfaces/0/access-configs/0/external-ip`]: "203.0.113.7",
    [`GET ${GCE}/network-interfaces/0/ipv6s`]: "2001:db8::7\n2001:db8::8\n",
  });
  const found = await discoverAddresses("gce_metadata", NONE, server);
  assertEquals([found.v4?.text, found.v6?.text], ["203.0.113.7", "2001:db8::7"]);
  assertEquals(server.headers.map((h) => h.get("metadata-flavor")), ["Google", "Google"]);
});

Deno.test("EC2 tells both addresses to those who fetch a token first", async () => {
  await using server = new FakeMetadata({
    "PUT /latest/api/token": "a-token==\n",
    "GET /latest/meta-data/public-ipv4": "203.0.113.7",
    "GET /latest/meta-data/ipv6": "2001:db8::7",
  });
  const found = await discoverAddresses("aws_ec2_metadata", NONE, server);
  assertEquals([found.v4?.text, found.v6?.text], ["203.0.113.7", "2001:db8::7"]);
  const [token, ...questions] = server.headers;
  assertEquals(token!.get("x-aws-ec2-metadata-token-ttl-seconds"), "60");
  assertEquals(
    questions.map((h) => h.get("x-aws-ec2-metadata-token")),
    ["a-token==", "a-token=="],
  );
});

Deno.test("what is known already is not asked for", async () => {
  await using server = new FakeMetadata({
    [`GET ${GCE}/network-interfaces/0/ipv6s`]: "2001:db8::7",
  });
  const known = { v4: ip("192.0.2.1"), v6: undefined };
  const found = await discoverAddresses("gce_metadata", known, server);
  assertEquals([found.v4?.text, found.v6?.text], ["192.0.2.1", "2001:db8::7"]);
  assertEquals(server.asked.length, 1);
  await discoverAddresses("gce_metadata", found, server);
  assertEquals(server.asked.length, 1);
});

Deno.test("one family may be missing, but not both", async () => {
  await using server = new FakeMetadata({
    "PUT /latest/api/token": "t",
    "GET /latest/meta-data/public-ipv4": "203.0.113.7",
    [`GET ${GCE}/network-interfaces/0/access-configs/0/external-ip`]: "\n",
  });
  const found = await discoverAddresses("aws_ec2_metadata", NONE, server);
  assertEquals([found.v4?.text, found.v6], ["203.0.113.7", undefined]);
  await assertRefused(() => discoverAddresses("gce_metadata", NONE, server), "knows none");
});

Deno.test("answers that make no sense are refused in one line", async () => {
  const external = `GET ${GCE}/network-interfaces/0/access-configs/0/external-ip`;
  const cases: [AddressMethod, Answers, string][] = [
    ["gce_metadata", { [external]: "<html>\nWelcome" }, "a public IPv4 address"],
    ["gce_metadata", { [external]: "2001:db8::1" }, '"2001:db8::1"'],
    ["gce_metadata", { [external]: "x".repeat(4000) }, `"${"x".repeat(40)}…"`],
    ["gce_metadata", { [external]: "x".repeat(1e6) }, "its answer is too long"],
    ["gce_metadata", { [external]: 500 }, "status 500"],
    ["gce_metadata", { [external]: 302 }, "status 302"],
    ["aws_ec2_metadata", { "PUT /latest/api/token": "two words" }, "a token"],
    ["aws_ec2_metadata", {}, "a token"],
    ["aws_ec2_metadata", { "PUT /latest/api/token": 403 }, "status 403"],
  ];
  for (const [method, answers, text] of cases) {
    await using server = new FakeMetadata(answers);
    await assertRefused(() => discoverAddresses(method, NONE, server), text);
  }
});

Deno.test("a server that is slow, silent, gone or no web server is given up in time", async () => {
  {
    await using server = new FakeMetadata({ "PUT /latest/api/token": "slow" });
    const options = { baseUrl: server.baseUrl, timeoutMs: 50 };
    const find = () => discoverAddresses("aws_ec2_metadata", NONE, options);
    await assertRefused(find, "no answer within 0.05 s");
  }
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const baseUrl = `http://127.0.0.1:${(listener.addr as Deno.NetAddr).port}`;
  const find = (timeoutMs: number) => () =>
    discoverAddresses("gce_metadata", NONE, { baseUrl, timeoutMs });
  await assertRefused(find(50), "no answer within 0.05 s");
  // The connection of the attempt before waits there still.
  (await listener.accept()).close();
  const serving = (async () => {
    const connection = await listener.accept();
    await connection.write(new TextEncoder().encode("SSH-2.0-OpenSSH_9.2\r\n"));
    connection.close();
  })();
  await assertRefused(find(5000), `Cannot ask gce_metadata for ${baseUrl}`);
  await serving;
  listener.close();
  await assertRefused(find(5000), `Cannot ask gce_metadata for ${baseUrl}`);
  await assertRefused(find(5000), "onnection refused");
});

Deno.test("an answer that never ends is given up in time", async () => {
  await using server = new FakeMetadata({ [`GET ${GCE}/id`]: "endless" });
  const options = { baseUrl: server.baseUrl, timeoutMs: 100 };
  await assertRefused(() => discoverResource("gce_metadata", options), "no answer within 0.1 s");
});

Deno.test("GCE tells what describes an instance", async () => {
  await using server = new FakeMetadata({
    [`GET ${GCE}/id`]: "5832583187537235075",
    [`GET ${GCE}/name`]: "relay-m5k7",
    [`GET ${GCE}/zone`]: "projects/1234/zones/us-east1-b",
  });
  assertEquals(await discoverResource("gce_metadata", server), {
    "service.instance.id": "5832583187537235075",
    "gcp.gce.instance.name": "relay-m5k7",
    "cloud.region": "us-east1-b",
  });
});

Deno.test("a description that makes no sense is refused", async () => {
  await using server = new FakeMetadata({ [`GET ${GCE}/id`]: "a b" });
  await assertRefused(() => discoverResource("gce_metadata", server), "the instance's id");
});

async function assertRefused(run: () => Promise<unknown>, text: string): Promise<void> {
  const error = await assertRejects(run, ConfigError, text);
  assert(!error.message.includes("\n"), error.message);
}

/** Answers by verb and path: a text, a status, or how it fails to come. */
type Answers = Readonly<Record<string, string | number>>;

/** A metadata server; 404 is the answer to all else. */
class FakeMetadata implements AsyncDisposable {
  readonly asked: string[] = [];
  readonly headers: Headers[] = [];
  readonly baseUrl: string;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #end = Promise.withResolvers<void>();

  constructor(answers: Answers) {
    const listen = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
    this.#server = Deno.serve(listen, (request) => this.#answer(request, answers));
    this.baseUrl = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  async #answer(request: Request, answers: Answers): Promise<Response> {
    const question = `${request.method} ${new URL(request.url).pathname}`;
    this.asked.push(question);
    this.headers.push(new Headers(request.headers));
    const answer = answers[question] ?? 404;
    if (answer === "slow") await this.#end.promise;
    if (answer === "endless") return new Response(this.#drip());
    if (typeof answer === "string") return new Response(answer);
    const headers = { location: "http://127.0.0.1:1/" };
    return new Response(null, { status: answer, ...(answer === 302 ? { headers } : {}) });
  }

  #drip(): ReadableStream<Uint8Array> {
    let timer: ReturnType<typeof setInterval>;
    return new ReadableStream({
      start: (controller) => {
        timer = setInterval(() => controller.enqueue(new Uint8Array([32])), 10);
      },
      cancel: () => clearInterval(timer),
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.resolve();
    await this.#server.shutdown();
  }
}
