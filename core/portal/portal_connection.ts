/**
 * The connection of a program to the portal: the channel's state machine with its socket, its timer
 * and its log.
 * @module
 */

import type { Secret } from "../secret.ts";
import { systemRandom } from "../system_random.ts";
import { type Logger, logger } from "../telemetry/logging.ts";
import { type Millis, NEVER } from "../units.ts";
import { type Login, loginHeaders, loginUrl } from "./login_url.ts";
import { type Era, noRelays, type OutgoingMessage } from "./outgoing.ts";
import { type ChannelEvent, PhoenixChannel } from "./phoenix_channel.ts";
import { hostInfo } from "./host_info.ts";
import { PortalSocket, type ResolveHost } from "./websocket.ts";

/** A v1 portal is asked for relays by reconnecting; not more often than this. */
const RECONNECT_FOR_RELAYS_MS = 5_000;

/** What a program is told about its connection. */
export type PortalEvent = Exclude<ChannelEvent, { readonly tag: "refused" }>;

/** What a connection is made with. */
export interface PortalOptions {
  /** Base URL of the API, as `toApiUrl` gives it. */
  readonly apiUrl: URL;
  /** Who logs in. */
  readonly login: Login;
  /** Proves it. */
  readonly token: Secret;
  /** Takes events, one after the other, never from within a call to the connection. */
  readonly onEvent: (event: PortalEvent) => void;
  /** How long the portal may be away before the connection ends; for ever if left out. */
  readonly maxPartitionMs?: number | undefined;
  /** Where the log lines go; `portal` if left out. */
  readonly log?: Logger | undefined;
  /** Finds the portal's addresses; the system's resolver if left out. */
  readonly resolve?: ResolveHost | undefined;
}

/**
 * Keeps a program connected to the portal until {@link close} or a fatal event.
 *
 * Trouble and recovery are logged here, once per change; the owner need not do it again. A fatal
 * event is left to the owner to report, because it ends the program.
 */
export class PortalConnection {
  readonly #options: PortalOptions;
  readonly #log: Logger;
  readonly #channel: PhoenixChannel;
  #publicKey: string | undefined;
  #socket: PortalSocket | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #drainQueued = false;
  #joinedAt: Millis = NEVER;
  /** The trouble that was logged last; empty while all is well. */
  #trouble = "";

  /** A connection that does nothing until {@link connect}.
   * @param options kept */
  constructor(options: PortalOptions) {
    this.#options = options;
    this.#log = options.log ?? logger("portal");
    this.#channel = new PhoenixChannel({
      topic: options.login.role,
      joinPayload: options.login.role === "relay"
        ? { stamp_secret: options.login.stampSecret.reveal() }
        : null,
      random: systemRandom,
      maxPartitionMs: options.maxPartitionMs,
    });
  }

  /** Whether what is sent now reaches the portal at once. */
  get isJoined(): boolean {
    return this.#channel.isJoined;
  }

  /** Generation that is spoken or will be tried next. */
  get era(): Era {
    return this.#channel.era;
  }

  /**
   * Drops the present connection, if any, and dials at once.
   *
   * @param publicKey base64 of our WireGuard key; relays have none
   */
  connect(publicKey?: string): void {
    this.#publicKey = publicKey;
    this.#channel.connect(now());
    this.#queueDrain();
  }

  /** Sends a message; while there is no connection they are kept for the next one. */
  send(message: OutgoingMessage): void {
    this.#channel.send(message);
    this.#queueDrain();
  }

  /** Tells the portal that no relay is left, so that it names new ones. */
  requestRelays(): void {
    if (this.#channel.era === "v2") return this.send(noRelays());
    // A v1 portal names relays only in `init`.
    const isOld = now() - this.#joinedAt >= RECONNECT_FOR_RELAYS_MS;
    if (this.#channel.isJoined && isOld) this.connect(this.#publicKey);
  }

  /** Leaves the portal; no event comes any more. */
  close(): void {
    this.#channel.close();
    this.#drain();
  }

  /** Events must not come from within a call of the owner, hence the detour. */
  #queueDrain(): void {
    if (this.#drainQueued) return;
    this.#drainQueued = true;
    queueMicrotask(() => this.#drain());
  }

  #drain(): void {
    this.#drainQueued = false;
    const channel = this.#channel;
    for (let c = channel.pollCommand(); c !== undefined; c = channel.pollCommand()) {
      this.#socket?.hangUp();
      this.#socket = c.tag === "dial" ? this.#dial(c.era) : undefined;
    }
    for (let t = channel.pollTransmit(); t !== undefined; t = channel.pollTransmit()) {
      this.#socket?.send(t);
    }
    // The owner may call us from its handler; what that queues is drained in the next turn.
    for (let e = channel.pollEvent(); e !== undefined; e = channel.pollEvent()) {
      this.#handleEvent(e);
    }
    this.#setTimer();
  }

  #dial(era: Era): PortalSocket {
    const { apiUrl, login, token, resolve } = this.#options;
    this.#log.debug("Connecting to the portal", { host: apiUrl.host, era });
    // Socket events of an earlier connection cannot come: it was hung up.
    return new PortalSocket({
      url: loginUrl(apiUrl, era, login, token, this.#publicKey),
      headers: loginHeaders(era, login.role, token, hostInfo()),
      random: systemRandom,
      resolve,
    }, {
      opened: () => this.#input((at) => this.#channel.handleOpened(at)),
      text: (text) =>
        this.#input((at) => {
          if (!this.#channel.handleText(at, text)) this.#log.debug("Ignored a frame");
        }),
      refused: (refusal) => this.#input((at) => this.#channel.handleRefused(at, refusal)),
      closed: (reason) => this.#input((at) => this.#channel.handleClosed(at, reason)),
    });
  }

  #input(apply: (at: Millis) => void): void {
    apply(now());
    this.#drain();
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const due = this.#channel.pollTimeout();
    if (due === NEVER) return;
    this.#timer = setTimeout(
      () => this.#input((at) => this.#channel.handleTimeout(at)),
      Math.max(0, due - now()),
    );
  }

  #handleEvent(event: ChannelEvent): void {
    switch (event.tag) {
      case "joined":
        this.#joinedAt = now();
        this.#trouble = "";
        this.#log.info("Connected to the portal", { era: event.era });
        break;
      case "hiccup":
        this.#logTrouble(event.reason, event.retryInMs);
        break;
      case "refused":
        this.#log.warn("The portal refused a message", {
          event: event.event,
          reason: event.reason,
        });
        return;
    }
    this.#options.onEvent(event);
  }

  /** Once per kind of trouble; an outage of a day would fill the log otherwise. */
  #logTrouble(reason: string, retryInMs: number): void {
    const level = this.#trouble === reason ? "debug" : "warn";
    this.#trouble = reason;
    this.#log.log(level, "No connection to the portal", { reason, retry_in_ms: retryInMs });
  }
}

function now(): Millis {
  return performance.now() as Millis;
}
