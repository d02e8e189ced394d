/**
 * What an allocation asks of its relay, as STUN messages (RFC 8656 §7 to §9, §12).
 * @module
 */

import type { SocketAddress } from "../ip/address.ts";
import { METHOD, StunWriter } from "../stun/mod.ts";
import type { ChannelNumber } from "./channel_data.ts";
import type { TurnCredentials } from "./credentials.ts";

/** A request of a kind that relays answer to whom they know. */
export type Question =
  | { readonly tag: "allocate" | "delete" }
  | {
    readonly tag: "refresh";
    /** How long the relay has to answer. */
    readonly budgetMs: number;
  }
  | {
    readonly tag: "channel-bind";
    /** Whom the channel leads to. */
    readonly peer: SocketAddress;
    /** The channel. */
    readonly number: ChannelNumber;
  };

/** By what a relay knows us (RFC 8489 §9.2). */
export interface Identity {
  /** User name, realm and password. */
  readonly credentials: TurnCredentials;
  /** The long-term key that follows from them. */
  readonly key: Uint8Array;
  /** The relay's latest, if it gave one. */
  readonly nonce: string | undefined;
}

/** REQUESTED-TRANSPORT: UDP (RFC 8656 §18.7). */
const PROTOCOL_UDP = 17;

/** The STUN method of a request; an allocation is deleted by a refresh with lifetime zero. */
export function methodOf(tag: Question["tag"] | "binding"): number {
  switch (tag) {
    case "binding":
      return METHOD.binding;
    case "allocate":
      return METHOD.allocate;
    case "refresh":
    case "delete":
      return METHOD.refresh;
    case "channel-bind":
      return METHOD.channelBind;
  }
}

/** Writes a request. @param identity undefined: without credentials and unsigned */
export function writeRequest(
  question: Question,
  transactionId: string,
  software: string,
  identity: Identity | undefined,
): Uint8Array {
  const writer = new StunWriter("request", methodOf(question.tag), transactionId);
  switch (question.tag) {
    case "allocate":
      writer.requestedTransport(PROTOCOL_UDP).additionalAddressFamily(6).software(software);
      break;
    case "delete":
      writer.lifetime(0);
      break;
    case "channel-bind":
      writer.channelNumber(question.number).peerAddress(question.peer);
  }
  if (identity === undefined) return writer.finish();
  const { credentials, key, nonce } = identity;
  writer.username(credentials.username).realm(credentials.realm);
  if (nonce !== undefined) writer.nonce(nonce);
  return writer.finish({ integrityKey: key });
}
