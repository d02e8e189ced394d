/** The portal and the programs' own side of the protocol understand each other. */
import { assert, assertEquals } from "@std/assert";
import { Secret } from "@firezone/core/cli";
import { socketAddress } from "@firezone/core/ip";
import {
  candidatesToClient,
  candidatesToGateway,
  createFlow,
  flowAuthorized,
  type Login,
  parseClientMessage,
  parseGatewayMessage,
  PortalConnection,
  toApiUrl,
} from "@firezone/core/portal";
import { logger } from "@firezone/core/telemetry";
import { MemoryStore } from "./device.ts";
import { PortalServer } from "./server.ts";
import { basicConfig, configOf, testKey, TOKENS } from "./testing/peers.ts";

const CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.7 9 typ host";
const LAB = configOf(basicConfig).resources[0]!.id;

/** One of our programs, as far as the portal meets it. */
class Program implements Disposable {
  readonly connection: PortalConnection;
  readonly #messages: [event: string, payload: unknown][] = [];
  #waiting: (() => void) | undefined;

  constructor(apiUrl: URL, login: Login, key?: string) {
    this.connection = new PortalConnection({
      apiUrl,
      login,
      token: new Secret(TOKENS[login.role]),
      onEvent: (event) => {
        assert(event.tag === "joined" || event.tag === "message", JSON.stringify(event));
        if (event.tag === "message") this.#messages.push([event.event, event.payload]);
        this.#waiting?.();
      },
      log: logger("test"),
    });
    this.connection.connect(key);
  }

  async next(): Promise<[event: string, payload: unknown]> {
    while (this.#messages.length === 0) {
      await new Promise<void>((resolve) => this.#waiting = resolve);
    }
    return this.#messages.shift()!;
  }

  async nextFor<T>(parse: (event: string, payload: unknown) => T): Promise<T> {
    return parse(...await this.next());
  }

  [Symbol.dispose](): void {
    this.connection.close();
  }
}

Deno.test("our own client, gateway and relay come to a connection", async () => {
  const server = PortalServer.start({
    config: configOf(basicConfig),
    store: new MemoryStore(),
    listen: [socketAddress("127.0.0.1:0")],
    trustForwardedFor: false,
    log: logger("test"),
  });
  const apiUrl = toApiUrl(`ws://127.0.0.1:${server.addresses[0]!.port}`)!;
  {
    using relay = new Program(apiUrl, {
      role: "relay",
      ipv4: "203.0.113.5",
      port: 3478,
      stampSecret: new Secret("ab".repeat(32)),
    });
    assertEquals((await relay.next())[0], "init");
    using gateway = new Program(apiUrl, { role: "gateway", id: "g", name: "gw" }, testKey(2));
    const gatewayInit = await gateway.nextFor(parseGatewayMessage);
    assert(gatewayInit.tag === "init");
    assertEquals([gatewayInit.relays.length, gatewayInit.authorizations], [1, []]);
    using client = new Program(apiUrl, { role: "client", id: "c", name: "laptop" }, testKey(1));
    const init = await client.nextFor(parseClientMessage);
    assert(init.tag === "init");
    assertEquals([init.resources.length, init.skippedResources, init.relays.length], [4, 0, 1]);
    assertEquals(init.interface.searchDomain, "example.com");
    assertEquals(init.resources[0]!.sites[0]!.name, "office");

    client.connection.send(createFlow(LAB, []));
    const request = await gateway.nextFor(parseGatewayMessage);
    assert(request.tag === "authorize-flow");
    gateway.connection.send(flowAuthorized(request.ref));
    const created = await client.nextFor(parseClientMessage);
    assert(created.tag === "flow-created");
    assertEquals(created.presharedKey, request.client.presharedKey);
    assertEquals(created.clientIce, request.clientIce);
    assertEquals(created.gatewayIps?.ipv4.text, gatewayInit.interface.ipv4.text);

    client.connection.send(candidatesToGateway(created.gatewayId, [CANDIDATE]));
    const toGateway = await gateway.nextFor(parseGatewayMessage);
    assert(toGateway.tag === "ice-candidates");
    assertEquals([toGateway.peerId, toGateway.candidates], [request.client.id, [CANDIDATE]]);
    gateway.connection.send(candidatesToClient(request.client.id, [CANDIDATE]));
    const toClient = await client.nextFor(parseClientMessage);
    assert(toClient.tag === "ice-candidates");
    assertEquals([toClient.peerId, toClient.candidates], [created.gatewayId, [CANDIDATE]]);

    client.connection.requestRelays();
    const presence = await client.nextFor(parseClientMessage);
    assert(presence.tag === "relays-presence");
    assertEquals(presence.connected.length, 1);
  }
  await server.shutdown();
});
