/** The relay as its operator meets it: a process on loopback. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { socketAddress } from "@firezone/core/ip";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { Endpoint, TurnClient } from "./testing/mod.ts";

const SECRET = "ab".repeat(32);
const CREDENTIALS = relayCredentials(2_145_916_800 as UnixSeconds, SECRET, "salt");
const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "A standalone relay prints a credential that works, over both families",
  ...onLinux,
  async fn() {
    await using relay = await Relay.start([]);
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
    await using relay = await Relay.start(["--stamp-secret", SECRET]);
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
    await using relay = await Relay.start([
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
    await using relay = await Relay.start(["--stamp-secret", SECRET, ...range]);
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
    await using relay = await Relay.start(["--stamp-secret", SECRET]);
    relay.kill("SIGTERM");
    assertEquals((await relay.status).code, 0);
  },
});

Deno.test({
  name: "A relay that drains serves until its last allocation has ended",
  ...onLinux,
  async fn() {
    await using relay = await Relay.start(["--stamp-secret", SECRET, "--drain-timeout", "1s"]);
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
    await using relay = await Relay.start(
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
  name: "A token that the portal does not know ends the relay with one line",
  ...onLinux,
  async fn() {
    await using portal = new FakePortal(401);
    await using relay = await Relay.start(
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
      [["--public-ip4-addr", "::1"], {}, /Cannot set --public-ip4-addr to "::1"/],
      [[], { LISTEN_PORT: "70000" }, /Cannot set LISTEN_PORT to "70000"/],
      [["--lowest-port", "5000", "--highest-port", "4000"], {}, /--lowest-port is above/],
      [["--public-ip4-addr", "203.0.113.1", "--bind-ip4-addr", "203.0.113.1"], {}, /not available/],
      [[], { FIREZONE_TOKEN: "t" }, /give --public-ip4-addr or --public-ip6-addr/],
      [["--public-ip4-addr", "127.0.0.1"], { FIREZONE_TOKEN: "t" }, /give --api-url/],
      [["--api-url", "ftp://x", "t"], {}, /Cannot set --api-url to "ftp:\/\/x"/],
    ];
    await Promise.all(cases.map(async ([args, env, expected]) => {
      await using relay = await Relay.spawn(["--health-check-addr", "off", ...args], env);
      assertEquals((await relay.status).code, 1, args.join(" "));
      const lines = relay.log.trimEnd().split("\n");
      assertMatch(lines.at(-1)!, expected);
      assertEquals(lines.length, 1, relay.log);
    }));
    taken.close();
    await once(taken, "close");
  },
});

/** Collects text and hands it out by lines. */
class Text {
  text = "";
  #taken = 0;
  #isOver = false;
  readonly done: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array>) {
    this.done = this.#collect(stream);
  }

  async line(): Promise<string> {
    await this.until(() => this.text.indexOf("\n", this.#taken) >= 0);
    const end = this.text.indexOf("\n", this.#taken);
    const line = this.text.slice(this.#taken, end);
    this.#taken = end + 1;
    return line;
  }

  async until(isThere: () => boolean): Promise<void> {
    for (const end = Date.now() + 20_000; !isThere();) {
      if (this.#isOver || Date.now() > end) throw new Error(`Not found in:\n${this.text}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.text += decoder.decode(chunk, { stream: true });
    this.#isOver = true;
  }
}

/** A running relay. */
class Relay implements AsyncDisposable {
  readonly port: number;
  readonly stdout: Text;
  readonly #stderr: Text;
  readonly #process: Deno.ChildProcess;
  readonly #healthPort: number;

  private constructor(process: Deno.ChildProcess, port: number, healthPort: number) {
    this.#process = process;
    this.stdout = new Text(process.stdout);
    this.#stderr = new Text(process.stderr);
    this.port = port;
    this.#healthPort = healthPort;
  }

  /** Waits until it listens. */
  static async start(args: string[], env: Record<string, string> = {}): Promise<Relay> {
    const relay = await Relay.spawn(args, env);
    await relay.until("Listening");
    return relay;
  }

  static async spawn(args: string[], env: Record<string, string>): Promise<Relay> {
    const [port, healthPort] = [await freePort(), await freePort()];
    const main = new URL("./main.ts", import.meta.url).pathname;
    const own = ["--listen-port", port, "--health-check-addr", `127.0.0.1:${healthPort}`];
    const given = new Set(args);
    const process = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        main,
        ...(given.has("--listen-port") || env.LISTEN_PORT ? own.slice(2) : own).map(String),
        ...args,
      ],
      env: { ...env, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new Relay(process, port, healthPort);
  }

  get log(): string {
    return this.#stderr.text;
  }

  /** Waits for the end, with all of its output. */
  get status(): Promise<Deno.CommandStatus> {
    return Promise.all([this.#process.status, this.stdout.done, this.#stderr.done]).then(([s]) =>
      s
    );
  }

  until(text: string): Promise<void> {
    return this.#stderr.until(() => this.log.includes(text));
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async health(path: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.#healthPort}${path}`);
    await response.body?.cancel();
    return response.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.status;
  }
}

/** As much of a portal as a relay needs. */
class FakePortal implements AsyncDisposable {
  headers: Headers | undefined;
  query: string | undefined;
  join: unknown;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #sockets: WebSocket[] = [];

  constructor(refusal?: number) {
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const url = new URL(request.url);
      if (refusal !== undefined) return new Response(null, { status: refusal });
      if (url.pathname !== "/relay/websocket") return new Response(null, { status: 404 });
      this.headers = new Headers(request.headers);
      this.query = url.search.slice(1);
      const { socket, response } = Deno.upgradeWebSocket(request);
      this.#sockets.push(socket);
      socket.onmessage = ({ data }) => this.#answer(socket, JSON.parse(data));
      return response;
    });
  }

  get url(): string {
    return `ws://127.0.0.1:${this.#server.addr.port}/`;
  }

  hangUp(): void {
    for (const socket of this.#sockets.splice(0)) socket.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    await this.#server.shutdown();
  }

  #answer(socket: WebSocket, message: { topic: string; event: string; ref: unknown }): void {
    const { ref, ...rest } = message;
    if (message.event === "phx_join") this.join = rest;
    const { topic } = message;
    const reply = { topic, event: "phx_reply", ref, payload: { status: "ok", response: {} } };
    socket.send(JSON.stringify(reply));
  }
}

/** A port that was free a moment ago, for TCP and most likely for UDP. */
async function freePort(): Promise<number> {
  await using endpoint = await Endpoint.open("127.0.0.1");
  return endpoint.address.port;
}
