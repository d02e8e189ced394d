import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { base64 } from "../bytes/text.ts";
import { type ClientMessage, parseClientMessage } from "./client_messages.ts";
import { type GatewayMessage, parseGatewayMessage } from "./gateway_messages.ts";
import * as outgoing from "./outgoing.ts";

const KEY_BYTES = Uint8Array.from({ length: 32 }, (_, i) => i);
const KEY = base64(KEY_BYTES);
const INTERFACE = { ipv4: "100.64.0.5", ipv6: "fd00:2021:1111::5" };
const CANDIDATE = "candidate:1 1 udp 2130706431 192.0.2.1 52625 typ host";

Deno.test("init of a 2024 portal: gateway_groups, DNS servers with ports, two entries per relay", () => {
  const message = client("init", {
    interface: {
      ...INTERFACE,
      upstream_dns: [{ protocol: "ip_port", address: "1.1.1.1:5353" }, {
        protocol: "ip_port",
        address: "[2606:4700::1111]:53",
      }],
    },
    resources: [{
      type: "cidr",
      id: "r1",
      address: "10.1.2.3/8",
      address_description: null,
      name: "Ten",
      gateway_groups: [{ id: "s1", name: "Site" }],
      filters: [{ protocol: "icmp" }, {
        protocol: "tcp",
        port_range_start: 80,
        port_range_end: 90,
      }],
    }],
    relays: [
      turn("a", "203.0.113.1:3478", "u1"),
      turn("a", "[2001:db8::1]:3478", "u2"),
      turn("b", "203.0.113.2:3478", "u3"),
    ],
  }, "init");
  assertEquals(message.interface.upstreamDns.map(String), ["1.1.1.1:5353", "[2606:4700::1111]:53"]);
  assertEquals(message.interface.searchDomain, undefined);
  const [resource] = message.resources;
  assert(resource?.type === "cidr");
  assertEquals(resource.prefix.text, "10.0.0.0/8");
  assertEquals(resource.sites, [{ id: "s1", name: "Site" }]);
  assertEquals(resource.addressDescription, undefined);
  assertEquals(resource.filters, [
    { protocol: "icmp" },
    { protocol: "tcp", portStart: 80, portEnd: 90 },
  ]);
  assertEquals(
    message.relays.map((r) => [r.id, r.servers.v4?.key, r.servers.v6?.key, r.username]),
    [
      ["a", "203.0.113.1:3478", "[2001:db8::1]:3478", "u2"],
      ["b", "203.0.113.2:3478", undefined, "u3"],
    ],
  );
});

Deno.test("init of a 2026 portal: sites, DNS servers by address, DoH, keys we do not know", () => {
  const message = client("init", {
    interface: {
      ...INTERFACE,
      upstream_dns: [{ protocol: "ip_port", address: "9.9.9.9:53" }],
      upstream_do53: [{ ip: "1.1.1.1" }, { ip: "bogus" }],
      upstream_doh: [{ url: "https://dns.google/dns-query" }, { url: 7 }],
      search_domain: "corp.test",
    },
    resources: [
      {
        type: "dns",
        id: "r1",
        address: "*.example.com",
        address_description: "docs",
        name: "Web",
        sites: [{ id: "s1", name: "Site" }],
        filters: [],
        ip_stack: "ipv4_only",
        novelty: true,
      },
      { type: "internet", id: "r2", sites: [{ id: "s1", name: "Site" }], can_be_disabled: true },
      { type: "static_device_pool", id: "r3", name: "Pool", devices: [], filters: [] },
    ],
    relays: [],
    authorizations: [],
    flow_logs: { api_url: "http://localhost", upload_interval_secs: 0, upload_batch_size: 0 },
  }, "init");
  assertEquals(message.interface.upstreamDns.map(String), ["1.1.1.1:53"]);
  assertEquals(message.interface.upstreamDoh, ["https://dns.google/dns-query"]);
  assertEquals(message.interface.searchDomain, "corp.test");
  const [web, internet] = message.resources;
  assert(web?.type === "dns" && internet?.type === "internet");
  assertEquals([web.pattern, web.ipStack, web.addressDescription], [
    "*.example.com",
    "ipv4_only",
    "docs",
  ]);
  assertEquals(internet.name, "Internet Resource");
  assertEquals(message.skippedResources, 1);
});

Deno.test("what makes no sense in a list is left out, the rest stands", () => {
  const message = client("init", {
    interface: INTERFACE,
    resources: [
      null,
      7,
      { type: "cidr", id: "r1", name: "x", address: "10.0.0.0/99", gateway_groups: [] },
      { type: "cidr", id: "r2", name: "x", address: "10.0.0.1" },
      { type: "dns", id: "r3", name: "x", address: "a.test", filters: [{ protocol: "sctp" }] },
    ],
    relays: [
      { type: "stun", id: "a", addr: "203.0.113.1:3478" },
      turn("a", "203.0.113.1", "u"),
      turn("b", "203.0.113.2:3478", "u"),
      "relay",
    ],
  }, "init");
  assertEquals(message.resources.map((r) => r.id), ["r2"]);
  assertEquals(message.skippedResources, 4);
  assertEquals(message.relays.map((r) => r.id), ["b"]);
  assertEquals(client("init", { interface: INTERFACE }, "init").resources, []);
});

Deno.test("a filter that makes no sense spoils its resource: leaving it out could permit all", () => {
  for (
    const filters of [[{ protocol: "sctp" }], [{}], [{ protocol: "tcp", port_range_start: -1 }]]
  ) {
    const resource = { type: "cidr", id: "r", name: "x", address: "10.0.0.0/8", filters };
    assertEquals(parseGatewayMessage("resource_updated", resource).tag, "malformed");
    assertEquals(parseClientMessage("resource_created_or_updated", resource).tag, "malformed");
  }
  const open = { protocol: "udp", port_range_start: null };
  const { resource } = gateway("resource_updated", {
    type: "cidr",
    id: "r",
    address: "10.0.0.0/8",
    filters: [open],
  }, "resource-updated");
  assertEquals(resource.filters, [{ protocol: "udp", portStart: 0, portEnd: 65535 }]);
});

Deno.test("both names of a created flow read alike", () => {
  const shared = {
    resource_id: "r",
    gateway_id: "g",
    gateway_public_key: KEY,
    preshared_key: KEY,
    client_ice_credentials: { username: "mhk3", password: "xeez6p6qyqmqw43xdyu2q7" },
    gateway_ice_credentials: { username: "wjgw", password: "kwomcb6zu3gppp5absmcva" },
  };
  const older = client("flow_created", { ...shared, gateway_group_id: "s" }, "flow-created");
  const newer = client("authorization_created", {
    ...shared,
    site_id: "s",
    gateway_ipv4: "100.64.0.9",
    gateway_ipv6: "fd00:2021:1111::9",
    use_iceless: false,
    flow_logs_ingest_token: "x.y.z",
  }, "flow-created");
  assertEquals(older.gatewayPublicKey, KEY_BYTES);
  assertEquals(older.gatewayIps, undefined);
  assertEquals(newer.gatewayIps?.ipv4.text, "100.64.0.9");
  assertEquals({ ...newer, gatewayIps: undefined }, older);
  assertEquals(parseClientMessage("flow_created", shared), {
    tag: "malformed",
    reason: "payload: expected a site_id",
  });
});

Deno.test("a malformed key is named but not shown", () => {
  const message = parseClientMessage("flow_created", {
    resource_id: "r",
    gateway_id: "g",
    gateway_public_key: KEY,
    gateway_group_id: "s",
    preshared_key: "hunter2",
  });
  assertEquals(message, {
    tag: "malformed",
    reason: "preshared_key: expected 32 bytes in base64",
  });
});

Deno.test("a failed flow says why, and reasons of the future are unknown", () => {
  const older = client("flow_creation_failed", { resource_id: "r", reason: "offline" }, FAILED);
  assertEquals(older, {
    tag: FAILED,
    resourceId: "r",
    reason: "offline",
    violatedProperties: [],
  });
  const newer = client("authorization_creation_failed", {
    resource_id: "r",
    reason: "ambiguous_address",
    violated_properties: ["remote_ip", 5],
  }, FAILED);
  assertEquals([newer.reason, newer.violatedProperties], ["unknown", ["remote_ip"]]);
});

Deno.test("the small messages to a client", () => {
  assertEquals(client("resource_deleted", "r", "resource-deleted").resourceId, "r");
  assertEquals(
    client("ice_candidates", { gateway_id: "g", candidates: [CANDIDATE, 3, "x", ""] }, ICE),
    { tag: ICE, peerId: "g", candidates: [CANDIDATE] },
  );
  const gone = parseClientMessage("invalidate_gateway_ice_candidates", {
    gateway_id: "g",
    candidates: [],
  });
  assertEquals(gone, { tag: "invalidate-ice-candidates", peerId: "g", candidates: [] });
  const presence = client("relays_presence", {
    disconnected_ids: ["a", null],
    connected: [turn("b", "203.0.113.2:3478", "u")],
  }, "relays-presence");
  assertEquals([presence.disconnectedIds, presence.connected.length], [["a"], 1]);
  const changed = client("config_changed", { interface: INTERFACE }, "config-changed");
  assertEquals(changed.interface.ipv4.text, "100.64.0.5");
  const filters = client("resource_filters_updated", { id: "r", filters: [] }, FILTERS);
  assertEquals(filters, { tag: FILTERS, resourceId: "r", filters: [] });
});

Deno.test("events and kinds of resources from the future are unknown, not malformed", () => {
  assertEquals(parseClientMessage("brand_new", {}), { tag: "unknown" });
  assertEquals(parseClientMessage("constructor", {}), { tag: "unknown" });
  assertEquals(parseClientMessage("resource_created_or_updated", { type: "hologram" }), {
    tag: "unknown",
  });
  assertEquals(parseClientMessage("resource_created_or_updated", {}).tag, "malformed");
  assertEquals(parseGatewayMessage("request_connection", {}), { tag: "unknown" });
});

Deno.test("both names of a flow to authorise read alike", () => {
  const payload = {
    ref: "opaque=",
    resource: { type: "dns", id: "r", address: "**.x.test", name: "X", filters: [] },
    client: { id: "c", public_key: KEY, preshared_key: KEY, ...INTERFACE, version: "1.5.0" },
    client_ice_credentials: { username: "a", password: "b" },
    gateway_ice_credentials: { username: "c", password: "d" },
    expires_at: 1_800_000_000,
  };
  const older = gateway("authorize_flow", { ...payload, flow_id: "f", actor: { id: "x" } }, FLOW);
  assertEquals(gateway("create_authorization", { ...payload, use_iceless: true }, FLOW), older);
  assertEquals(older.ref, "opaque=");
  assertEquals(older.client.publicKey, KEY_BYTES);
  assertEquals(older.client.ipv6.text, "fd00:2021:1111::5");
  assertEquals(older.expiresAt as number | undefined, 1_800_000_000);
  assertEquals(
    gateway("authorize_flow", { ...payload, expires_at: null }, FLOW).expiresAt,
    undefined,
  );
});

Deno.test("a gateway's init lists authorisations only if the portal does", () => {
  const base = { interface: INTERFACE, relays: [], config: { ipv4_masquerade_enabled: true } };
  assertEquals(gateway("init", base, "init").authorizations, undefined);
  const authorizations = [{ client_id: "c", resource_id: "r", expires_at: 5.9 }, {}];
  const [only, ...none] = gateway("init", { ...base, authorizations }, "init").authorizations!;
  assertEquals([only?.clientId, only?.resourceId, Number(only?.expiresAt)], ["c", "r", 5]);
  assertEquals(none, []);
});

Deno.test("the small messages to a gateway", () => {
  const pair = { client_id: "c", resource_id: "r" };
  assertEquals(gateway("reject_access", { ...pair, flow_id: "f" }, "reject-access"), {
    tag: "reject-access",
    clientId: "c",
    resourceId: "r",
  });
  const expiry = { ...pair, expires_at: 7 };
  const updated = gateway("access_authorization_expiry_updated", expiry, "expiry-updated");
  assertEquals(Number(updated.expiresAt), 7);
  const candidates = { client_id: "c", candidates: [`${CANDIDATE} ufrag abcd`] };
  assertEquals(gateway("ice_candidates", candidates, ICE).peerId, "c");
  const internet = gateway("resource_updated", { type: "internet", id: "r" }, "resource-updated");
  assertEquals(internet.resource, { type: "internet", id: "r", name: "", filters: [] });
});

Deno.test("outgoing messages have the words of each generation", () => {
  assertEquals(outgoing.candidatesToGateway("g", ["x"]), {
    v1: { event: "broadcast_ice_candidates", payload: { gateway_ids: ["g"], candidates: ["x"] } },
    v2: { event: "new_gateway_ice_candidates", payload: { gateway_id: "g", candidates: ["x"] } },
  });
  assertEquals(outgoing.invalidatedCandidatesToGateway("g", []).v2?.event, INVALIDATE);
  assertEquals(outgoing.candidatesToClient("c", ["x"]).v2, {
    event: "broadcast_ice_candidates",
    payload: { client_ids: ["c"], candidates: ["x"] },
  });
  assertEquals(outgoing.invalidatedCandidatesToClient("c", []).v1?.event, BROADCAST_INVALIDATED);
  assertEquals(outgoing.flowAuthorized("ref"), {
    v1: { event: "flow_authorized", payload: { ref: "ref" } },
    v2: { event: "authorization_created", payload: { ref: "ref" } },
  });
  assertEquals(outgoing.noRelays(), { v2: { event: "no_relays", payload: {} } });
});

Deno.test("no JSON makes a parser throw, whatever the event", () => {
  const events = [
    ...["init", "config_changed", "resource_created_or_updated", "resource_deleted"],
    ...["resource_filters_updated", "relays_presence", "ice_candidates", "flow_created"],
    ...["authorization_creation_failed", "authorize_flow", "reject_access", "resource_updated"],
    ...["access_authorization_expiry_updated", "__proto__"],
  ];
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom("dns", "cidr", "turn", "tcp", KEY, "1.1.1.1:53", "::1", CANDIDATE),
  );
  const keys = [
    ...["interface", "resources", "relays", "id", "type", "address", "filters", "protocol"],
    ...["addr", "client", "resource", "candidates", "gateway_id", "client_id", "ipv4", "ipv6"],
  ];
  const { payload } = fc.letrec((again) => ({
    payload: fc.oneof(
      { maxDepth: 4 },
      value,
      fc.dictionary(fc.constantFrom(...keys), again("payload")),
      fc.array(again("payload"), { maxLength: 4 }),
    ),
  }));
  fc.assert(
    fc.property(fc.constantFrom(...events), fc.oneof(payload, fc.anything()), (event, payload) => {
      parseClientMessage(event, payload);
      parseGatewayMessage(event, payload);
    }),
    { numRuns: 1000 },
  );
});

const FAILED = "flow-creation-failed";
const FILTERS = "resource-filters-updated";
const FLOW = "authorize-flow";
const ICE = "ice-candidates";
const INVALIDATE = "invalidate_gateway_ice_candidates";
const BROADCAST_INVALIDATED = "broadcast_invalidated_ice_candidates";

/** Those of the messages that may have a tag. */
type Tagged<M extends { tag: string }, Tag> = M extends unknown ? Tag extends M["tag"] ? M : never
  : never;

function client<Tag extends ClientMessage["tag"]>(
  event: string,
  payload: unknown,
  tag: Tag,
): Tagged<ClientMessage, Tag> {
  const message = parseClientMessage(event, JSON.parse(JSON.stringify(payload)));
  assertEquals(message.tag as string, tag, JSON.stringify(message));
  return message as Tagged<ClientMessage, Tag>;
}

function gateway<Tag extends GatewayMessage["tag"]>(
  event: string,
  payload: unknown,
  tag: Tag,
): Tagged<GatewayMessage, Tag> {
  const message = parseGatewayMessage(event, JSON.parse(JSON.stringify(payload)));
  assertEquals(message.tag as string, tag, JSON.stringify(message));
  return message as Tagged<GatewayMessage, Tag>;
}

function turn(id: string, addr: string, username: string) {
  return { type: "turn", id, addr, username, password: "p", expires_at: 2145916800 };
}
