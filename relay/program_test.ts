/** The relay as its operator meets it: a process on loopback. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { socketAddress } from "@firezone/core/ip";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { Endpoint, FakePortal, freePort, RelayProcess, TurnClient } from "./testing/mod.ts";

const SECRET = "ab".repeat(32);
const CREDENTIALS = relayCredentials(2_145_916_800 as UnixSeconds, SECRET, "salt");
const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "A standalone relay prints a credential that works, over both families",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([]);
    const lines = (await relay.stdout.line()).concat("\n", await relay.stdout.line()).split("\n");
    for (const [i, host] of ["127.0.0.1", "[::1]"].entries()) {
      const [uri, username, password] = lines[i]!.split(" ");
      assertEquals(uri, `turn:${host}:${relay.port}`);
      const credentials = { username: username!, password: password!, realm: "firezone" };
      const server = socketAddress(uri!.slice(5));
      await using client = await TurnClient.start(server, credentials);
      const relayed = await client.until(
        "an allocation",
        () => client.allocation.relayedAddress(6),
      );
      await using peer = await Endpoint.open("::1");
      client.allocation.bindChannel(client.now(), peer.address);
      const bytes = new Uint8Array([1, 2, 3]);
      const there = await client.retry(
        () => client.sendTo(peer.address, bytes),
        () => peer.received.at(-1),
      );
      assertEquals(there, { from: relayed.key, bytes });
      await peer.send(bytes, relayed);
      const back = await client.until("data", () => client.data.at(-1));
      assertEquals([back.from, back.bytes], [peer.address.key, bytes]);
    }
    await relay.until("running standalone");
    relay.kill("SIGTERM");
    await relay.until("Serving until the last allocation ends");
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
    assertEquals(relay.log.split(CREDENTIALS.password).length, 1);
    assert(!relay.log.includes(lines[0]!.split(" ")[2]!), "the credential is on stdout alone");
  },
});

Deno.test({
  name: "A burst through the relay arrives whole and in order, both ways",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET]);
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    const relayed = await client.until("an allocation", () => client.allocation.relayedAddress(4));
    await using peer = await Endpoint.open("127.0.0.1");
    client.allocation.bindChannel(client.now(), peer.address);
    await client.until("the channel", () => {
      client.sendTo(peer.address, new Uint8Array(1));
      return peer.received.length > 0;
    });
    peer.received.length = 0;
    const lengths = Array.from({ length: 100 }, (_, i) => i % 10 === 9 ? 50 : 1200);
    const payload = (i: number) => new Uint8Array(lengths[i]!).fill(i);
    for (const i of lengths.keys()) client.sendTo(peer.address, payload(i));
    await client.until("all of them", () => peer.received.filter((r) => r.bytes.length > 1)[99]);
    assertEquals(
      peer.received.filter((r) => r.bytes.length > 1).map((r) => [r.bytes[0], r.bytes.length]),
      lengths.map((length, i) => [i, length]),
    );
    for (const i of lengths.keys()) void peer.send(payload(i), relayed);
    await client.until("all of them back", () => client.data[99]);
    assertEquals(
      client.data.map((d) => [d.bytes[0], d.bytes.length]),
      lengths.map((length, i) => [i, length]),
    );
  },
});

Deno.test({
  name: "A relay with several addresses answers from the one that it was asked at",
  ...onLinux,
  async fn() {
    // Left to itself the kernel answers 127.0.0.1 from 127.0.0.1.
    await using relay = await RelayProcess.start([
      "--stamp-secret",
      SECRET,
      "--public-ip4-addr",
      "127.0.0.2",
    ]);
    const server = socketAddress(`127.0.0.2:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
  },
});

Deno.test({
  name: "A port that another program holds is refused to the client and harms nobody else",
  ...onLinux,
  async fn() {
    await using taken = await Endpoint.open("127.0.0.1");
    const { port } = taken.address;
    const range = ["--lowest-port", String(port), "--highest-port", String(port)];
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET, ...range]);
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("the refusal", () => client.events.includes("refused"));
    await taken[Symbol.asyncDispose]();
    client.allocation.refresh(client.now());
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
  },
});

Deno.test({
  name: "SIGTERM with nobody there ends a relay at once",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start(["--stamp-secret", SECRET]);
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
  },
});

Deno.test({
  name: "A relay that drains serves until its last allocation has ended",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([
      "--stamp-secret",
      SECRET,
      "--drain-timeout",
      "1s",
    ]);
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    relay.kill("SIGINT");
    await relay.until("Serving until the last allocation ends");
    assertEquals(await relay.health("/readyz"), 503);
    await using peer = await Endpoint.open("127.0.0.1");
    client.allocation.bindChannel(client.now(), peer.address);
    await client.retry(
      () => client.sendTo(peer.address, new Uint8Array(3)),
      () => peer.received.at(-1),
    );
    assertEquals((await relay.status).code, 0);
    assertStringIncludes(relay.log, "did not end in time");
  },
});

Deno.test({
  name: "A relay joins its portal, with its secret, and says so at /readyz",
  ...onLinux,
  async fn() {
    await using portal = new FakePortal();
    await using relay = await RelayProcess.start(
      ["--stamp-secret", SECRET, "--api-url", portal.url, "--public-ip4-addr", "127.0.0.1"],
      { FIREZONE_TOKEN: " a.token\n", FIREZONE_NAME: "test relay" },
    );
    await relay.until("Connected to the portal");
    assertEquals(await relay.health("/readyz"), 200);
    const { headers, join } = portal;
    assertEquals(headers?.get("x-authorization"), "Bearer a.token");
    assertMatch(headers?.get("user-agent") ?? "", /^\S+ relay\/1\.\d+\.\d+ \(.+\)$/);
    assertEquals(portal.query, `name=test+relay&ipv4=127.0.0.1&port=${relay.port}`);
    assertEquals(join, { topic: "relay", event: "phx_join", payload: { stamp_secret: SECRET } });
    assert(!relay.log.includes(SECRET) && !relay.log.includes("a.token"));
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    portal.hangUp();
    await relay.until("No connection to the portal");
    assertEquals(await relay.health("/healthz"), 200);
    client.allocation.refresh(client.now());
    client.flush();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    client.flush();
    assert(client.allocation.relayedAddress(4) !== undefined);
  },
});

Deno.test({
  name: "A relay whose portal cannot be reached serves all the same, and does not say it is ready",
  ...onLinux,
  async fn() {
    const url = `ws://127.0.0.1:${await freePort()}/`;
    await using relay = await RelayProcess.start(
      ["--stamp-secret", SECRET, "--api-url", url, "--public-ip4-addr", "127.0.0.1"],
      { FIREZONE_TOKEN: "a.token" },
    );
    const server = socketAddress(`127.0.0.1:${relay.port}`);
    await using client = await TurnClient.start(server, CREDENTIALS);
    await client.until("an allocation", () => client.allocation.relayedAddress(4));
    await relay.until("No connection to the portal");
    assertEquals(await relay.health("/readyz"), 503);
    assertEquals(await relay.health("/healthz"), 200);
  },
});

Deno.test({
  name: "A token that the portal does not know ends the relay with one line",
  ...onLinux,
  async fn() {
    await using portal = new FakePortal(401);
    await using relay = await RelayProcess.start(
      ["--api-url", portal.url, "--public-ip4-addr", "127.0.0.1"],
      { FIREZONE_TOKEN: "a.token" },
    );
    assertEquals((await relay.status).code, 1);
    const last = relay.log.trimEnd().split("\n").at(-1)!;
    assertStringIncludes(last, "The portal refused this relay");
    assert(!relay.log.includes("    at "), "no stack");
  },
});

Deno.test({
  name: "What an operator gets wrong is one line and status 1",
  ...onLinux,
  async fn() {
    const taken = createSocket("udp4");
    taken.bind(0, "127.0.0.1");
    await once(taken, "listening");
    const port = String(taken.address().port);
    const cases: [string[], Record<string, string>, RegExp][] = [
      [["--listen-port", port], {}, /bind UDP 127\.0\.0\.1:\d+: address already in use/],
      [["--nonsense"], {}, /unknown option '--nonsense'/],
      [["--listen-port", port], {}, /name another --listen-port/],
      [["--public-ip4-addr", "0.0.0.0"], {}, /Cannot be reached at 0\.0\.0\.0: /],
      [["--deny-peer", "10.0.0.0/33"], {}, /Cannot set --deny-peer to "10\.0\.0\.0\/33"/],
      [["--public-ip4-addr", "::1"], {}, /Cannot set --public-ip4-addr to "::1"/],
      [[], { LISTEN_PORT: "70000" }, /Cannot set LISTEN_PORT to "70000"/],
      [["--lowest-port", "5000", "--highest-port", "4000"], {}, /--lowest-port is above/],
      [["--public-ip4-addr", "203.0.113.1", "--bind-ip4-addr", "203.0.113.1"], {}, /not available/],
      [[], { FIREZONE_TOKEN: "t" }, /give --public-ip4-addr or --public-ip6-addr/],
      [["--public-ip4-addr", "127.0.0.1"], { FIREZONE_TOKEN: "t" }, /give --api-url/],
      [["--api-url", "ftp://x", "t"], {}, /Cannot set --api-url to "ftp:\/\/x"/],
    ];
    await Promise.all(cases.map(async ([args, env, expected]) => {
      await using relay = await RelayProcess.spawn(["--health-check-addr", "off", ...args], env);
      assertEquals((await relay.status).code, 1, args.join(" "));
      const lines = relay.log.trimEnd().split("\n");
      assertMatch(lines.at(-1)!, expected);
      assertEquals(lines.length, 1, relay.log);
    }));
    taken.close();
    await once(taken, "close");
  },
});
