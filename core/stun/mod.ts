/**
 * STUN messages (RFC 8489) with the attributes of TURN (RFC 8656) and ICE (RFC 8445): parsing,
 * writing, integrity, fingerprint.
 * @module
 */
export { ATTRIBUTE, findAttribute } from "./attributes.ts";
export { longTermKey, shortTermKey } from "./credentials.ts";
export { errorReason, type StunError } from "./error_code.ts";
export {
  classOf,
  HEADER_LENGTH,
  looksLikeStun,
  MAGIC_COOKIE,
  messageType,
  METHOD,
  type StunClass,
} from "./header.ts";
export { parseStunMessage, StunMessage } from "./message.ts";
export { newTransactionId } from "./transaction_id.ts";
export { type StunFinish, StunWriter } from "./writer.ts";

// What the signatures above speak of.
export type { Family, IpAddress, SocketAddress } from "../ip/address.ts";
export type { RandomBytes } from "../random.ts";
