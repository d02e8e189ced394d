/**
 * Our side of a Phoenix channel, over connections that come and go.
 *
 *     {"topic": "client", "event": "phx_join", "payload": null, "ref": 0}      →
 *     ←  {"topic": "client", "event": "phx_reply", "ref": 0, "payload": {"status": "ok", …}}
 *     ←  {"topic": "client", "event": "init", "ref": null, "payload": {…}}
 *     {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": 1}      →
 *
 * One topic is joined per connection; until the portal has answered, nothing but joins and
 * heartbeats is sent, and what is to be sent waits. All that belongs to a connection (references,
 * heartbeats, joins) ends with it.
 *
 * A refused token (401), a refused join and `token_expired` are for the operator to mend and end
 * the channel. All else is retried for ever, or until the portal has been away for too long.
 *
 * Which generation of the protocol a portal speaks is found by asking: v2 first; a 404 there means
 * v1, which then stays unless v1 is a 404 as well. A portal that finds no token (`missing_token`)
 * wants it in the URL, which is v1 too.
 *
 * Deviations from upstream: `phx_error` reconnects, since older portals leave us without a channel
 * and without a word; a join that crashed inside the portal is retried; a connection that ends
 * within ten seconds of its join does not reset the backoff.
 *
 * Wire format: Phoenix V1 JSON serializer, objects with the four keys shown.
 * Owns: what is said when. Does not own: the socket; it is commanded by {@link ChannelCommand}s.
 * @module
 */

import type { RandomBytes } from "../random.ts";
import { after, earlier, type Millis, NEVER } from "../units.ts";
import { Backoff } from "./backoff.ts";
import type { Era, OutgoingMessage, WireMessage } from "./outgoing.ts";

/** Time from dialling to an open WebSocket. */
const DIAL_TIMEOUT_MS = 15_000;
/** Time from a join to its answer. */
const JOIN_TIMEOUT_MS = 5_000;
/** Portals close a socket on which nothing came for 37 s. */
const HEARTBEAT_INTERVAL_MS = 10_000;
/** More heartbeats than these without an answer mean that the portal is gone. */
const MAX_UNANSWERED_HEARTBEATS = 3;
/**
 * Messages kept while we are not joined; the oldest give way. A gateway whose relay goes while the
 * portal is away has two for each of its clients, and those are not said again.
 */
const MAX_QUEUED = 4096;
/** A connection that held this long proves the portal well. */
const STABLE_MS = 10_000;
/** Requests whose answers we still want to match; more are simply not named when refused. */
const MAX_UNANSWERED_REQUESTS = 64;

/** How a portal turned down the upgrade to a WebSocket. */
export interface Refusal {
  /** HTTP status. */
  readonly status: number;
  /** The portal's word for the reason, such as `invalid_token`. */
  readonly code?: string | undefined;
  /** The portal's sentence about it. */
  readonly detail?: string | undefined;
  /** How long it asks us to wait, in milliseconds. */
  readonly retryAfterMs?: number | undefined;
}

/** Why the channel ended for good. */
export type FatalKind = "unauthorized" | "join-refused" | "token-expired" | "partitioned";

/** What the owner must know. */
export type ChannelEvent =
  | {
    /** The portal let us in; `init` follows. */
    readonly tag: "joined";
    /** Generation it speaks. */
    readonly era: Era;
  }
  | {
    /** The portal says something on our topic. */
    readonly tag: "message";
    /** Event name. */
    readonly event: string;
    /** Any JSON. */
    readonly payload: unknown;
  }
  | {
    /** The portal answered one of our messages with an error. */
    readonly tag: "refused";
    /** Event that we had sent, if still known. */
    readonly event: string | undefined;
    /** The portal's word. */
    readonly reason: string;
  }
  | {
    /** The connection was lost or not made; another attempt follows by itself. */
    readonly tag: "hiccup";
    /** What happened, in words. */
    readonly reason: string;
    /** When it is tried again. */
    readonly retryInMs: number;
  }
  | {
    /** Nothing more will come. */
    readonly tag: "fatal";
    /** What kind of end. */
    readonly kind: FatalKind;
    /** What happened, in words. */
    readonly reason: string;
  };

/** What the shell must do, in order. */
export type ChannelCommand =
  | {
    /** Open a connection; answered with `handleOpened`, `handleRefused` or `handleClosed`. */
    readonly tag: "dial";
    /** Decides path, query and headers. */
    readonly era: Era;
  }
  | {
    /** Close the present connection or give up dialling, and tell nothing of it any more. */
    readonly tag: "hang-up";
  };

/** What a channel is made with. */
export interface ChannelOptions {
  /** The topic to join. */
  readonly topic: string;
  /** Payload of the join. */
  readonly joinPayload: unknown;
  /** For the backoff. */
  readonly random: RandomBytes;
  /** How long the portal may be away before the channel ends; for ever if left out. */
  readonly maxPartitionMs?: number | undefined;
}

type State =
  | { readonly tag: "idle" | "dead" }
  | { readonly tag: "dialling"; readonly dueAt: Millis }
  | { readonly tag: "joining"; readonly joinRef: number; readonly dueAt: Millis }
  | { readonly tag: "joined"; readonly since: Millis }
  | { readonly tag: "waiting"; readonly dueAt: Millis };

/** One channel on one topic; see the module. idle → dialling → joining → joined → waiting → … */
export class PhoenixChannel {
  readonly #options: ChannelOptions;
  readonly #backoff: Backoff;
  #state: State = { tag: "idle" };
  #era: Era = "v2";
  /** Messages by their text, in the order they were given, while we are not joined. */
  readonly #queued = new Map<string, OutgoingMessage>();

  // Of the present connection:
  #nextRef = 0;
  #heartbeatAt: Millis = NEVER;
  readonly #heartbeats = new Set<number>();
  readonly #requests = new Map<number, string>();

  readonly #transmits: string[] = [];
  readonly #commands: ChannelCommand[] = [];
  readonly #events: ChannelEvent[] = [];

  /** A channel that does nothing until {@link connect}.
   * @param options kept */
  constructor(options: ChannelOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, options.maxPartitionMs);
  }

  /** Generation that is spoken or will be tried next. */
  get era(): Era {
    return this.#era;
  }

  /** Whether what is sent now leaves at once. */
  get isJoined(): boolean {
    return this.#state.tag === "joined";
  }

  /** Whether the channel ended for good. */
  get isDead(): boolean {
    return this.#state.tag === "dead";
  }

  /**
   * Dials anew, whatever the present state; what waits to be sent is dropped, because it belongs to
   * the identity of before.
   */
  connect(now: Millis): void {
    if (this.#state.tag === "dead") return;
    this.#hangUp();
    this.#queued.clear();
    this.#backoff.reset();
    this.#dial(now);
  }

  /** Ends the channel on our own account; nothing more is emitted. */
  close(): void {
    this.#hangUp();
    this.#queued.clear();
    this.#events.length = 0;
    this.#state = { tag: "dead" };
  }

  /**
   * Sends a message, or keeps it until we are joined. An exact copy of one that is kept already is
   * not kept twice. A message without words for this portal is dropped.
   */
  send(message: OutgoingMessage): void {
    if (this.#state.tag === "dead") return;
    if (this.#state.tag === "joined") return this.#sendNow(message);
    const text = JSON.stringify(message);
    // The copy counts, not the first: what was said in between may have taken that back.
    if (!this.#queued.delete(text) && this.#queued.size >= MAX_QUEUED) {
      this.#queued.delete(this.#queued.keys().next().value!);
    }
    this.#queued.set(text, message);
  }

  /** The socket that was dialled is open. */
  handleOpened(now: Millis): void {
    if (this.#state.tag !== "dialling") return;
    this.#nextRef = 0;
    this.#heartbeatAt = after(now, HEARTBEAT_INTERVAL_MS);
    this.#join(now);
  }

  /** The portal answered the upgrade with another status than 101. */
  handleRefused(now: Millis, refusal: Refusal): void {
    if (this.#state.tag !== "dialling") return;
    const { status, code } = refusal;
    if (this.#era === "v2" && (status === 404 || status === 401 && code === "missing_token")) {
      this.#era = "v1";
      return this.#dial(now);
    }
    if (status === 401) {
      return this.#die("unauthorized", `the portal refused the token${code ? ` (${code})` : ""}`);
    }
    // Neither generation is there, so nothing was learned about which one the portal speaks.
    if (status === 404) this.#era = "v2";
    const because = [code, refusal.detail].filter((text) => text !== undefined).join(": ");
    this.#hiccup(
      now,
      `the portal answered with HTTP status ${status}${because && ` (${because})`}`,
      refusal.retryAfterMs,
    );
  }

  /** The socket is gone, or could not be opened for another reason than a refusal. */
  handleClosed(now: Millis, reason: string): void {
    if (this.#hasSocket()) this.#hiccup(now, reason);
  }

  /** A text frame arrived; never throws. Answers whether it made sense. */
  handleText(now: Millis, text: string): boolean {
    if (this.#state.tag !== "joining" && this.#state.tag !== "joined") return false;
    const frame = parseFrame(text);
    if (frame === undefined) return false;
    if (frame.event === "phx_reply") {
      this.#handleReply(now, frame);
      return true;
    }
    if (frame.topic !== this.#options.topic) return false;
    switch (frame.event) {
      case "phx_close":
        this.#hangUp();
        this.#hiccup(now, "the portal closed the channel");
        break;
      case "phx_error":
        this.#hangUp();
        this.#hiccup(now, "the channel crashed inside the portal");
        break;
      case "disconnect":
        if (field(frame.payload, "reason") === "token_expired") {
          this.#die("token-expired", "the token has expired or was revoked");
        }
        break;
      default:
        this.#events.push({ tag: "message", event: frame.event, payload: frame.payload });
    }
    return true;
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    const state = this.#state;
    if ("dueAt" in state && now >= state.dueAt) {
      if (state.tag === "waiting") return this.#dial(now);
      this.#hangUp();
      return this.#hiccup(
        now,
        state.tag === "dialling"
          ? "the portal did not answer the connection attempt"
          : "the portal did not answer the join",
      );
    }
    if (now < this.#heartbeatAt) return;
    if (this.#heartbeats.size > MAX_UNANSWERED_HEARTBEATS) {
      this.#hangUp();
      return this.#hiccup(now, "the portal does not answer heartbeats any more");
    }
    this.#heartbeats.add(this.#transmit("phoenix", { event: "heartbeat", payload: {} }));
    this.#heartbeatAt = after(now, HEARTBEAT_INTERVAL_MS);
  }

  /** When {@link handleTimeout} is due; 0 while anything waits to be polled. */
  pollTimeout(): Millis {
    if (this.#transmits.length + this.#commands.length + this.#events.length > 0) {
      return 0 as Millis;
    }
    return "dueAt" in this.#state
      ? earlier(this.#state.dueAt, this.#heartbeatAt)
      : this.#heartbeatAt;
  }

  /** Next thing to do with the socket; these come before transmits. */
  pollCommand(): ChannelCommand | undefined {
    return this.#commands.shift();
  }

  /** Next text frame to send. */
  pollTransmit(): string | undefined {
    return this.#transmits.shift();
  }

  /** Next thing the owner must know. */
  pollEvent(): ChannelEvent | undefined {
    return this.#events.shift();
  }

  #handleReply(now: Millis, frame: Frame): void {
    const ref = frame.ref;
    if (typeof ref !== "number" || this.#heartbeats.delete(ref)) return;
    const ok = field(frame.payload, "status") === "ok";
    const reason = field(field(frame.payload, "response"), "reason");
    const word = typeof reason === "string" ? reason : "no reason given";
    if (this.#state.tag === "joining" && this.#state.joinRef === ref) {
      return ok ? this.#handleJoined(now) : this.#handleJoinRefused(now, word);
    }
    const event = this.#requests.get(ref);
    this.#requests.delete(ref);
    if (ok) return;
    if (word === "unmatched topic" && frame.topic === this.#options.topic) {
      // The portal lost our channel but kept the socket.
      if (this.#state.tag === "joined") this.#join(now);
      return;
    }
    this.#events.push({ tag: "refused", event, reason: word });
  }

  #handleJoined(now: Millis): void {
    this.#state = { tag: "joined", since: now };
    this.#backoff.succeed();
    this.#events.push({ tag: "joined", era: this.#era });
    for (const message of this.#queued.values()) this.#sendNow(message);
    this.#queued.clear();
  }

  #handleJoinRefused(now: Millis, reason: string): void {
    if (reason === "join crashed") {
      this.#hangUp();
      return this.#hiccup(now, "the join crashed inside the portal");
    }
    this.#die("join-refused", `the portal refused to let us join (${reason})`);
  }

  #dial(now: Millis): void {
    this.#state = { tag: "dialling", dueAt: after(now, DIAL_TIMEOUT_MS) };
    this.#commands.push({ tag: "dial", era: this.#era });
  }

  #join(now: Millis): void {
    const { topic, joinPayload } = this.#options;
    const joinRef = this.#transmit(topic, { event: "phx_join", payload: joinPayload });
    this.#state = { tag: "joining", joinRef, dueAt: after(now, JOIN_TIMEOUT_MS) };
  }

  #sendNow(message: OutgoingMessage): void {
    const wire = message[this.#era];
    if (wire === undefined) return;
    const ref = this.#transmit(this.#options.topic, wire);
    if (this.#requests.size < MAX_UNANSWERED_REQUESTS) this.#requests.set(ref, wire.event);
  }

  #transmit(topic: string, message: WireMessage): number {
    const ref = this.#nextRef++;
    this.#transmits.push(
      JSON.stringify({ topic, event: message.event, payload: message.payload ?? null, ref }),
    );
    return ref;
  }

  #hasSocket(): boolean {
    const { tag } = this.#state;
    return tag === "dialling" || tag === "joining" || tag === "joined";
  }

  #hangUp(): void {
    if (this.#hasSocket()) this.#commands.push({ tag: "hang-up" });
    this.#forgetConnection();
  }

  #forgetConnection(): void {
    this.#heartbeatAt = NEVER;
    this.#heartbeats.clear();
    this.#requests.clear();
    this.#transmits.length = 0;
  }

  /** The socket is gone: waits for another attempt, or ends. */
  #hiccup(now: Millis, reason: string, askedMs?: number): void {
    this.#forgetConnection();
    if (this.#state.tag === "joined" && now - this.#state.since >= STABLE_MS) {
      this.#backoff.reset();
    }
    const retryInMs = this.#backoff.fail(now, askedMs);
    if (retryInMs === undefined) {
      this.#state = { tag: "idle" }; // whatever socket there was is closed already
      return this.#die("partitioned", `the portal was away for too long; last: ${reason}`);
    }
    this.#state = { tag: "waiting", dueAt: after(now, retryInMs) };
    this.#events.push({ tag: "hiccup", reason, retryInMs });
  }

  #die(kind: FatalKind, reason: string): void {
    this.#hangUp();
    this.#queued.clear();
    this.#state = { tag: "dead" };
    this.#events.push({ tag: "fatal", kind, reason });
  }
}

interface Frame {
  readonly topic: string;
  readonly event: string;
  readonly payload: unknown;
  readonly ref: unknown;
}

function parseFrame(text: string): Frame | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  const topic = field(json, "topic");
  const event = field(json, "event");
  if (typeof topic !== "string" || typeof event !== "string") return undefined;
  return { topic, event, payload: field(json, "payload"), ref: field(json, "ref") };
}

/** A key of an object; `undefined` for anything that is not one or has it not. */
function field(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
