import { assertEquals } from "@std/assert";
import { decodeMessage, encodeQuery, makeAnswer, Rcode } from "@firezone/core/dns";
import { ip } from "@firezone/core/ip";
import { logger } from "@firezone/core/telemetry";
import { answering, askTcp, askUdp, FakeNameServer, freePort } from "./fake_name_server.ts";
import { DnsProxy, type DnsProxyOptions } from "./proxy.ts";

const PROXY = "127.0.0.1";
const SERVER = "127.0.0.2";

/** A proxy that listens on loopback and asks a server there. */
class World implements AsyncDisposable {
  readonly port = freePort();
  readonly upstreamPort = freePort();
  readonly #resolvConf = Deno.makeTempFileSync();
  #proxy: DnsProxy | undefined;

  async start(options: Partial<DnsProxyOptions> = {}): Promise<void> {
    Deno.writeTextFileSync(this.#resolvConf, `nameserver ${SERVER}\n`);
    this.#proxy = new DnsProxy({
      log: logger("test"),
      resolvConf: this.#resolvConf,
      port: this.port,
      upstreamPort: this.upstreamPort,
      accepts: () => true,
      limitMs: 200,
      ...options,
    });
    this.#proxy.listen([ip(PROXY)]);
    while (!this.#proxy.isListening) await new Promise((resolve) => setTimeout(resolve, 1));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#proxy?.close();
    Deno.removeSync(this.#resolvConf);
  }
}

Deno.test("DnsProxy passes queries on by the transport that they came by", async () => {
  await using world = new World();
  await using server = new FakeNameServer(SERVER, world.upstreamPort, answering(Rcode.NoError));
  await server.ready;
  await world.start();
  const udp = decodeMessage(await askUdp(PROXY, world.port, encodeQuery(7, "a.example", "A")));
  assertEquals([udp?.id, udp?.rcode, udp?.answers[0]?.data], [7, Rcode.NoError, "10.0.0.1"]);
  const queries = [8, 9].map((id) => encodeQuery(id, "b.example", "A"));
  const tcp = (await askTcp(PROXY, world.port, queries)).map(decodeMessage);
  assertEquals(tcp.map((message) => message?.id).sort(), [8, 9]);
  assertEquals(server.asked.filter((line) => line.endsWith(".example")), [
    "udp a.example",
    "tcp b.example",
    "tcp b.example",
  ]);
});

Deno.test("an answer that does not fit into a datagram says that there is more", async () => {
  await using world = new World();
  await using server = new FakeNameServer(SERVER, world.upstreamPort, (query) => {
    const records = Array.from({ length: 80 }, (_, i) => ({
      type: query.question.type,
      ttlSeconds: 60,
      data: Uint8Array.of(10, 0, 0, i),
    }));
    return makeAnswer(query, Rcode.NoError, records);
  });
  await server.ready;
  await world.start();
  const big = decodeMessage(await askUdp(PROXY, world.port, encodeQuery(1, "big.example", "A")));
  assertEquals([big?.isTruncated, big?.answers.length], [true, 0]);
  const [whole] = await askTcp(PROXY, world.port, [encodeQuery(2, "big.example", "A")]);
  assertEquals(decodeMessage(whole!)?.answers.length, 80);
});

Deno.test("without a name server, or without an answer of it, it is SERVFAIL", async () => {
  await using world = new World();
  await world.start();
  const ask = async () =>
    decodeMessage(await askUdp(PROXY, world.port, encodeQuery(1, "a.example", "A")))?.rcode;
  assertEquals(await ask(), Rcode.ServFail);
  await using server = new FakeNameServer(
    SERVER,
    world.upstreamPort,
    (query, transport) =>
      query.question.name === "a.example" ? undefined : answering(Rcode.NxDomain)(query, transport),
  );
  await server.ready;
  assertEquals(await ask(), Rcode.ServFail);
  assertEquals(server.asked.includes("udp a.example"), true);
});

Deno.test("DnsProxy answers nobody but clients, and nothing that is no query", async () => {
  await using world = new World();
  await using server = new FakeNameServer(SERVER, world.upstreamPort, answering(Rcode.NoError));
  await server.ready;
  await world.start({ accepts: (from) => from.text !== PROXY });
  const query = encodeQuery(1, "a.example", "A");
  assertEquals(decodeMessage(await askUdp(PROXY, world.port, query))?.rcode, Rcode.Refused);
  const [tcp] = await askTcp(PROXY, world.port, [query]);
  assertEquals(decodeMessage(tcp!)?.rcode, Rcode.Refused);
  assertEquals(server.asked, []);
});
