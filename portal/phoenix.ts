/**
 * Phoenix's first serialization (V1): one JSON object per text frame.
 *
 *     {"topic": string, "event": string, "payload": any, "ref": any}
 *
 * Spec: portal-protocol §1.4. A frame that lacks a key is no message; keys beyond these are
 * ignored. What the server sends holds exactly these four. We take only texts, numbers and null for
 * a ref, which is more than any peer uses.
 * @module
 */

/** A message from a peer. */
export interface PhoenixMessage {
  /** The channel, such as `client` or `phoenix`. */
  readonly topic: string;
  /** What it wants. */
  readonly event: string;
  /** Anything; nothing about it is known yet. */
  readonly payload: unknown;
  /** Goes back with the reply as it is. */
  readonly ref: string | number | null;
}

/** A status and what goes with it. */
export type Reply =
  | { readonly status: "ok"; readonly response: Readonly<Record<string, unknown>> }
  | { readonly status: "error"; readonly response: { readonly reason: string } };

/** The reply that every acknowledged message gets: peers accept nothing else in it. */
export const OK: Reply = { status: "ok", response: {} };

/** A reply that refuses. */
export function refusal(reason: string): Reply {
  return { status: "error", response: { reason } };
}

/** Parses a frame, whatever its text; never throws. */
export function parseMessage(text: string): PhoenixMessage | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const message = asRecord(value);
  if (!message) return undefined;
  const { topic, event } = message;
  if (typeof topic !== "string" || typeof event !== "string") return undefined;
  if (!Object.hasOwn(message, "payload") || !Object.hasOwn(message, "ref")) return undefined;
  const { payload, ref } = message;
  // A list or an object could be nested too deeply to be written back.
  if (ref !== null && typeof ref !== "string" && typeof ref !== "number") return undefined;
  return { topic, event, payload, ref };
}

/** A message of the server's own accord. */
export function pushFrame(topic: string, event: string, payload: unknown): string {
  return JSON.stringify({ topic, event, payload, ref: null });
}

/** The answer to the message that carried `ref`. */
export function replyFrame(topic: string, ref: PhoenixMessage["ref"], reply: Reply): string {
  return JSON.stringify({ topic, event: "phx_reply", payload: reply, ref });
}

/** The value as an object with keys, if it is one. */
export function asRecord(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Readonly<Record<string, unknown>>
    : undefined;
}

/** The value as a list of texts, if it is one. */
export function asTexts(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string")
    ? value
    : undefined;
}
