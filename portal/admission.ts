/**
 * Lets peers in: token, rate, what they say about themselves, and that nobody is there twice.
 *
 * Spec: portal-protocol §1.8, §5.2, §5.3.
 * @module
 */

import { RateLimit } from "@firezone/core/rate_limit";
import type { Millis } from "@firezone/core/units";
import {
  authenticate,
  bearerOwnerId,
  type ConnectRequest,
  deviceParams,
  isRefusal,
  type Refusal,
  relayParams,
} from "./connect_request.ts";
import type { Connection } from "./connection.ts";
import type { PortalContext } from "./context.ts";
import { RateLimits } from "./rate_limit.ts";
import { parseUserAgent } from "./user_agent.ts";

/** Another gateway with the same id is refused while this one was heard within so many ms. */
const RIVAL_ALIVE_MS = 12_000;

/** Turns requests into connections. */
export class Admission {
  readonly #context: PortalContext;
  /** Connects, by address and token. */
  readonly #connects = new RateLimits(20, 2);

  /** Has seen nobody yet. */
  constructor(context: PortalContext) {
    this.#context = context;
  }

  /** Makes a connection of a request, or says why not. */
  admit(now: Millis, request: ConnectRequest): Connection | Refusal {
    const at = this.#context.unixTime(now);
    const authenticated = authenticate(at, this.#context.directory(), request.role, request.token);
    if (isRefusal(authenticated)) return authenticated;
    const { bearer, tokenHash } = authenticated;
    if (!this.#connects.take(now, `${request.remoteIp} ${tokenHash.slice(0, 16)}`)) {
      const detail = "Too many connections with this token in a short time.";
      return { status: 503, code: "rate_limit", detail, retryAfterSeconds: 1 };
    }
    const agent = parseUserAgent(request.userAgent);
    const base = {
      id: this.#context.registry.newId(),
      era: request.era,
      agent,
      remoteIp: request.remoteIp,
      tokenHash,
      ownerId: bearerOwnerId(bearer),
      connectedAt: at,
      rateLimit: new RateLimit(1000, 100),
      lastHeardAt: now,
      isJoined: false,
    };
    if (request.role === "relay") {
      const params = relayParams(request.params);
      return isRefusal(params) ? params : { ...base, role: "relay", params, relay: undefined };
    }
    const params = deviceParams(request.role, request.params, agent);
    if (isRefusal(params)) return params;
    const { externalId, name, publicKey } = params;
    const introduction = { kind: request.role, ownerId: base.ownerId, externalId, name, publicKey };
    if (request.role === "gateway" && request.era === "v2") {
      const rival = this.#context.registry.gateways.find((g) =>
        g.ownerId === base.ownerId && g.device.externalId === externalId
      );
      // The same key means the same process, whose former connection was lost.
      if (
        rival && rival.device.publicKey !== publicKey && now - rival.lastHeardAt < RIVAL_ALIVE_MS
      ) {
        const detail = `A gateway with the id ${externalId} is connected already.`;
        return { status: 409, code: "gateway_already_connected", detail };
      }
    }
    const device = this.#context.devices.introduce(at, introduction);
    if (!device) {
      const detail = "All tunnel addresses are taken.";
      return { status: 500, code: "unhandled_connect_error", detail };
    }
    const withDevice = { ...base, device, params, toldRelays: new Map() };
    return request.role === "gateway" ? { ...withDevice, role: "gateway", avoidUntil: now } : {
      ...withDevice,
      role: "client",
      toldResources: new Map(),
      givenGateways: new Map(),
      toldInterface: "",
    };
  }
}
