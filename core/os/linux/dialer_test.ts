import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import dgram from "node:dgram";
import { ip, IpAddress, SocketAddress, socketAddress } from "../../ip/address.ts";
import { requires } from "../../../tests/requirements.ts";
import { type DialedSocket, Dialer, type DialOptions } from "./dialer.ts";
import { connect, TestNetns } from "./testing/netns.ts";

const ignore = Deno.build.os !== "linux";
const utf8 = new TextEncoder();

Deno.test({ name: "Dialer exchanges datagrams with one address", ignore }, async () => {
  await using echo = await udpEcho();
  const run = open({ transport: "udp", to: socketAddress(`127.0.0.1:${echo.port}`) });
  run.socket.send(utf8.encode("hello"));
  assertEquals(await run.next(), "hello");
  await run.dialer.close();
});

Deno.test({ name: "Dialer tells when nobody listens", ignore }, async () => {
  const { port } = await freePort();
  for (const transport of ["udp", "tcp"] as const) {
    const run = open({ transport, to: socketAddress(`127.0.0.1:${port}`) });
    run.socket.send(utf8.encode("hello"));
    assertEquals(await run.ended, "ECONNREFUSED");
    await run.dialer.close();
  }
});

Deno.test({
  name: "Dialer tells at once what routers say, over both families",
  ...requires("linux", "root", "namespaces", "ip"),
}, async () => {
  using ns = new TestNetns("dial");
  using router = new TestNetns("dial");
  connect(
    { ns, name: "lan0", addresses: ["192.0.2.1/24", "2001:db8::1/64"] },
    { ns: router, name: "lan0", addresses: ["192.0.2.2/24", "2001:db8::2/64", "fe80::2/64"] },
  );
  ns.ip("route", "add", "default", "via", "192.0.2.2");
  ns.ip("-6", "route", "add", "default", "via", "2001:db8::2");
  const keys = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"];
  router.exec("sh", "-c", keys.map((key) => `echo 1 > /proc/sys/net/${key}`).join(";"));
  router.ip("route", "add", "unreachable", "198.51.100.0/24");
  router.ip("route", "add", "prohibit", "203.0.113.0/24");
  router.ip("-6", "route", "add", "unreachable", "2001:db8:1::/48");
  const dialer = new Dialer();
  const cases: [to: string, error: string][] = [
    ["198.51.100.1:53", "EHOSTUNREACH"],
    ["203.0.113.1:53", "EHOSTUNREACH"],
    ["[2001:db8:1::1]:53", "ENETUNREACH"],
    ["[2001:db8::2]:53", "ECONNREFUSED"],
  ];
  const linkLocal = (zone: string) =>
    new SocketAddress(new IpAddress(ip("fe80::2").bytes, zone), 53);
  const [{ ifindex }] = JSON.parse(ns.ip("-j", "link", "show", "lan0"));
  const destinations: [to: SocketAddress, error: string][] = [
    ...cases.map(([to, error]): [SocketAddress, string] => [socketAddress(to), error]),
    [linkLocal("lan0"), "ECONNREFUSED"],
    [linkLocal(String(ifindex)), "ECONNREFUSED"],
  ];
  for (const [to, error] of destinations) {
    const run = ns.enter(() => open({ transport: "udp", to }, dialer));
    // The kernel limits how many errors it sends, all namespaces together.
    const sending = setInterval(() => run.socket.send(utf8.encode("hello")), 50);
    assertEquals(await run.ended, error, to.key);
    clearInterval(sending);
  }
  const away = assertThrows(() => open({ transport: "udp", to: linkLocal("gone0") }, dialer));
  assertStringIncludes(String(away), "gone0");
  await dialer.close();
});

Deno.test({ name: "Dialer carries a long stream both ways and ends it", ignore }, async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serving = (async () => {
    const connection = await listener.accept();
    await connection.readable.pipeTo(connection.writable);
  })();
  const run = open({ transport: "tcp", to: socketAddress(`127.0.0.1:${listener.addr.port}`) });
  const sent = new Uint8Array(3_000_000).map((_, i) => i * 7);
  let written = 0;
  run.socket.send(sent.subarray(0, 5), () => written++);
  run.socket.send(sent.subarray(5), () => written++);
  run.socket.end();
  assertEquals(await run.ended, undefined);
  assertEquals(written, 2);
  assertEquals(run.bytes(), sent);
  await serving;
  await run.dialer.close();
});

Deno.test({ name: "Dialer stops telling of bytes while it is paused", ignore }, async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const run = open({ transport: "tcp", to: socketAddress(`127.0.0.1:${listener.addr.port}`) });
  using connection = await listener.accept();
  run.socket.pause();
  await connection.write(utf8.encode("later"));
  // The loop turns for another socket, and passes by the paused one.
  await using echo = await udpEcho();
  const other = open({ transport: "udp", to: socketAddress(`127.0.0.1:${echo.port}`) }, run.dialer);
  other.socket.send(utf8.encode("now"));
  assertEquals(await other.next(), "now");
  assertEquals(run.bytes().length, 0);
  run.socket.resume();
  assertEquals(await run.next(), "later");
  await run.dialer.close();
});

function open(options: DialOptions, dialer: Dialer = new Dialer()) {
  const chunks: Uint8Array[] = [];
  const { promise: ended, resolve } = Promise.withResolvers<string | undefined>();
  let wake = () => {};
  const socket: DialedSocket = dialer.dial(options, {
    received: (bytes) => {
      chunks.push(bytes.slice());
      wake();
    },
    ended: resolve,
  });
  return {
    dialer,
    socket,
    ended,
    bytes: () => new Uint8Array(chunks.flatMap((chunk) => [...chunk])),
    next: async () => {
      if (chunks.length === 0) await new Promise<void>((resolve) => wake = resolve);
      return new TextDecoder().decode(chunks.shift());
    },
  };
}

async function udpEcho(): Promise<AsyncDisposable & { port: number }> {
  const server = dgram.createSocket("udp4");
  server.on("message", (bytes, from) => server.send(bytes, from.port, from.address));
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", resolve));
  return {
    port: server.address().port,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

/** A port that nobody listens on, for UDP and TCP. */
async function freePort(): Promise<{ port: number }> {
  const { port } = await (async () => {
    await using echo = await udpEcho();
    return { port: echo.port };
  })();
  return { port };
}
