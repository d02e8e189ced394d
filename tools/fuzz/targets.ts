/**
 * All that can be fuzzed.
 * @module
 */

import { dnsTarget } from "./dns.ts";
import { http2Target } from "./http2.ts";
import { iceTarget } from "./ice.ts";
import { portalTarget } from "./portal.ts";
import { relayTarget } from "./relay.ts";
import { stunTarget } from "./stun.ts";
import type { FuzzTarget } from "./target.ts";
import { wireguardTarget } from "./wireguard.ts";

/** By name. */
export const FUZZ_TARGETS: ReadonlyMap<string, FuzzTarget> = new Map(
  [relayTarget, stunTarget, iceTarget, wireguardTarget, portalTarget, http2Target, dnsTarget].map((
    t,
  ) => [t.name, t]),
);
