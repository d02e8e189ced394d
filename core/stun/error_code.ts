/**
 * Error codes with their recommended texts, and the value of ERROR-CODE.
 *
 *     0      2       3        4
 *     | zero | class | number | reason in UTF-8 |   code = class * 100 + number
 *
 * Spec: RFC 8489 §14.8, RFC 8656 §19, RFC 8445 §16.2.
 * @module
 */

/** The code and text of an ERROR-CODE attribute. */
export interface StunError {
  /** 300 to 699. */
  readonly code: number;
  /** For people; nothing may depend on it. */
  readonly reason: string;
}

const REASONS: Readonly<Record<number, string>> = {
  300: "Try Alternate",
  400: "Bad Request",
  401: "Unauthenticated",
  403: "Forbidden",
  420: "Unknown Attribute",
  437: "Allocation Mismatch",
  438: "Stale Nonce",
  440: "Address Family not Supported",
  441: "Wrong Credentials",
  442: "Unsupported Transport Protocol",
  443: "Peer Address Family Mismatch",
  486: "Allocation Quota Reached",
  487: "Role Conflict",
  500: "Server Error",
  508: "Insufficient Capacity",
};

/** The text that the RFCs recommend for a code; empty for codes they do not define. */
export function errorReason(code: number): string {
  return REASONS[code] ?? "";
}
