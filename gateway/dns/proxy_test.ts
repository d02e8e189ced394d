import { assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { logger } from "@firezone/core/telemetry";
import { askTcp, askUdp, fakeServer, queryBytes } from "../../core/testing/fake_dns.ts";
import { DnsProxy, type DnsProxyOptions } from "./proxy.ts";

const PROXY = "127.0.0.1";
const SERVER = "127.0.0.2";
const NXDOMAIN = 3;

const address = (name: string, last = 1) => ({ type: "A", name, ttl: 60, data: `10.0.0.${last}` });

/** A proxy that listens on loopback and asks a server there. */
class World implements AsyncDisposable {
  readonly port = freePort();
  readonly #resolvConf = Deno.makeTempFileSync();
  #proxy: DnsProxy | undefined;

  async start(upstreamPort: number, options: Partial<DnsProxyOptions> = {}): Promise<void> {
    Deno.writeTextFileSync(this.#resolvConf, `nameserver ${SERVER}\n`);
    this.#proxy = new DnsProxy({
      log: logger("test"),
      resolvConf: this.#resolvConf,
      port: this.port,
      upstreamPort,
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

/** A port that nobody listens on now. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("DnsProxy passes queries on by the transport that they came by", async () => {
  await using world = new World();
  await using server = await fakeServer(
    SERVER,
    0,
    ({ name, type }) =>
      type === "SRV"
        ? { answers: [{ type, name, ttl: 60, data: { port: 389, target: "dc.example" } }] }
        : { answers: [address(name)] },
  );
  await world.start(server.port);
  assertEquals(await askUdp(PROXY, world.port, queryBytes("a.example", "A")), "NOERROR: 10.0.0.1");
  const srv = queryBytes("_ldap._tcp.example", "SRV");
  const answers = await askTcp(PROXY, world.port, queryBytes("b.example", "A"), srv);
  assertEquals(answers.sort(), ["NOERROR: 10.0.0.1", "NOERROR: [object Object]"]);
  assertEquals(server.asked.filter((line) => !line.endsWith("firezone.dev")).sort(), [
    "tcp A b.example",
    "tcp SRV _ldap._tcp.example",
    "udp A a.example",
  ]);
});

Deno.test("an answer that does not fit into a datagram says that there is more", async () => {
  await using world = new World();
  await using server = await fakeServer(SERVER, 0, ({ name }) => ({
    answers: Array.from({ length: 80 }, (_, i) => address(name, i)),
  }));
  await world.start(server.port);
  const query = queryBytes("big.example", "A");
  assertEquals(await askUdp(PROXY, world.port, query), "NOERROR: (truncated)");
  const [whole] = await askTcp(PROXY, world.port, query);
  assertEquals(whole!.split(",").length, 80);
});

Deno.test("without a name server, or without an answer of it, it is SERVFAIL", async () => {
  await using world = new World();
  const upstreamPort = freePort();
  await world.start(upstreamPort);
  const ask = (name: string) => askUdp(PROXY, world.port, queryBytes(name, "A"));
  assertEquals(await ask("a.example"), "SERVFAIL:");
  await using server = await fakeServer(
    SERVER,
    upstreamPort,
    ({ name }) => name === "a.example" ? undefined : { flags: NXDOMAIN },
  );
  assertEquals(await ask("a.example"), "SERVFAIL:");
  assertEquals(server.asked.at(-1), "udp A a.example");
  assertEquals(await ask("b.example"), "NXDOMAIN:", "the server is asked again after all");
});

Deno.test("DnsProxy answers nobody but clients", async () => {
  await using world = new World();
  await using server = await fakeServer(SERVER, 0, ({ name }) => ({ answers: [address(name)] }));
  await world.start(server.port, { accepts: (from) => from.text !== PROXY });
  const query = queryBytes("a.example", "A");
  assertEquals(await askUdp(PROXY, world.port, query), "REFUSED:");
  assertEquals(await askTcp(PROXY, world.port, query), ["REFUSED:"]);
  assertEquals(server.asked, []);
});
