/**
 * What clients and gateways tell the portal.
 *
 * Every message is made in the words of both generations; which of them is sent is decided at the
 * moment of sending, when it is certain which the portal speaks.
 * @module
 */

/**
 * Generation of the protocol: `v2` has its own socket paths and event names, `v1` is what every
 * portal with flows understands.
 */
export type Era = "v1" | "v2";

/** An event with its payload. */
export interface WireMessage {
  /** Event name. */
  readonly event: string;
  /** Any JSON. */
  readonly payload: unknown;
}

/** A message in the words of each generation; without words for a generation it is not sent. */
export interface OutgoingMessage {
  /** For a v1 socket. */
  readonly v1?: WireMessage;
  /** For a v2 socket. */
  readonly v2?: WireMessage;
}

/** A message that has the same words in both generations. */
export function sameInBothEras(event: string, payload: unknown): OutgoingMessage {
  return { v1: { event, payload }, v2: { event, payload } };
}

/**
 * Client: asks for a gateway for a resource.
 *
 * @param connectedGatewayIds gateways that we are connected to, which the portal then prefers
 */
export function createFlow(
  resourceId: string,
  connectedGatewayIds: readonly string[],
): OutgoingMessage {
  const payload = { resource_id: resourceId, connected_gateway_ids: connectedGatewayIds };
  return {
    v1: { event: "create_flow", payload },
    v2: { event: "request_authorization", payload },
  };
}

/** Client: candidates of ours, for a gateway. */
export function candidatesToGateway(
  gatewayId: string,
  candidates: readonly string[],
): OutgoingMessage {
  return {
    v1: { event: "broadcast_ice_candidates", payload: { gateway_ids: [gatewayId], candidates } },
    v2: { event: "new_gateway_ice_candidates", payload: { gateway_id: gatewayId, candidates } },
  };
}

/** Client: candidates of ours that are no more, for a gateway. */
export function invalidatedCandidatesToGateway(
  gatewayId: string,
  candidates: readonly string[],
): OutgoingMessage {
  return {
    v1: {
      event: "broadcast_invalidated_ice_candidates",
      payload: { gateway_ids: [gatewayId], candidates },
    },
    v2: {
      event: "invalidate_gateway_ice_candidates",
      payload: { gateway_id: gatewayId, candidates },
    },
  };
}

/** Gateway: the client of `authorize-flow` may come. */
export function flowAuthorized(ref: string): OutgoingMessage {
  return {
    v1: { event: "flow_authorized", payload: { ref } },
    v2: { event: "authorization_created", payload: { ref } },
  };
}

/** Gateway: candidates of ours, for a client. */
export function candidatesToClient(
  clientId: string,
  candidates: readonly string[],
): OutgoingMessage {
  return sameInBothEras("broadcast_ice_candidates", { client_ids: [clientId], candidates });
}

/** Gateway: candidates of ours that are no more, for a client. */
export function invalidatedCandidatesToClient(
  clientId: string,
  candidates: readonly string[],
): OutgoingMessage {
  return sameInBothEras("broadcast_invalidated_ice_candidates", {
    client_ids: [clientId],
    candidates,
  });
}

/** Client and gateway: we have no relay left. A v1 portal has no word for it, see `requestRelays`. */
export function noRelays(): OutgoingMessage {
  return { v2: { event: "no_relays", payload: {} } };
}
