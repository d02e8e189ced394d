import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { socketAddress } from "@firezone/core/ip";
import { logger } from "@firezone/core/telemetry";
import { MemoryStore } from "./device.ts";
import { EVENTS } from "./flows.ts";
import { PortalServer } from "./server.ts";
import { basicConfig, configOf, testKey, TOKENS } from "./testing/peers.ts";
import { PhoenixSocket, type SocketOptions, socketUrl } from "./testing/phoenix_socket.ts";

const LAB = configOf(basicConfig).resources[0]!.id;

/** A portal on loopback that ends with its test. */
class TestServer implements AsyncDisposable {
  readonly server: PortalServer;
  readonly url: string;
  readonly healthUrl: string;

  constructor(trustForwardedFor = false, listen = ["127.0.0.1:0"]) {
    this.server = PortalServer.start({
      config: configOf(basicConfig),
      store: new MemoryStore(),
      listen: listen.map(socketAddress),
      health: socketAddress("127.0.0.1:0"),
      trustForwardedFor,
      log: logger("test"),
    });
    const [main, health] = this.server.addresses;
    const host = main!.hostname.includes(":") ? `[${main!.hostname}]` : main!.hostname;
    this.url = `http://${host}:${main!.port}`;
    this.healthUrl = `http://127.0.0.1:${health!.port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.shutdown();
  }
}

function optionsFor(role: SocketOptions["role"], era: SocketOptions["era"]): SocketOptions {
  const agents = {
    client: { v1: "Linux/6.1.0 connlib/1.4.0", v2: "Linux/6.1.0 headless-client/1.5.9 (x86_64)" },
    gateway: { v1: "Linux/6.1.0 connlib/1.4.2", v2: "Linux/6.1.0 gateway/1.5.3 (x86_64)" },
    relay: { v1: "relay/0.1.0", v2: "Linux/6.1.0 relay/1.5.0 (x86_64)" },
  };
  const params = {
    client: { external_id: "c".repeat(64), name: "my laptop", public_key: testKey(0xfb) },
    gateway: { external_id: "g".repeat(64), name: "gw", public_key: testKey(0xff) },
    relay: { ipv4: "127.0.0.1", ipv6: "::1", port: "3478" },
  };
  return { role, era, agent: agents[role][era], params: params[role] };
}

for (const era of ["v1", "v2"] as const) {
  Deno.test(`the flow of portal-protocol §2.4 over sockets, ${era}`, async () => {
    await using portal = new TestServer();
    await using relay = await PhoenixSocket.open(portal.url, optionsFor("relay", era));
    assertEquals(await relay.join({ stamp_secret: "ab".repeat(32) }), {});

    await using gateway = await PhoenixSocket.open(portal.url, optionsFor("gateway", era));
    const gatewayInit = await gateway.join();
    assertEquals(gatewayInit.config.ipv4_masquerade_enabled, true);
    assertEquals(gatewayInit.relays.map((entry: { addr: string }) => entry.addr), [
      "127.0.0.1:3478",
      "[::1]:3478",
    ]);

    await using client = await PhoenixSocket.open(portal.url, optionsFor("client", era));
    const init = await client.join();
    assertEquals(init.relays.length, 2);
    assertEquals(init.resources[0][era === "v1" ? "gateway_groups" : "sites"].length, 1);

    await client.expectReply(client.send("heartbeat", {}, "phoenix"));
    client.send(EVENTS[era].request, { resource_id: LAB, connected_gateway_ids: [] });
    const request = await gateway.expect(EVENTS[era].authorize);
    await gateway.expectReply(gateway.send(EVENTS[era].authorized, { ref: request.ref }));
    const created = await client.expect(EVENTS[era].created);
    assertEquals(created.preshared_key, request.client.preshared_key);
    assertEquals(created.client_ice_credentials, request.client_ice_credentials);
    assertEquals(request.subject.ip, "127.0.0.1");

    const candidates = ["candidate:1 1 udp 2130706431 127.0.0.1 9 typ host"];
    client.send("broadcast_ice_candidates", { gateway_ids: [created.gateway_id], candidates });
    assertEquals(await gateway.expect("ice_candidates"), {
      client_id: request.client.id,
      candidates,
    });
    gateway.send("broadcast_ice_candidates", { client_ids: [request.client.id], candidates });
    assertEquals(await client.expect("ice_candidates"), {
      gateway_id: created.gateway_id,
      candidates,
    });

    const status = await (await fetch(`${portal.healthUrl}/status`)).json();
    assertEquals(
      [status.clients[0].name, status.gateways[0].owner, status.relays.length],
      ["my laptop", "office", 1],
    );

    portal.server.applyConfig(configOf({ ...basicConfig, policies: [] }));
    assertEquals(await gateway.expect("reject_access").then((p) => p.resource_id), LAB);
    assertEquals(await client.expect("resource_deleted"), LAB);
  });
}

Deno.test("a relay that goes is announced a second later, of the real clock", async () => {
  await using portal = new TestServer();
  const relay = await PhoenixSocket.open(portal.url, optionsFor("relay", "v2"));
  await relay.join({ stamp_secret: "ab".repeat(32) });
  await using client = await PhoenixSocket.open(portal.url, optionsFor("client", "v2"));
  const { relays } = await client.join();
  await relay[Symbol.asyncDispose]();
  assertEquals(await client.expect("relays_presence"), {
    disconnected_ids: [relays[0].id],
    connected: [],
  });
});

Deno.test("requests that are no peer's are refused as HTTP", async () => {
  await using portal = new TestServer();
  const get = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`${portal.url}${path}`, { headers });
    const text = await response.text();
    const isProblem = response.headers.get("content-type") === "application/problem+json";
    return [response.status, isProblem ? JSON.parse(text).code : text];
  };
  const bearer = (token: string) => ({ "x-authorization": `Bearer ${token}` });
  for (const path of ["/client/websocket", "/gateway/v2/websocket", "/relay/websocket"]) {
    assertEquals(await get(path), [401, "missing_token"]);
    assertEquals(await get(`${path}?token=nobodys`), [401, "invalid_token"]);
    assertEquals(await get(path, bearer("nobodys")), [401, "invalid_token"]);
  }
  assertEquals(await get("/client/v2/websocket", bearer(TOKENS.client)), [
    400,
    "invalid_connect_params",
  ]);
  assertEquals(await get("/client/v2/websocket", { authorization: `Bearer ${TOKENS.client}` }), [
    401,
    "missing_token",
  ]);
  assertEquals((await get("/healthz"))[0], 200);
  assertEquals((await get("/status"))[0], 404, "not for the public");
});

Deno.test("a wrong key, a wrong agent, a second gateway do not get a socket", async () => {
  await using portal = new TestServer();
  const client = optionsFor("client", "v2");
  const gateway = optionsFor("gateway", "v2");
  await using first = await PhoenixSocket.open(portal.url, gateway);
  await first.join();
  for (
    const [options, status] of [
      [{ ...client, params: { ...client.params, public_key: "x" } }, 400],
      [{ ...client, agent: "curl/8" }, 400],
      [{ ...gateway, params: { ...gateway.params, public_key: testKey(1) } }, 409],
      [{ ...client, token: "nobodys" }, 401],
    ] as const
  ) {
    await assertRejects(() => PhoenixSocket.open(portal.url, options));
    const response = await fetch(socketUrl(portal.url, options), {
      headers: {
        "x-authorization": `Bearer ${options.token ?? TOKENS[options.role]}`,
        "user-agent": options.agent,
      },
    });
    await response.body?.cancel();
    // Plain HTTP gets as far as the upgrade, sockets further.
    assertEquals(response.status, status === 401 ? 401 : 400);
  }
});

Deno.test("frames that make no sense end the socket with a reason", async () => {
  await using portal = new TestServer();
  for (
    const [data, code] of [
      ["nonsense", 1002],
      [new Uint8Array(5).buffer, 1003],
      ["x".repeat(70_000), 1009],
    ] as const
  ) {
    await using client = await PhoenixSocket.open(portal.url, optionsFor("client", "v2"));
    await client.join();
    client.sendRaw(data);
    assertEquals((await client.closed()).code, code);
  }
});

Deno.test("whoever shows a removed token hears why, then the socket ends", async () => {
  await using portal = new TestServer();
  await using client = await PhoenixSocket.open(portal.url, optionsFor("client", "v2"));
  await client.join();
  portal.server.applyConfig(configOf({ ...basicConfig, accounts: [], policies: [] }));
  assertEquals(await client.expect("disconnect"), { reason: "token_expired" });
  assertEquals(await client.expect("phx_close"), {});
  assertEquals((await client.closed()).code, 1000);
});

Deno.test("at shutdown peers are asked to come back", async () => {
  const portal = new TestServer();
  await using client = await PhoenixSocket.open(portal.url, optionsFor("client", "v2"));
  await client.join();
  await portal.server.shutdown();
  assertEquals(await client.closed(), { code: 1012, reason: "restarting" });
});

Deno.test("peers may come over IPv6, and through a proxy that is trusted", async () => {
  await using portal = new TestServer(true, ["[::1]:0"]);
  await using client = await PhoenixSocket.open(portal.url, optionsFor("client", "v2"));
  await client.join();
  const status = async () => (await (await fetch(`${portal.healthUrl}/status`)).json()).clients;
  assertEquals((await status())[0].remote_ip, "::1");
  const proxied = new WebSocket(socketUrl(portal.url, optionsFor("client", "v2")), {
    headers: {
      "x-authorization": `Bearer ${TOKENS.client}`,
      "x-forwarded-for": "192.0.2.1, ::ffff:198.51.100.9",
      "user-agent": "Linux/6 headless-client/1.5.0",
    },
  });
  const { promise, resolve } = Promise.withResolvers<void>();
  proxied.onmessage = () => resolve();
  proxied.onopen = () =>
    proxied.send(`{"topic":"client","event":"phx_join","payload":null,"ref":0}`);
  await promise;
  assertEquals((await status())[0].remote_ip, "198.51.100.9");
  const closed = new Promise((resolve) => proxied.onclose = resolve);
  proxied.close();
  await closed;
});

Deno.test("an address that is taken is an error in one line", async () => {
  await using portal = new TestServer();
  const taken = portal.url.slice("http://".length);
  const error = assertThrows(() => new TestServer(false, [taken]), ConfigError);
  assert(error.message.startsWith(`Cannot listen on ${taken}: `));
});
