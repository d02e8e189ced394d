/**
 * The BINDING messages that agents exchange, and who may send us some.
 *
 * Spec: RFC 8445 §7.1 to §7.3, with the short-term credentials of RFC 8489 §9.1: requests are signed
 * with the password of who receives them, and answers with the same one.
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import { METHOD, shortTermKey, type StunMessage, StunWriter } from "../stun/mod.ts";

/** User fragment and password of one end, 4 to 256 and 22 to 256 characters by RFC 8839 §5.4. */
export interface IceCredentials {
  /** User fragment. */
  readonly username: string;
  /** Password. */
  readonly password: string;
}

/** What a check says beside its credentials. */
export interface CheckFields {
  /** Whether the sender controls. */
  readonly controlling: boolean;
  /** The sender's tie-breaker. */
  readonly tieBreaker: bigint;
  /** For the candidate that the receiver may learn. */
  readonly priority: number;
  /** Whether this nominates the pair. */
  readonly useCandidate: boolean;
}

/** How a request is judged; `stranger` is one for another agent, or of another generation. */
export type Verdict = "ours" | "stranger" | "forged" | "malformed";

/** Writes and judges the messages between two ends. */
export class BindingCodec {
  readonly #outgoingUsername: string;
  readonly #incomingUsername: string;
  readonly #localKey: Uint8Array;
  readonly #remoteKey: Uint8Array;

  /** A codec for these credentials. */
  constructor(local: IceCredentials, remote: IceCredentials) {
    this.#outgoingUsername = `${remote.username}:${local.username}`;
    this.#incomingUsername = `${local.username}:${remote.username}`;
    this.#localKey = shortTermKey(local.password);
    this.#remoteKey = shortTermKey(remote.password);
  }

  /** A check. */
  writeCheck(id: string, fields: CheckFields): Uint8Array {
    const writer = new StunWriter("request", METHOD.binding, id)
      .username(this.#outgoingUsername)
      .priority(fields.priority);
    if (fields.controlling) writer.iceControlling(fields.tieBreaker);
    else writer.iceControlled(fields.tieBreaker);
    if (fields.useCandidate) writer.useCandidate();
    return writer.finish({ integrityKey: this.#remoteKey, fingerprint: true });
  }

  /** The answer to a good check. @param mapped where the check came from */
  writeSuccess(request: StunMessage, mapped: SocketAddress): Uint8Array {
    return new StunWriter("success", METHOD.binding, request.transactionId)
      .mappedAddress(mapped)
      .finish({ integrityKey: this.#localKey, fingerprint: true });
  }

  /** The answer to a check whose sender claims our role (§7.3.1.1). */
  writeRoleConflict(request: StunMessage): Uint8Array {
    return new StunWriter("error", METHOD.binding, request.transactionId)
      .errorCode(487)
      .finish({ integrityKey: this.#localKey, fingerprint: true });
  }

  /** The answer to a check that asks for what we do not know (RFC 8489 §6.3.1). */
  writeUnknownAttributes(request: StunMessage): Uint8Array {
    return new StunWriter("error", METHOD.binding, request.transactionId)
      .errorCode(420)
      .unknownAttributes(request.unknownComprehensionRequired)
      .finish({ integrityKey: this.#localKey, fingerprint: true });
  }

  /** Judges a check that came in. */
  judgeRequest(request: StunMessage): Verdict {
    if (request.username !== this.#incomingUsername) return "stranger";
    if (!request.verifyIntegrity(this.#localKey)) return "forged";
    const isWhole = request.malformedAttribute === undefined &&
      request.verifyFingerprint() !== false && request.priority !== undefined;
    return isWhole ? "ours" : "malformed";
  }

  /** Judges an answer to one of our checks. */
  judgeResponse(response: StunMessage): Verdict {
    if (!response.verifyIntegrity(this.#remoteKey)) return "forged";
    const isWhole = response.malformedAttribute === undefined &&
      response.verifyFingerprint() !== false;
    return isWhole ? "ours" : "malformed";
  }
}
