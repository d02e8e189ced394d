/**
 * The token that newer clients and gateways demand with every authorization (portal-protocol §2.5).
 *
 * It would entitle them to upload flow logs. This portal takes none (`uploads_enabled` is false and
 * the upload interval 0), but a peer refuses an authorization whose token it cannot parse.
 * @module
 */

import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { base64, utf8 } from "@firezone/core/bytes";
import type { UnixSeconds } from "@firezone/core/units";

/** Past the authorization's end, logs of it could still be uploaded for so long. */
const GRACE_SECONDS = 30 * 86_400;

/** What a token says. */
export interface FlowLogClaims {
  /** Of the installation. */
  readonly accountId: string;
  /** The client's side or the gateway's. */
  readonly role: "initiator" | "responder";
  /** The client's device. */
  readonly initiatorId: string;
  /** The gateway's device. */
  readonly responderId: string;
  /** This authorization. */
  readonly authorizationId: string;
  /** What allowed it. */
  readonly policyId: string;
  /** Resource. */
  readonly resource: { readonly id: string; readonly name: string };
  /** Whose client it is. */
  readonly actor: { readonly id: string; readonly name: string };
  /** Begin. */
  readonly authorizedAt: UnixSeconds;
  /** End. */
  readonly expiresAt: UnixSeconds;
}

/** A JWT (RFC 7519) signed with HS256. */
export function flowLogToken(claims: FlowLogClaims, key: Uint8Array): string {
  const payload = {
    account_id: claims.accountId,
    iat: claims.authorizedAt,
    exp: claims.expiresAt + GRACE_SECONDS,
    uploads_enabled: false,
    role: claims.role,
    initiator_device_id: claims.initiatorId,
    responder_device_id: claims.responderId,
    policy_authorization_id: claims.authorizationId,
    policy_id: claims.policyId,
    resource_id: claims.resource.id,
    resource_name: claims.resource.name,
    initiator_actor_id: claims.actor.id,
    initiator_actor_name: claims.actor.name,
    authorized_at: claims.authorizedAt,
    authorization_expires_at: claims.expiresAt,
  };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(payload)}`;
  return `${text}.${base64Url(hmac(sha256, key, utf8(text)))}`;
}

function part(value: unknown): string {
  return base64Url(utf8(JSON.stringify(value)));
}

/** base64url without padding (RFC 4648 §5). */
export function base64Url(bytes: Uint8Array): string {
  return base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
