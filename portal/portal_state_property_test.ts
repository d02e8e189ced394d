/**
 * Whatever peers send, the portal neither throws nor stalls nor tells one peer's secrets to another.
 */
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { basicConfig, configOf, SimulatedPeer, SimulatedPortal } from "./testing/peers.ts";

const RESOURCE_IDS = configOf(basicConfig).resources.map(({ id }) => id);

const topic = fc.constantFrom("client", "gateway", "relay", "phoenix", "", "__proto__");
const event = fc.oneof(
  fc.constantFrom(
    "phx_join",
    "phx_leave",
    "heartbeat",
    "create_flow",
    "request_authorization",
    "flow_authorized",
    "authorization_created",
    "broadcast_ice_candidates",
    "broadcast_invalidated_ice_candidates",
    "new_gateway_ice_candidates",
    "invalidate_gateway_ice_candidates",
    "new_client_ice_candidates",
    "no_relays",
    "set_snownet_capabilities",
    "resolve_device_pool_domain",
    "create_log_sink",
    "metrics",
    "constructor",
  ),
  fc.string(),
);
const value = fc.oneof(
  fc.constantFrom(...RESOURCE_IDS),
  fc.array(fc.constantFrom(...RESOURCE_IDS)),
  fc.jsonValue(),
);
const payload = fc.oneof(
  fc.jsonValue(),
  fc.dictionary(
    fc.constantFrom(
      "resource_id",
      "connected_gateway_ids",
      "ref",
      "gateway_ids",
      "gateway_id",
      "client_ids",
      "client_id",
      "candidates",
      "stamp_secret",
      "domain",
      "ipv4",
      "__proto__",
    ),
    value,
  ),
);
const frame = fc.oneof(
  { weight: 6, arbitrary: fc.record({ topic, event, payload, ref: fc.nat() }).map(toJson) },
  { weight: 1, arbitrary: fc.json() },
  { weight: 1, arbitrary: fc.string({ unit: "binary" }) },
);

Deno.test("no frame from anyone makes the portal throw or stall", () => {
  const step = fc.record({ who: fc.nat(5), frame, waitMs: fc.constantFrom(0, 0, 0, 1500, 16_000) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const portal = new SimulatedPortal();
      const peers: SimulatedPeer[] = [];
      const revive = (i: number): SimulatedPeer => {
        const role = (["client", "gateway", "relay"] as const)[i % 3]!;
        const peer = portal.tryConnect(role, { era: i < 3 ? "v1" : "v2" });
        if (peer instanceof SimulatedPeer) peer.join();
        return peer instanceof SimulatedPeer ? peer : peers[i]!;
      };
      for (let i = 0; i < 6; i++) peers.push(revive(i));
      for (const { who, frame, waitMs } of steps) {
        if (peers[who]!.closed) peers[who] = revive(who);
        if (!peers[who]!.closed) portal.deliver(peers[who]!, frame);
        if (waitMs > 0) portal.advance(waitMs);
        assert(portal.state.pollTimeout() > portal.now, "nothing is left undone");
      }
      // Without heartbeats everyone is dropped in the end, and nothing remains to be done.
      portal.advance(400_000, false);
      assertEquals(portal.state.pollTimeout(), Infinity);
    }),
    { numRuns: 150 },
  );
});

Deno.test("handling a timeout early or twice does nothing", () => {
  const portal = new SimulatedPortal();
  portal.pair();
  for (let i = 0; i < 3; i++) {
    const due = portal.state.pollTimeout();
    portal.state.handleTimeout(portal.now);
    assertEquals(portal.state.pollTimeout(), due);
    assertEquals(portal.state.pollEvent(), undefined);
  }
});

function toJson(value: unknown): string {
  return JSON.stringify(value);
}
