import { assertEquals, assertStringIncludes } from "@std/assert";
import { ip, socketAddress } from "@firezone/core/ip";
import { systemRandom } from "@firezone/core/system_random";
import { requires } from "../../tests/requirements.ts";
import { fakeServer, queryBytes, summary } from "../../core/testing/fake_dns.ts";
import { Forwarders, type ForwardersOptions } from "./forwarders.ts";
import type { DnsTransport, ForwardTarget } from "./stub_resolver.ts";
import { AUTHORITY } from "./testdata/certificate.ts";
import { fakeHttps } from "./testdata/fake_https.ts";

const NEEDS = requires("linux");
const HOST = "127.0.0.1";
const ANSWER = { answers: [{ type: "A", name: "example.org", ttl: 60, data: "192.0.2.7" }] };

Deno.test({
  name: "Forwarders ask over UDP and TCP and bring the answer back",
  ...NEEDS,
  async fn() {
    await using server = await fakeServer(HOST, 0, () => ANSWER);
    await using run = start();
    for (const tag of ["portal", "system"] as const) {
      const target = { tag, address: socketAddress(`${HOST}:${server.port}`) };
      assertEquals(await run.ask(target, "udp"), "NOERROR: 192.0.2.7");
      assertEquals(await run.ask(target, "tcp"), "NOERROR: 192.0.2.7");
    }
    assertEquals(server.asked.slice(0, 2), ["udp A example.org", "tcp A example.org"]);
  },
});

Deno.test({
  name: "Forwarders reach the resolver in the site of a resource, or say that there is none",
  ...NEEDS,
  async fn() {
    await using server = await fakeServer(HOST, 0, () => ANSWER);
    await using run = start({
      siteServer: (id) =>
        Promise.resolve(id === "r1" ? socketAddress(`${HOST}:${server.port}`) : undefined),
    });
    assertEquals(await run.ask({ tag: "site", resourceId: "r1" }, "udp"), "NOERROR: 192.0.2.7");
    assertStringIncludes(await run.ask({ tag: "site", resourceId: "r2" }, "udp"), "no gateway");
  },
});

Deno.test({
  name: "Forwarders say at once when nobody listens",
  ...NEEDS,
  async fn() {
    const address = await (async () => {
      await using server = await fakeServer(HOST, 0, () => undefined);
      return socketAddress(`${HOST}:${server.port}`);
    })();
    await using run = start();
    for (const transport of ["udp", "tcp"] as const) {
      assertEquals(await run.ask({ tag: "portal", address }, transport), "failed: ECONNREFUSED");
    }
  },
});

Deno.test({
  name: "Forwarders wait on after something else over UDP, and give up on it over TCP",
  ...NEEDS,
  async fn() {
    await using server = await fakeServer(HOST, 0, () => ANSWER);
    const target: ForwardTarget = {
      tag: "portal",
      address: socketAddress(`${HOST}:${server.port}`),
    };
    await using run = start({}, () => false);
    assertEquals(
      await run.ask(target, "tcp"),
      "failed: the server answered something else",
    );
    run.begin(target, "udp");
    await run.heard();
    run.forwarders.handle({ tag: "stop", forwardId: run.lastId() });
    assertEquals(run.failures(), 1);
  },
});

Deno.test({
  name: "Forwarders close while servers keep silent",
  ...NEEDS,
  async fn() {
    await using server = await fakeServer(HOST, 0, () => undefined);
    await using run = start({ systemServers: () => [ip(HOST)] });
    const address = socketAddress(`${HOST}:${server.port}`);
    run.begin({ tag: "portal", address }, "udp");
    run.begin({ tag: "portal", address }, "tcp");
    run.begin({ tag: "doh", url: `https://${HOST}:${server.port}/dns-query` }, "udp");
    while (server.asked.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  },
});

Deno.test({
  name: "Forwarders ask over HTTPS with one connection, and make another when it is lost",
  ...NEEDS,
  async fn() {
    await using server = fakeHttps(HOST, 0);
    await using run = start({ trusted: [AUTHORITY] });
    const target: ForwardTarget = {
      tag: "doh",
      url: `https://${HOST}:${server.port}/dns-query?x=1`,
    };
    const answers = [await run.ask(target, "udp"), await run.ask(target, "tcp")];
    assertEquals(answers, ["NOERROR: 192.0.2.7", "NOERROR: 192.0.2.7"]);
    assertEquals(server.requests, new Array(2).fill("POST /dns-query?x=1 application/dns-message"));
    assertEquals(await run.ask(target, "udp"), "NOERROR: 192.0.2.7");
    assertEquals(server.connections.size, 1);
    run.forwarders.reset();
    assertEquals(await run.ask(target, "udp"), "NOERROR: 192.0.2.7");
    assertEquals(server.connections.size, 2);
    // Many at once share it.
    const many = Array.from({ length: 200 }, () => run.ask(target, "udp"));
    assertEquals(new Set(await Promise.all(many)), new Set(["NOERROR: 192.0.2.7"]));
    assertEquals(server.connections.size, 2);
  },
});

Deno.test({
  name: "Forwarders leave an HTTPS connection on which nothing comes back",
  ...NEEDS,
  async fn() {
    await using server = fakeHttps(HOST, 0);
    await using run = start({ trusted: [AUTHORITY] });
    const target = (path: string): ForwardTarget => ({
      tag: "doh",
      url: `https://${HOST}:${server.port}${path}`,
    });
    for (let i = 1; i <= 2; i++) {
      run.begin(target("/silent"), "udp");
      while (server.requests.length < i) await new Promise((resolve) => setTimeout(resolve, 1));
      run.forwarders.handle({ tag: "stop", forwardId: run.lastId() });
    }
    assertEquals(server.connections.size, 2);
    assertEquals(run.failures(), 0);
  },
});

Deno.test({
  name: "Forwarders refuse HTTPS servers that they cannot trust or understand",
  ...NEEDS,
  async fn() {
    await using server = fakeHttps(HOST, 0);
    const url = (path: string) => `https://${HOST}:${server.port}${path}`;
    await using strangers = start({});
    const distrusted = await strangers.ask({ tag: "doh", url: url("/dns-query") }, "udp");
    assertStringIncludes(distrusted, "failed: ");
    assertEquals(server.requests, []);
    await using run = start({ trusted: [AUTHORITY] });
    for (
      const [path, reason] of [
        ["/missing", "the server answered with status 404"],
        ["/html", "the server answered with something else than DNS"],
        ["/long", "the answer is too long"],
      ]
    ) {
      assertEquals(await run.ask({ tag: "doh", url: url(path!) }, "udp"), `failed: ${reason}`);
    }
    for (const odd of ["http://dns.test/", "not an address"]) {
      assertStringIncludes(await run.ask({ tag: "doh", url: odd }, "udp"), "failed: ");
    }
    const nameless = await run.ask({ tag: "doh", url: "https://dns.test/" }, "udp");
    assertEquals(nameless, "failed: cannot look up dns.test: the system names no DNS servers");
    assertStringIncludes(await run.ask({ tag: "doh", url: url("/moved") }, "udp"), "failed: ");
    assertEquals(server.requests.filter((request) => request.startsWith("GET")), []);
  },
});

/** Forwarders whose answers and failures a test waits for. */
function start(
  options: Partial<ForwardersOptions> = {},
  accept: (message: Uint8Array) => boolean = () => true,
) {
  const waiting = new Map<number, (outcome: string) => void>();
  let nextId = 0;
  let failures = 0;
  let wake = () => {};
  const forwarders = new Forwarders({
    random: systemRandom,
    systemServers: () => [],
    siteServer: () => Promise.resolve(undefined),
    ...options,
  }, {
    response(id, message) {
      wake();
      if (!accept(message)) return false;
      waiting.get(id)?.(summary(message));
      forwarders.handle({ tag: "stop", forwardId: id });
      return true;
    },
    failed(id, reason) {
      failures++;
      waiting.get(id)?.(`failed: ${reason}`);
    },
  });
  const begin = (target: ForwardTarget, transport: DnsTransport) => {
    const forwardId = nextId++;
    const message = queryBytes("example.org", "A");
    forwarders.handle({ tag: "start", forwardId, target, transport, message });
    return forwardId;
  };
  return {
    forwarders,
    begin,
    lastId: () => nextId - 1,
    failures: () => failures,
    heard: () => new Promise<void>((resolve) => wake = resolve),
    ask: (target: ForwardTarget, transport: DnsTransport) =>
      new Promise<string>((resolve) => waiting.set(begin(target, transport), resolve)),
    [Symbol.asyncDispose]: () => forwarders.close(),
  };
}
