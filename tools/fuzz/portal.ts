/**
 * What a portal may say: messages to clients and gateways, candidates inside them.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { parseCandidate } from "@firezone/core/ice";
import { parseClientMessage, parseGatewayMessage, parseRetryAfter } from "@firezone/core/portal";
import type { FuzzTarget } from "./target.ts";

const WORDS = [
  "init",
  "resource_created_or_updated",
  "resource_deleted",
  "flow_created",
  "flow_creation_failed",
  "config_changed",
  "relays_presence",
  "ice_candidates",
  "invalidate_ice_candidates",
  "authorize_flow",
  "reject_access",
  "expires_at",
  "interface",
  "resources",
  "relays",
  "candidates",
  "filters",
  "type",
  "address",
  "addr",
  "id",
  "ipv4",
  "ipv6",
  "username",
  "password",
  "connected",
  "disconnected_ids",
] as const;
const VALUES = [
  "dns",
  "cidr",
  "ip",
  "turn",
  "tcp",
  "udp",
  "icmp",
  "1.1.1.1:53",
  "[2001:db8::1]:3478",
  "10.0.0.0/8",
  "100.64.0.1",
  "::1",
  "candidate:1 1 udp 2130706431 192.0.2.1 50000 typ host",
  "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
  0,
  -1,
  2 ** 53,
  1e308,
  "",
] as const;

const { value } = fc.letrec((again) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.constantFrom<unknown>(...VALUES),
    fc.jsonValue({ maxDepth: 1 }),
    fc.dictionary(fc.constantFrom<string>(...WORDS), again("value"), { maxKeys: 8 }),
    fc.array(again("value"), { maxLength: 4 }),
  ),
}));
const candidate = fc.array(
  fc.oneof(
    fc.constantFrom("candidate:1", "1", "udp", "tcp", "192.0.2.1", "2001:db8::1", "65536"),
    fc.constantFrom("typ", "host", "srflx", "prflx", "relay", "raddr", "rport", "0", "ufrag"),
    fc.string({ maxLength: 6 }),
  ),
  { maxLength: 14 },
).map((words) => words.join(" "));

/** Any JSON is a message, or is said to be none; nothing throws. */
export const portalTarget: FuzzTarget = {
  name: "portal",
  description: "the parsers of the portal's messages and of candidates with any JSON",
  property: (coverage) =>
    fc.property(
      fc.oneof(fc.constantFrom<string>(...WORDS), fc.string()),
      value,
      candidate,
      (event, payload, sdp) => {
        for (const parse of [parseClientMessage, parseGatewayMessage]) {
          const message = parse(event, payload);
          assert(message !== undefined);
          coverage.hit(`${parse.name}: ${message.tag}`);
        }
        const parsed = parseCandidate(sdp);
        if (parsed !== undefined) {
          assertEquals(parseCandidate(parsed.toSdp())?.key, parsed.key);
          coverage.hit("candidate");
        }
        parseRetryAfter(sdp, 0);
      },
    ),
};
