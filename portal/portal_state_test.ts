import { assert, assertEquals, assertMatch } from "@std/assert";
import { iceCredentials } from "./credentials.ts";
import { MemoryStore } from "./device.ts";
import { FAR_FUTURE } from "./directory.ts";
import { EVENTS } from "./flows.ts";
import {
  basicConfig,
  configOf,
  EPOCH,
  SimulatedPeer,
  SimulatedPortal,
  testKey,
  TOKENS,
} from "./testing/peers.ts";
import { relayId } from "./uuid.ts";

const RESOURCES = new Map(configOf(basicConfig).resources.map(({ name, id }) => [name, id]));
const LAB = RESOURCES.get("lab")!;
const WIKI = RESOURCES.get("wiki")!;
const SITE = configOf(basicConfig).sites[0]!;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

/** Leads a request to its end and returns what both sides were told. */
function authorize(client: SimulatedPeer, gateway: SimulatedPeer, resourceId = LAB) {
  client.send(EVENTS[client.era].request, {
    resource_id: resourceId,
    connected_gateway_ids: [],
  });
  assertEquals(client.take(), [], "the client hears nothing before the gateway has answered");
  const request = gateway.takeOne(EVENTS[gateway.era].authorize).payload;
  const ref = gateway.send(EVENTS[gateway.era].authorized, { ref: request.ref });
  const reply = gateway.takeOne("phx_reply");
  assertEquals(reply.ref, ref);
  assertEquals(reply.payload.status, "ok");
  return { request, created: client.takeOne(EVENTS[client.era].created).payload };
}

// ---------------------------------------------------------------- joining

Deno.test("a client joins: the reply, then init with all that it needs", () => {
  const portal = new SimulatedPortal();
  const client = portal.connect("client");
  const ref = client.join();
  const [reply, init] = client.take();
  assertEquals(reply, {
    topic: "client",
    event: "phx_reply",
    payload: { status: "ok", response: {} },
    ref,
  });
  assertEquals([init!.topic, init!.event], ["client", "init"]);
  const site = { id: SITE.id, name: "office" };
  assertEquals(init!.payload, {
    interface: {
      ipv4: init!.payload.interface.ipv4,
      ipv6: init!.payload.interface.ipv6,
      upstream_dns: [
        { protocol: "ip_port", address: "9.9.9.9:53" },
        { protocol: "ip_port", address: "[2620:fe::fe]:53" },
      ],
      upstream_do53: [{ ip: "9.9.9.9" }, { ip: "2620:fe::fe" }],
      upstream_doh: [],
      search_domain: "example.com",
    },
    resources: [
      {
        type: "cidr",
        id: LAB,
        address: "10.0.0.0/24",
        address_description: null,
        name: "lab",
        gateway_groups: [site],
        filters: [],
      },
      {
        type: "cidr",
        id: RESOURCES.get("host"),
        address: "fd12::7/128",
        address_description: null,
        name: "host",
        gateway_groups: [site],
        filters: [{ protocol: "tcp", port_range_start: 80, port_range_end: 80 }],
      },
      {
        type: "dns",
        id: WIKI,
        address: "*.wiki.test",
        address_description: null,
        name: "wiki",
        gateway_groups: [site],
        filters: [{ protocol: "icmp" }],
        ip_stack: "dual",
      },
      {
        type: "internet",
        id: RESOURCES.get("Internet"),
        gateway_groups: [site],
        can_be_disabled: true,
      },
    ],
    relays: [],
    authorizations: [],
    flow_logs: { api_url: "http://localhost", upload_interval_secs: 0, upload_batch_size: 0 },
  });
});

Deno.test("a gateway's init holds interface, relays, config and what newer ones demand", () => {
  const portal = new SimulatedPortal();
  portal.join("relay");
  const gateway = portal.join("gateway");
  const init = gateway.take()[1]!.payload;
  assertMatch(init.interface.ipv4, /^100\.(6[4-9]|[78]\d|9[0-5])\./);
  assertMatch(init.interface.ipv6, /^fd00:2021:1111:/);
  assertEquals(init.config, { ipv4_masquerade_enabled: true, ipv6_masquerade_enabled: true });
  assertEquals(init.account_slug, "test");
  assertEquals(init.authorizations, []);
  assertEquals(init.relays.length, 1);
  assertEquals(init.relays[0].id, relayId("a".repeat(64)));
  assertEquals(init.relays[0].addr, "203.0.113.1:3478");
  assertEquals(init.relays[0].expires_at, FAR_FUTURE);
  assertMatch(init.relays[0].username, /^2145916800:[A-Za-z0-9+/]{43}$/);
});

Deno.test("newer clients get sites where older ones get gateway_groups", () => {
  const portal = new SimulatedPortal();
  const newer = portal.join("client", { agent: "Linux/6.1 headless-client/1.5.6" });
  const resource = newer.take()[1]!.payload.resources[0];
  assertEquals([resource.sites?.length, resource.gateway_groups], [1, undefined]);
});

Deno.test("a relay joins with its secret and is refused without", () => {
  const portal = new SimulatedPortal();
  const relay = portal.connect("relay");
  relay.send("phx_join", {});
  assertEquals(relay.takeOne("phx_reply").payload.response, { reason: "join crashed" });
  relay.join();
  const frames = relay.take();
  assertEquals(frames.map((frame) => frame.event), ["phx_reply", "init"]);
  assertEquals(frames[1]!.payload, {});
});

Deno.test("a program that is too old to set up flows is told so when it joins", () => {
  const portal = new SimulatedPortal();
  const client = portal.join("client", { era: "v1", agent: "Linux/6.1 connlib/1.3.9" });
  assertEquals(client.takeOne("phx_reply").payload, {
    status: "error",
    response: { reason: "invalid_version" },
  });
});

Deno.test("a second join is answered first, then ends the former channel, then begins anew", () => {
  const portal = new SimulatedPortal();
  const client = portal.join("client");
  client.take();
  client.join();
  assertEquals(client.takeEvents(), ["phx_reply", "phx_close", "init"]);
});

Deno.test("messages to a channel that is not joined, or unknown, are answered", () => {
  const portal = new SimulatedPortal();
  const client = portal.connect("client");
  const reason = () => client.takeOne("phx_reply").payload.response.reason;
  client.send("no_relays", {});
  assertEquals(reason(), "unmatched topic");
  client.join();
  client.take();
  client.send("phx_join", null, "gateway");
  assertEquals(reason(), "unmatched topic");
  client.send("dance", {});
  assertEquals(reason(), "unknown_message");
  client.send("create_flow", { resource_id: LAB, connected_gateway_ids: [] });
  assertEquals(reason(), "unknown_message", "v1's name on a v2 socket");
  client.send("set_snownet_capabilities", { iceless: true });
  assertEquals(client.take(), []);
  client.send("phx_leave", {});
  assertEquals(client.takeEvents(), ["phx_reply", "phx_close"]);
  assertEquals(portal.state.status(portal.now).clients, []);
});

// ----------------------------------------------------------------- devices

Deno.test("a device keeps id and addresses, also across portals, and may change its key", () => {
  const store = new MemoryStore();
  const portal = new SimulatedPortal(basicConfig, store);
  portal.join("client");
  const [before] = portal.state.status(portal.now).clients;
  const later = new SimulatedPortal(basicConfig, store, 2);
  later.join("client", { params: { public_key: testKey(9) } });
  const [now] = later.state.status(later.now).clients;
  assertEquals([now!.id, now!.ipv4, now!.ipv6], [before!.id, before!.ipv4, before!.ipv6]);
  assertMatch(now!.id, UUID);
  assertEquals(store.devices().map((device) => device.publicKey), [testKey(9)]);
});

Deno.test("tunnel addresses are unique over clients and gateways", () => {
  const store = new MemoryStore();
  const portal = new SimulatedPortal(basicConfig, store);
  for (let i = 0; i < 20; i++) {
    portal.join(i % 2 ? "client" : "gateway", { params: { external_id: `device ${i}` } });
    portal.advance(1000);
  }
  assertEquals(new Set(store.devices().map((device) => device.addressOffset)).size, 20);
});

Deno.test("the newest connection of a client, a v1 gateway or a relay takes the place", () => {
  for (const [role, era] of [["client", "v2"], ["gateway", "v1"], ["relay", "v1"]] as const) {
    const portal = new SimulatedPortal();
    const first = portal.join(role, { era });
    const second = portal.connect(role, { era });
    assertEquals(first.closed, undefined, "not before the second has joined");
    second.join();
    assertEquals(first.closed?.code, 1000);
    assertEquals(second.closed, undefined);
    const status = portal.state.status(portal.now);
    assertEquals([...status.clients, ...status.gateways, ...status.relays].length, 1);
    portal.advance(2000);
    assertEquals(
      portal.join("client", { params: { external_id: "x" } })
        .take()[1]!.payload.relays.length,
      role === "relay" ? 1 : 0,
    );
  }
});

Deno.test("another v2 gateway with the same id is refused while the first is alive", () => {
  const portal = new SimulatedPortal();
  const first = portal.join("gateway");
  const other = { params: { public_key: testKey(7) } };
  const refusal = portal.tryConnect("gateway", other);
  assert(!(refusal instanceof SimulatedPeer));
  assertEquals([refusal.status, refusal.code], [409, "gateway_already_connected"]);
  portal.join("gateway");
  assert(first.closed, "the same key is the same process, connecting anew");
  portal.advance(13_000, false);
  assert(portal.tryConnect("gateway", other) instanceof SimulatedPeer, "silent for too long");
});

Deno.test("who sends nothing is dropped: gateway 37 s, relay 41 s, client 37 s or, on v1, 307 s", () => {
  for (
    const [role, era, seconds] of [
      ["gateway", "v1", 37],
      ["gateway", "v2", 37],
      ["relay", "v1", 41],
      ["client", "v2", 37],
      ["client", "v1", 307],
    ] as const
  ) {
    const portal = new SimulatedPortal();
    const peer = portal.join(role, { era });
    portal.advance(seconds * 1000 - 1, false);
    assertEquals(peer.closed, undefined, `${role} ${era}`);
    portal.advance(1, false);
    assertEquals(peer.closed?.reason, "idle", `${role} ${era}`);
  }
});

// ------------------------------------------------------------------- flows

for (const era of ["v1", "v2"] as const) {
  Deno.test(`a flow on ${era}: the gateway first, then the client, then candidates`, () => {
    const portal = new SimulatedPortal();
    const { client, gateway } = portal.pair(era);
    const { request, created } = authorize(client, gateway);
    const status = portal.state.status(portal.now);
    const [c, g] = [status.clients[0]!, status.gateways[0]!];
    const ice = iceCredentials(
      { id: c.id, publicKey: testKey(1) },
      { id: g.id, publicKey: testKey(2) },
    );
    assertEquals(request.resource, {
      type: "cidr",
      id: LAB,
      address: "10.0.0.0/24",
      name: "lab",
      filters: [],
    });
    assertEquals(request.client_ice_credentials, ice.client);
    assertEquals(request.gateway_ice_credentials, ice.gateway);
    assertEquals(request.client.id, c.id);
    assertEquals(request.client.public_key, testKey(1));
    assertEquals([request.client.ipv4, request.client.ipv6], [c.ipv4, c.ipv6]);
    assertEquals(request.client.version, "1.5.0");
    assertEquals(request.expires_at, FAR_FUTURE);
    assertEquals(request.use_iceless, false);
    assertEquals(request.subject.ip, "198.51.100.7");
    assertEquals(typeof request.flow_id, era === "v1" ? "string" : "undefined");
    assertEquals(typeof request.actor, era === "v1" ? "object" : "undefined");
    assertEquals(created, {
      resource_id: LAB,
      gateway_id: g.id,
      gateway_public_key: testKey(2),
      gateway_ipv4: g.ipv4,
      gateway_ipv6: g.ipv6,
      gateway_group_id: SITE.id,
      preshared_key: request.client.preshared_key,
      client_ice_credentials: ice.client,
      gateway_ice_credentials: ice.gateway,
      use_iceless: false,
      flow_logs_ingest_token: created.flow_logs_ingest_token,
    });
    const candidates = ["candidate:1 1 udp 1 192.0.2.1 5 typ host ufrag x", "nonsense, verbatim"];
    client.send("broadcast_ice_candidates", { gateway_ids: [g.id], candidates });
    assertEquals(gateway.takeOne("ice_candidates").payload, { client_id: c.id, candidates });
    gateway.send("broadcast_ice_candidates", { client_ids: [c.id], candidates });
    assertEquals(client.takeOne("ice_candidates").payload, { gateway_id: g.id, candidates });
    gateway.send("broadcast_invalidated_ice_candidates", { client_ids: [c.id], candidates });
    assertEquals(client.takeEvents(), ["invalidate_ice_candidates"]);
    client.send("broadcast_invalidated_ice_candidates", { gateway_ids: [g.id], candidates });
    assertEquals(gateway.takeEvents(), ["invalidate_ice_candidates"]);
    client.send("new_gateway_ice_candidates", { gateway_id: g.id, candidates });
    assertEquals(gateway.takeOne("ice_candidates").payload, { client_id: c.id, candidates });
    client.send("invalidate_gateway_ice_candidates", { gateway_id: g.id, candidates });
    assertEquals(gateway.takeEvents(), ["invalidate_ice_candidates"]);
    assertEquals(client.take(), []);
  });
}

Deno.test("the flow-log token parses as newer peers want it", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const { request, created } = authorize(client, gateway);
  const claims = (token: string) =>
    JSON.parse(atob(token.split(".")[1]!.replaceAll("_", "/").replaceAll("-", "+")));
  const [c, g] = [claims(created.flow_logs_ingest_token), claims(request.flow_logs_ingest_token)];
  assertEquals([c.role, g.role], ["initiator", "responder"]);
  assertEquals(c.exp, FAR_FUTURE + 30 * 86_400);
  assertEquals(
    [c.iat, c.authorized_at, c.authorization_expires_at],
    [EPOCH, EPOCH, FAR_FUTURE],
  );
  assertEquals([c.uploads_enabled, c.resource_name, c.initiator_actor_name], [
    false,
    "lab",
    "laptop",
  ]);
  for (const key of ["account_id", "policy_id", "policy_authorization_id"]) {
    assertMatch(c[key], UUID);
  }
});

Deno.test("the same two keys get the same secrets again, another key gets others", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const secrets = (created: Record<string, unknown>) => [
    created.preshared_key,
    created.client_ice_credentials,
    created.gateway_ice_credentials,
  ];
  const first = secrets(authorize(client, gateway, LAB).created);
  assertEquals(secrets(authorize(client, gateway, WIKI).created), first);
  const roamed = portal.join("client", { params: { public_key: testKey(3) } });
  roamed.take();
  const second = secrets(authorize(roamed, gateway).created);
  for (const [i, secret] of second.entries()) assert(secret !== first[i]);
});

Deno.test("candidates for strangers go nowhere", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const { id } = portal.state.status(portal.now).gateways[0]!;
  client.send("broadcast_ice_candidates", { gateway_ids: [id, "x"], candidates: ["c"] });
  assertEquals([...gateway.take(), ...client.take()], []);
  client.send("broadcast_ice_candidates", { gateway_ids: id, candidates: [1] });
  assertEquals(client.takeOne("phx_reply").payload.response.reason, "unknown_message");
});

for (const era of ["v1", "v2"] as const) {
  Deno.test(`on ${era} a request that cannot be fulfilled fails with its reason`, () => {
    const config = {
      ...basicConfig,
      policies: [
        { accounts: ["laptop"], resources: ["lab"] },
        { accounts: ["laptop"], resources: ["wiki"], remote_ip: ["192.0.2.0/24"] },
      ],
    };
    const portal = new SimulatedPortal(config);
    const client = portal.join("client", { era });
    client.take();
    const failure = (resourceId: string) => {
      client.send(EVENTS[era].request, { resource_id: resourceId, connected_gateway_ids: [] });
      return client.takeOne(EVENTS[era].failed).payload;
    };
    assertEquals(failure("nothing"), { resource_id: "nothing", reason: "not_found" });
    assertEquals(failure(RESOURCES.get("host")!).reason, "not_found", "no policy");
    assertEquals(failure(WIKI), {
      resource_id: WIKI,
      reason: "forbidden",
      violated_properties: ["remote_ip"],
    });
    assertEquals(failure(LAB).reason, "offline", "no gateway");
    portal.join("gateway", { era, agent: "Linux/6.1 gateway/1.7.0" });
    assertEquals(failure(LAB).reason, era === "v1" ? "not_found" : "version_mismatch");
  });
}

Deno.test("a gateway that is silent for 15 s is given up; its late answer changes nothing", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  const { ref } = gateway.takeOne("create_authorization").payload;
  portal.advance(14_999);
  assertEquals(client.take(), []);
  portal.advance(1);
  assertEquals(client.takeOne("authorization_creation_failed").payload.reason, "offline");
  assertEquals(gateway.takeOne("reject_access").payload.resource_id, LAB, "as a precaution");
  gateway.send("authorization_created", { ref });
  assertEquals(gateway.takeOne("phx_reply").payload.status, "ok");
  assertEquals(client.take(), []);
  assertEquals(portal.store.authorizations(), []);
});

Deno.test("a ref that is made up, or another gateway's, is refused", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const other = portal.join("gateway", { params: { external_id: "gateway-2" } });
  other.take();
  const { id } = portal.state.status(portal.now).gateways[0]!;
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [id] });
  const { ref } = gateway.takeOne("create_authorization").payload;
  for (const payload of [{ ref }, { ref: "x.y" }, { ref: "" }, { ref: 5 }, {}]) {
    other.send("authorization_created", payload);
    assertEquals(other.takeOne("phx_reply").payload.response, { reason: "invalid_ref" });
  }
  assertEquals(client.take(), []);
});

Deno.test("of two requests for one resource the newer counts", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const ask = () => {
    client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
    return gateway.takeOne("create_authorization").payload.ref;
  };
  const [older, newer] = [ask(), ask()];
  gateway.send("authorization_created", { ref: older });
  assertEquals([gateway.takeEvents(), client.take()], [["phx_reply"], []]);
  gateway.send("authorization_created", { ref: newer });
  assertEquals(client.takeEvents(), ["authorization_created"]);
});

Deno.test("a connected gateway is preferred, else the client's own, else the least busy", () => {
  const portal = new SimulatedPortal();
  const gateways = ["a", "b", "c"].map((name) =>
    portal.join("gateway", { params: { external_id: name } })
  );
  gateways.forEach((gateway) => gateway.take());
  const ids = portal.state.status(portal.now).gateways.map(({ id }) => id);
  const asked = () => gateways.findIndex((gateway) => gateway.frames.length > 0);
  const request = (client: SimulatedPeer, connected: string[], resource = LAB) => {
    client.send("request_authorization", {
      resource_id: resource,
      connected_gateway_ids: connected,
    });
    const i = asked();
    gateways[i]!.send("authorization_created", { ref: gateways[i]!.take()[0]!.payload.ref });
    gateways[i]!.take();
    return i;
  };
  const used = new Set<number>();
  for (let n = 0; n < 3; n++) {
    const client = portal.join("client", { params: { external_id: `c${n}` } });
    const i = request(client, []);
    used.add(i);
    assertEquals(request(client, [], WIKI), i, "the one that it has");
    assertEquals(request(client, [ids[(i + 1) % 3]!]), (i + 1) % 3, "the one that it names");
    const others = [ids[(i + 2) % 3]!, ids[i]!];
    assertEquals(request(client, ["unknown", ...others]), (i + 2) % 3, "the first that it names");
    portal.disconnect(client);
    portal.join("client", { params: { external_id: `c${n}` } });
  }
  assertEquals(used.size > 1, true);
});

Deno.test("who asks again without naming the gateway that it was given has lost it", () => {
  const portal = new SimulatedPortal();
  const gateways = ["a", "b"].map((name) =>
    portal.join("gateway", { params: { external_id: name } })
  );
  gateways.forEach((gateway) => gateway.take());
  const client = portal.join("client");
  const ask = (resource: string) => {
    client.send("request_authorization", { resource_id: resource, connected_gateway_ids: [] });
    const i = gateways.findIndex((gateway) => gateway.frames.length > 0);
    const { ref } = gateways[i]!.takeOne("create_authorization").payload;
    gateways[i]!.send("authorization_created", { ref });
    gateways[i]!.take();
    return i;
  };
  const first = ask(LAB);
  assertEquals(ask(WIKI), first);
  assertEquals(ask(LAB), 1 - first);
  assertEquals(ask(WIKI), 1 - first);
  portal.disconnect(gateways[first]!);
  gateways[first]!.take();
  assertEquals(ask(LAB), 1 - first, "there is no other");
});

Deno.test("clients spread evenly over gateways", () => {
  const portal = new SimulatedPortal();
  const gateways = ["a", "b", "c"].map((name) =>
    portal.join("gateway", { params: { external_id: name } })
  );
  gateways.forEach((gateway) => gateway.take());
  for (let n = 0; n < 9; n++) {
    const client = portal.join("client", { params: { external_id: `c${n}` } });
    client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  }
  assertEquals(gateways.map((gateway) => gateway.take().length), [3, 3, 3]);
});

Deno.test("what a gateway was asked before it went is asked of another", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  gateway.take();
  const other = portal.join("gateway", { params: { external_id: "gateway-2" } });
  other.take();
  portal.disconnect(gateway);
  other.send("authorization_created", {
    ref: other.takeOne("create_authorization").payload.ref,
  });
  assertEquals(client.takeEvents(), ["authorization_created"]);
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  portal.disconnect(other);
  assertEquals(client.takeOne("authorization_creation_failed").payload.reason, "offline");
});

Deno.test("a gateway that connects anew gets its init before what its former self was asked", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  const again = portal.join("gateway");
  assert(gateway.closed);
  assertEquals(again.takeEvents(), ["phx_reply", "init", "create_authorization"]);
});

Deno.test("a request of a client that has gone is withdrawn", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  const { ref } = gateway.takeOne("create_authorization").payload;
  portal.disconnect(client);
  assertEquals(gateway.takeEvents(), ["reject_access"]);
  gateway.send("authorization_created", { ref });
  assertEquals(portal.store.authorizations(), []);
});

Deno.test("device pools do not exist", () => {
  const portal = new SimulatedPortal();
  const { client } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, ipv4: "100.64.0.9" });
  assertEquals(client.takeOne("client_device_access_denied").payload.reason, "not_found");
  client.send("resolve_device_pool_domain", { resource_id: LAB, domain: "x.y" });
  assertEquals(client.takeEvents(), ["device_pool_domain_resolution_failed"]);
  client.send("new_client_ice_candidates", { client_id: "x", candidates: [] });
  assertEquals(client.takeEvents(), ["client_ice_candidate_error"]);
});

// ------------------------------------------------------------------ relays

/** Relay ids in a list of relay entries, without repetition. */
function relayIds(relays: readonly { readonly id: string }[]): string[] {
  return [...new Set(relays.map(({ id }) => id))];
}

Deno.test("a relay is told to everyone one second after it came, one that went likewise", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  const relay = portal.join("relay", { params: { ipv6: "2001:db8::1" } });
  portal.advance(999);
  assertEquals(client.take(), []);
  portal.advance(1);
  const news = client.takeOne("relays_presence").payload;
  const id = relayId("a".repeat(64));
  assertEquals(news.disconnected_ids, []);
  assertEquals(
    news.connected.map(({ addr, type, id }: Record<string, string>) => [type, id, addr]),
    [["turn", id, "203.0.113.1:3478"], ["turn", id, "[2001:db8::1]:3478"]],
  );
  assertEquals(news.connected[0].password, news.connected[1].password);
  assertEquals(gateway.takeEvents(), ["relays_presence"]);
  portal.disconnect(relay);
  portal.advance(1000);
  assertEquals(client.takeOne("relays_presence").payload, {
    disconnected_ids: [id],
    connected: [],
  });
});

Deno.test("a relay that is back within a second changes nothing", () => {
  const portal = new SimulatedPortal();
  const relay = portal.join("relay");
  const { client } = portal.pair();
  portal.advance(2000);
  client.take();
  portal.disconnect(relay);
  portal.advance(500);
  portal.join("relay");
  portal.advance(5000);
  assertEquals(client.take(), []);
});

Deno.test("a relay that comes back with another address is told anew", () => {
  const portal = new SimulatedPortal();
  portal.join("relay");
  const { client } = portal.pair();
  portal.advance(2000);
  client.take();
  portal.join("relay", { params: { ipv4: "203.0.113.9" } });
  portal.advance(2000);
  const news = client.takeOne("relays_presence").payload;
  assertEquals(news.disconnected_ids, []);
  assertEquals(news.connected[0].addr, "203.0.113.9:3478");
});

Deno.test("everyone gets two relays at most, keeps them, and gets another for a lost one", () => {
  const portal = new SimulatedPortal();
  const relays = ["a", "b", "c"].map((stampSecret, i) =>
    portal.join("relay", { stampSecret, params: { ipv4: `203.0.113.${i}` } })
  );
  const client = portal.join("client");
  const before = relayIds(client.take()[1]!.payload.relays);
  assertEquals(before.length, 2);
  portal.join("relay", { stampSecret: "d", params: { ipv4: "203.0.113.4" } });
  portal.advance(2000);
  assertEquals(client.take(), [], "two are enough");
  const lost = relays.find(({ stampSecret }) => relayId(stampSecret.repeat(64)) === before[0])!;
  portal.disconnect(lost);
  portal.advance(2000);
  const news = client.takeOne("relays_presence").payload;
  assertEquals(news.disconnected_ids, [before[0]]);
  const now = relayIds(news.connected);
  assertEquals([now.length, now.includes(before[1]!)], [2, true]);
});

Deno.test("who has no relays left gets what there is", () => {
  const portal = new SimulatedPortal();
  portal.join("relay");
  const { client, gateway } = portal.pair();
  portal.advance(2000);
  for (const peer of [client, gateway]) {
    peer.take();
    peer.send("no_relays", {});
    const news = peer.takeOne("relays_presence").payload;
    assertEquals(news.disconnected_ids, []);
    assertEquals(news.connected.length, 1);
  }
});

// ---------------------------------------------------------- changing policy

Deno.test("a changed file reaches everyone it concerns, and nobody else", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  portal.configure(basicConfig);
  assertEquals([...client.take(), ...gateway.take()], [], "nothing has changed");

  const [lab, ...others] = basicConfig.resources;
  const renamed = { ...basicConfig, resources: [{ ...lab, filters: ["tcp/1-9"] }, ...others] };
  portal.configure(renamed);
  assertEquals(
    client.takeOne("resource_created_or_updated").payload.filters[0].port_range_end,
    9,
  );
  assertEquals(gateway.takeOne("resource_updated").payload.id, LAB);

  const moved = { ...basicConfig, resources: [{ ...lab, address: "10.9.0.0/24" }, ...others] };
  portal.configure(moved);
  const frames = client.take();
  assertEquals(frames.map(({ event }) => event), [
    "resource_deleted",
    "resource_created_or_updated",
  ]);
  assertEquals(frames[0]!.payload, LAB, "a bare text");
  assertEquals(gateway.take(), []);

  portal.configure({ ...basicConfig, resources: others });
  assertEquals(client.takeOne("resource_deleted").payload, LAB);
  portal.configure({ ...basicConfig, resources: others, dns: {} });
  assertEquals(client.takeOne("config_changed").payload.interface.upstream_dns, []);
  assertEquals(gateway.take(), []);
});

Deno.test("access that is granted no longer is taken back at the gateway", () => {
  const [lab, ...others] = basicConfig.resources;
  const cases: Record<string, unknown> = {
    "resource removed": { ...basicConfig, resources: others },
    "policy removed": { ...basicConfig, policies: [] },
    "address changed": { ...basicConfig, resources: [{ ...lab, address: "10.1.0.0/24" }] },
    "moved to another site": {
      ...basicConfig,
      sites: [...basicConfig.sites, { name: "attic" }],
      resources: [{ ...lab, sites: ["attic"] }],
    },
    "condition added": {
      ...basicConfig,
      policies: [{ accounts: ["*"], resources: ["lab"], remote_ip: ["192.0.2.1"] }],
    },
  };
  for (const [name, config] of Object.entries(cases)) {
    const portal = new SimulatedPortal();
    const { client, gateway } = portal.pair();
    authorize(client, gateway);
    portal.configure(config);
    assertEquals(gateway.takeOne("reject_access").payload, {
      client_id: portal.state.status(portal.now).clients[0]!.id,
      resource_id: LAB,
    }, name);
    assertEquals(client.takeEvents().includes("resource_deleted"), true, name);
    assertEquals(portal.store.authorizations(), [], name);
  }
});

Deno.test("a request under way is withdrawn when the file takes its ground away", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  const { ref } = gateway.takeOne("create_authorization").payload;
  portal.configure({ ...basicConfig, policies: [] });
  assertEquals(gateway.takeEvents(), ["reject_access"]);
  client.take();
  gateway.send("authorization_created", { ref });
  assertEquals(client.take(), []);
});

Deno.test("who shows a token that is gone is signed out", () => {
  const portal = new SimulatedPortal();
  const relay = portal.join("relay");
  const { client, gateway } = portal.pair();
  relay.take();
  authorize(client, gateway);
  const accounts = [{ name: "laptop", tokens: ["another-token-0123456789"] }];
  portal.configure({ ...basicConfig, accounts });
  assertEquals(client.take().map(({ event, payload }) => [event, payload]), [
    ["disconnect", { reason: "token_expired" }],
    ["phx_close", {}],
  ]);
  assertEquals(client.closed?.code, 1000);
  assertEquals(gateway.takeEvents(), ["reject_access"], "its tunnel ends, too");
  portal.configure({ ...basicConfig, sites: [{ name: "office" }], relay_tokens: [] });
  for (const peer of [gateway, relay]) {
    assertEquals(peer.takeEvents(), ["disconnect", "phx_close"]);
    assert(peer.closed);
  }
});

Deno.test("a token that now stands for someone else only makes its bearer connect anew", () => {
  const portal = new SimulatedPortal();
  const { client } = portal.pair();
  const accounts = [{ name: "other", tokens: [TOKENS.client] }];
  portal.configure({ ...basicConfig, accounts, policies: [] });
  assertEquals([client.take(), client.closed?.code], [[], 1012]);
});

Deno.test("a hashed token does as well", async () => {
  const hash = new Uint8Array(
    await crypto.subtle.digest("SHA-256", new TextEncoder().encode(TOKENS.client)),
  ).toHex();
  const accounts = [{ name: "laptop", tokens: [`sha256:${hash}`] }];
  new SimulatedPortal({ ...basicConfig, accounts }).join("client");
});

// ------------------------------------------------------------------ expiry

const IN_ONE_HOUR = new Date((EPOCH + 3600) * 1000).toISOString();
const IN_TWO_HOURS = new Date((EPOCH + 7200) * 1000).toISOString();

Deno.test("an account's end signs its clients out and bounds what they are given", () => {
  const accounts = [{ ...basicConfig.accounts[0], expires_at: IN_ONE_HOUR }];
  const portal = new SimulatedPortal({ ...basicConfig, accounts });
  portal.join("relay");
  const gateway = portal.join("gateway");
  const client = portal.join("client");
  assertMatch(client.take()[1]!.payload.relays[0].username, new RegExp(`^${EPOCH + 3600}:`));
  gateway.take();
  portal.advance(2000);
  gateway.take();
  client.take();
  assertEquals(authorize(client, gateway).request.expires_at, EPOCH + 3600);
  portal.advance(3_590_000);
  assertEquals(client.closed, undefined);
  portal.advance(10_000);
  assertEquals(client.takeEvents(), ["disconnect", "phx_close"]);
  assertEquals(gateway.take(), [], "which knows the end itself");
  assertEquals(portal.store.authorizations(), []);
  const refusal = portal.tryConnect("client");
  assertEquals(refusal instanceof SimulatedPeer ? 0 : refusal.code, "invalid_token");
});

Deno.test("a policy's end takes the resource from clients; the longest policy counts", () => {
  const policies = [
    { accounts: ["laptop"], resources: ["lab", "wiki"], expires_at: IN_ONE_HOUR },
    { accounts: ["laptop"], resources: ["wiki"], expires_at: IN_TWO_HOURS },
  ];
  const portal = new SimulatedPortal({ ...basicConfig, policies });
  const { client, gateway } = portal.pair();
  assertEquals(authorize(client, gateway, LAB).request.expires_at, EPOCH + 3600);
  assertEquals(authorize(client, gateway, WIKI).request.expires_at, EPOCH + 7200);
  portal.advance(3_601_000);
  assertEquals(client.takeOne("resource_deleted").payload, LAB);
  assertEquals(gateway.take(), []);
  portal.advance(3_600_000);
  assertEquals(client.takeOne("resource_deleted").payload, WIKI);
});

Deno.test("an end that moves is enforced at the gateway, whichever way it moves", () => {
  const until = (expires_at: string) => ({
    ...basicConfig,
    policies: [{ accounts: ["laptop"], resources: ["lab"], expires_at }],
  });
  const portal = new SimulatedPortal(until(IN_ONE_HOUR));
  const { client, gateway } = portal.pair();
  const { request } = authorize(client, gateway);
  portal.configure(until(IN_TWO_HOURS));
  const again = gateway.takeOne("create_authorization").payload;
  assertEquals([request.expires_at, again.expires_at], [EPOCH + 3600, EPOCH + 7200]);
  assertEquals(again.client.preshared_key, request.client.preshared_key);
  gateway.send("authorization_created", { ref: again.ref });
  assertEquals(gateway.takeOne("phx_reply").payload.status, "ok");
  assertEquals(client.take(), [], "which need not know");

  portal.configure(until(IN_ONE_HOUR));
  assertEquals(gateway.take(), []);
  portal.advance(3_601_000);
  assertEquals(gateway.takeEvents(), ["reject_access"]);
});

Deno.test("authorizations survive the portal and reach the gateway with its init", () => {
  const store = new MemoryStore();
  const portal = new SimulatedPortal(basicConfig, store);
  const { client, gateway } = portal.pair();
  authorize(client, gateway, LAB);
  authorize(client, gateway, WIKI);
  const clientId = portal.state.status(portal.now).clients[0]!.id;
  const [, ...others] = basicConfig.resources;
  const later = new SimulatedPortal({ ...basicConfig, resources: others }, store, 3);
  const frames = later.join("gateway").take();
  assertEquals(frames.map(({ event }) => event), ["phx_reply", "init", "resource_updated"]);
  assertEquals(frames[1]!.payload.authorizations, [
    { client_id: clientId, resource_id: WIKI, expires_at: FAR_FUTURE },
  ]);
});

Deno.test("a client that comes from where it may not loses what it had", () => {
  const policies = [
    { accounts: ["laptop"], resources: ["lab"], remote_ip: ["198.51.100.0/24"] },
  ];
  const portal = new SimulatedPortal({ ...basicConfig, policies });
  const { client, gateway } = portal.pair();
  authorize(client, gateway);
  portal.disconnect(client);
  portal.configure({ ...basicConfig, policies, dns: {} });
  assertEquals(gateway.take(), [], "away, but not known to have moved");
  const moved = portal.join("client", { remoteIp: "203.0.113.50" });
  assertEquals(gateway.takeEvents(), ["reject_access"]);
  assertEquals(moved.take()[1]!.payload.resources, []);
});

// ------------------------------------------------------------- bad behaviour

Deno.test("connecting is refused with the right status", () => {
  const portal = new SimulatedPortal();
  const refusal = (...args: Parameters<SimulatedPortal["tryConnect"]>) => {
    const result = portal.tryConnect(...args);
    return result instanceof SimulatedPeer ? undefined : [result.status, result.code];
  };
  assertEquals(refusal("client", { token: "" }), [401, "missing_token"]);
  assertEquals(refusal("client", { token: "who knows" }), [401, "invalid_token"]);
  assertEquals(refusal("client", { token: TOKENS.gateway }), [401, "invalid_token"]);
  const invalid = [400, "invalid_connect_params"];
  assertEquals(refusal("client", { agent: "curl/8" }), invalid);
  assertEquals(refusal("gateway", { agent: "curl/8" }), undefined);
  for (const public_key of ["", "AAAA", `${testKey(1)}A`, "!".repeat(44)]) {
    assertEquals(refusal("client", { params: { public_key } }), invalid);
  }
  assertEquals(refusal("client", { params: { external_id: "" } }), invalid);
  assertEquals(refusal("relay", { params: { ipv4: "" } }), invalid);
  assertEquals(refusal("relay", { params: { ipv4: "::1" } }), invalid);
  assertEquals(refusal("relay", { params: { port: "0x10" } }), invalid);
  const many = Array.from({ length: 40 }, () => refusal("client")?.[1]);
  assertEquals(many.at(-1), "rate_limit");
});

Deno.test("frames that make no sense end the connection with a reason", () => {
  const cases: [string, number][] = [
    ["", 1002],
    ["[]", 1002],
    ["{", 1002],
    [`{"topic":"client","event":"x","payload":null}`, 1002],
    [`{"topic":1,"event":"x","payload":null,"ref":1}`, 1002],
    [
      `{"topic":"client","event":"x","payload":null,"ref":${"[".repeat(9000)}${"]".repeat(9000)}}`,
      1002,
    ],
    [" ".repeat(70_000), 1009],
  ];
  for (const [text, code] of cases) {
    const portal = new SimulatedPortal();
    const client = portal.join("client");
    portal.deliver(client, text);
    assertEquals(client.closed?.code, code, text.slice(0, 60));
  }
});

Deno.test("who sends without pause is dropped", () => {
  const portal = new SimulatedPortal();
  const client = portal.join("client");
  for (let i = 0; i < 1100 && !client.closed; i++) client.send("dance", {});
  assertEquals(client.closed?.code, 1008);
});

Deno.test("at shutdown everyone is asked to come back", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  client.send("request_authorization", { resource_id: LAB, connected_gateway_ids: [] });
  portal.state.handleShutdown(portal.now);
  portal.advance(0);
  assertEquals([client.closed?.code, gateway.closed?.code], [1012, 1012]);
  assertEquals(client.take(), []);
});

Deno.test("logs and status hold no secret", () => {
  const portal = new SimulatedPortal();
  const { client, gateway } = portal.pair();
  portal.join("relay");
  const { created } = authorize(client, gateway);
  portal.tryConnect("client", { token: "wrong-token-0123456789" });
  portal.disconnect(client);
  const told = portal.logs.join("\n") + JSON.stringify(portal.state.status(portal.now));
  const secrets = [...Object.values(TOKENS), "wrong-token", created.preshared_key, "aaaaaaaa"];
  for (const secret of secrets) assertEquals(told.includes(secret), false);
});
