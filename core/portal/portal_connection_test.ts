import { assert, assertEquals, assertMatch } from "@std/assert";
import { ip } from "../ip/address.ts";
import { Secret } from "../secret.ts";
import { logger, setUpLogging } from "../telemetry/logging.ts";
import { createFlow } from "./outgoing.ts";
import { PortalConnection, type PortalEvent, type PortalOptions } from "./portal_connection.ts";

setUpLogging({ filter: "off" });

const KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

Deno.test("logs in, joins, exchanges messages and leaves with a close frame", async () => {
  const portal = new TestPortal();
  const events = new Events();
  const connection = connect(portal, events);
  connection.send(createFlow("r1", []));
  assertEquals(await events.next(), { tag: "joined", era: "v2" });
  assertEquals(await events.next(), { tag: "message", event: "init", payload: { hello: "wörld" } });
  const request = portal.requests[0]!;
  assertEquals(request.path, "/base/client/v2/websocket");
  assertEquals(request.query.get("public_key"), KEY);
  assertEquals(request.query.has("token"), false);
  assertEquals(request.headers.get("x-authorization"), "Bearer s3cret");
  assertMatch(request.headers.get("user-agent")!, /^\w+\/\S+ headless-client\/1\.5\.0 \(\w+\)$/);
  assertEquals(request.headers.has("origin"), false);
  await portal.until(() => portal.frames.length === 2);
  assertEquals(portal.frames.map((f) => [f.event, f.payload, f.ref]), [
    ["phx_join", null, 0],
    ["request_authorization", { resource_id: "r1", connected_gateway_ids: [] }, 1],
  ]);
  connection.close();
  await portal.until(() => portal.closes.length === 1);
  assertEquals(portal.closes, [1000]);
  await portal.stop();
});

Deno.test("a 404 for v2 leads to v1, where the token is in the query too", async () => {
  const portal = new TestPortal();
  portal.answer = (path) => path.includes("/v2/") ? new Response("", { status: 404 }) : undefined;
  const events = new Events();
  const connection = connect(portal, events);
  assertEquals(await events.next(), { tag: "joined", era: "v1" });
  const request = portal.requests[1]!;
  assertEquals(request.path, "/base/client/websocket");
  assertEquals(request.query.get("token"), "s3cret");
  assertMatch(request.headers.get("user-agent")!, / connlib\/1\.5\.0 /);
  connection.close();
  await portal.stop();
});

Deno.test("a 401 is fatal and names the portal's code", async () => {
  const portal = new TestPortal();
  portal.answer = () => Response.json({ code: "invalid_token", detail: "no" }, { status: 401 });
  const events = new Events();
  connect(portal, events);
  assertEquals(await events.next(), {
    tag: "fatal",
    kind: "unauthorized",
    reason: "the portal refused the token (invalid_token)",
  });
  await portal.stop();
});

Deno.test("a 503 is tried again when Retry-After says", async () => {
  const portal = new TestPortal();
  portal.answer = () =>
    Response.json({ code: "rate_limit" }, { status: 503, headers: { "retry-after": "0" } });
  const events = new Events();
  const connection = connect(portal, events);
  assertEquals(await events.next(), {
    tag: "hiccup",
    reason: "the portal answered with HTTP status 503 (rate_limit)",
    retryInMs: 0,
  });
  portal.answer = () => undefined;
  await events.until("joined");
  connection.close();
  await portal.stop();
});

Deno.test("a portal that vanishes is a hiccup, and its return is found by itself", async () => {
  const portal = new TestPortal();
  const port = portal.port;
  const events = new Events();
  const connection = connect(portal, events);
  await events.until("message");
  await portal.stop();
  assertEquals((await events.next()).tag, "hiccup");
  assertMatch((await events.nextHiccup()).reason, /cannot reach the portal/);
  const again = new TestPortal(port);
  await events.until("joined");
  connection.close();
  await again.stop();
});

Deno.test("connecting with another key drops the connection and dials anew", async () => {
  const portal = new TestPortal();
  const events = new Events();
  const connection = connect(portal, events);
  await events.until("message");
  connection.connect("ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=");
  await events.until("message");
  assertEquals(events.seen.map((e) => e.tag), ["joined", "message", "joined", "message"]);
  assertEquals(portal.requests.length, 2);
  assert(portal.requests[1]!.query.get("public_key")!.startsWith("ICEi"));
  await portal.until(() => portal.closes.length === 1);
  connection.close();
  await portal.stop();
});

Deno.test("a server that speaks something else is a hiccup", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const events = new Events();
  const connection = connect(listener.addr, events);
  const socket = await listener.accept();
  await socket.read(new Uint8Array(4096));
  await socket.write(new TextEncoder().encode("SSH-2.0-OpenSSH_9.2\r\n"));
  socket.close();
  assertMatch((await events.nextHiccup()).reason, /cannot reach the portal/);
  connection.close();
  listener.close();
});

Deno.test("a handshake without the right accept key is refused", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const events = new Events();
  const connection = connect(listener.addr, events);
  const socket = await listener.accept();
  await socket.read(new Uint8Array(4096));
  const answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
    "Connection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n";
  await socket.write(new TextEncoder().encode(answer));
  assertMatch((await events.nextHiccup()).reason, /does not speak WebSocket/);
  connection.close();
  socket.close();
  listener.close();
});

Deno.test("a relay joins with its secret and has no key", async () => {
  const portal = new TestPortal();
  const events = new Events();
  const connection = new PortalConnection({
    ...common(portal, events),
    login: {
      role: "relay",
      ipv4: "192.0.2.1",
      port: 3478,
      stampSecret: new Secret("ab".repeat(32)),
    },
  });
  connection.connect();
  await events.until("joined");
  assertEquals(portal.requests[0]!.path, "/base/relay/websocket");
  assertEquals([...portal.requests[0]!.query], [["ipv4", "192.0.2.1"], ["port", "3478"]]);
  assertEquals(portal.frames[0]!.payload, { stamp_secret: "ab".repeat(32) });
  connection.close();
  await portal.stop();
});

Deno.test("the portal's host is found through the given resolver", async () => {
  const portal = new TestPortal();
  const events = new Events();
  const asked: string[] = [];
  const connection = new PortalConnection({
    ...common(portal, events),
    apiUrl: new URL(`ws://portal.test:${portal.port}/base/`),
    resolve: (host) => {
      asked.push(host);
      return Promise.resolve([ip("127.0.0.1")]);
    },
  });
  connection.connect(KEY);
  await events.until("joined");
  assertEquals(asked, ["portal.test"]);
  connection.close();
  await portal.stop();
});

Deno.test("all addresses of the portal are tried, whatever the first ones do", async () => {
  const portal = new TestPortal();
  const events = new Events();
  const connection = new PortalConnection({
    ...common(portal, events),
    apiUrl: new URL(`ws://portal.test:${portal.port}/base/`),
    resolve: () => Promise.resolve(["127.0.0.2", "::1", "127.0.0.1"].map(ip)),
  });
  connection.connect(KEY);
  await events.until("joined");
  assertEquals(events.seen.map(({ tag }) => tag).includes("hiccup"), false);
  connection.close();
  await portal.stop();
});

Deno.test("trouble is logged once per kind, without the token", async () => {
  const lines: string[] = [];
  setUpLogging({ filter: "info", format: "json", write: (line) => lines.push(line) });
  const portal = new TestPortal();
  portal.answer = () => new Response("", { status: 503, headers: { "retry-after": "0" } });
  const events = new Events();
  const connection = connect(portal, events);
  for (let i = 0; i < 3; i++) await events.nextHiccup();
  portal.answer = () => undefined;
  await events.until("joined");
  connection.close();
  await portal.stop();
  setUpLogging({ filter: "off" });
  assertEquals(lines.map((line) => JSON.parse(line).message), [
    "No connection to the portal",
    "Connected to the portal",
  ]);
  assertEquals(lines.join("").includes("s3cret"), false);
});

function connect(
  portal: { readonly port: number } | Deno.Addr,
  events: Events,
): PortalConnection {
  const connection = new PortalConnection(common(portal as { port: number }, events));
  connection.connect(KEY);
  return connection;
}

function common(portal: { readonly port: number }, events: Events): PortalOptions {
  return {
    apiUrl: new URL(`ws://127.0.0.1:${portal.port}/base/`),
    login: { role: "client", id: "6d5a0c1e-0000-4000-8000-000000000001", name: "tester" },
    token: new Secret("s3cret"),
    onEvent: (event) => events.push(event),
    log: logger("test", "portal"),
  };
}

/** Events in order, to be awaited. */
class Events {
  readonly seen: PortalEvent[] = [];
  #read = 0;
  #wake: (() => void) | undefined;

  push(event: PortalEvent): void {
    this.seen.push(event);
    this.#wake?.();
  }

  async next(): Promise<PortalEvent> {
    while (this.#read >= this.seen.length) {
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    return this.seen[this.#read++]!;
  }

  async until(tag: PortalEvent["tag"]): Promise<void> {
    while ((await this.next()).tag !== tag);
  }

  async nextHiccup(): Promise<PortalEvent & { tag: "hiccup" }> {
    while (true) {
      const event = await this.next();
      if (event.tag === "hiccup") return event;
    }
  }
}

interface TestFrame {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: number;
}

/** A portal that accepts every join and says hello. */
class TestPortal {
  readonly requests: { path: string; query: URLSearchParams; headers: Headers }[] = [];
  readonly frames: TestFrame[] = [];
  readonly closes: number[] = [];
  /** Answers in place of the upgrade. */
  answer: (path: string) => Response | undefined = () => undefined;
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #sockets = new Set<WebSocket>();
  readonly #abort = new AbortController();
  #wake: () => void = () => {};

  constructor(port = 0) {
    this.#server = Deno.serve({
      hostname: "127.0.0.1",
      port,
      signal: this.#abort.signal,
      onListen: () => {},
    }, (request) => this.#handle(request));
  }

  get port(): number {
    return this.#server.addr.port;
  }

  async until(isSo: () => boolean): Promise<void> {
    while (!isSo()) await new Promise<void>((resolve) => this.#wake = resolve);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.close();
    await this.until(() => this.#sockets.size === 0);
    this.#abort.abort();
    await this.#server.finished;
  }

  #handle(request: Request): Response {
    const url = new URL(request.url);
    this.requests.push({
      path: url.pathname,
      query: url.searchParams,
      headers: new Headers(request.headers),
    });
    const refusal = this.answer(url.pathname);
    if (refusal !== undefined) return refusal;
    const { socket, response } = Deno.upgradeWebSocket(request);
    this.#sockets.add(socket);
    socket.onmessage = (message) => {
      const frame: TestFrame = JSON.parse(message.data);
      this.frames.push(frame);
      if (frame.event === "phx_join") {
        const { topic, ref } = frame;
        const reply = { status: "ok", response: {} };
        socket.send(JSON.stringify({ topic, event: "phx_reply", payload: reply, ref }));
        const hello = { hello: "wörld" };
        socket.send(JSON.stringify({ topic, event: "init", payload: hello, ref: null }));
      }
      this.#wake();
    };
    socket.onclose = (event) => {
      this.#sockets.delete(socket);
      this.closes.push(event.code);
      this.#wake();
    };
    return response;
  }
}
