/**
 * The portal without its sockets: identities, presence, policies, flows.
 *
 * Peers' frames go in as text, frames for peers come out as events; the same text could travel
 * through a WebSocket or through a test. Whatever a frame holds, nothing throws.
 *
 *     handleConnect   a peer asks to connect; a refusal becomes an HTTP status
 *     handleText      a frame
 *     handleClose     the peer is gone
 *     handleConfig    the operator changed the file
 *     handleTimeout / pollTimeout / pollEvent as everywhere
 *
 * Spec: portal-protocol.md. Owns: the life of connections, and when the other parts have to act:
 * `admission.ts` lets peers in, `messages.ts` understands them, `flows.ts` leads clients to gateways,
 * `policy_enforcer.ts` takes back what is not granted any more, `notifier.ts` tells what has changed.
 * @module
 */

import { Deadlines } from "@firezone/core/deadlines";
import type { RandomBytes } from "@firezone/core/random";
import { after, earlier, type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import { Admission } from "./admission.ts";
import { Authorizations } from "./authorizations.ts";
import type { PortalConfig } from "./config/config.ts";
import {
  authenticate,
  bearerEnd,
  bearerOwnerId,
  type ConnectRequest,
  isRefusal,
  type Refusal,
  type Role,
} from "./connect_request.ts";
import {
  type Connection,
  type ConnectionId,
  idleTimeoutMs,
  type RelayConnection,
} from "./connection.ts";
import { CLOSE, ConnectionRegistry, logFields, type PortalEvent } from "./connection_registry.ts";
import type { PortalContext } from "./context.ts";
import { DeviceRegistry, type Store } from "./device.ts";
import { Directory } from "./directory.ts";
import { Flows } from "./flows.ts";
import { Messages } from "./messages.ts";
import { Notifier } from "./notifier.ts";
import { asRecord, OK, parseMessage, type PhoenixMessage, refusal } from "./phoenix.ts";
import { PolicyEnforcer } from "./policy_enforcer.ts";
import { RelayPool } from "./relay_pool.ts";
import { type PortalStatus, portalStatus } from "./status.ts";
import { speaksFlows } from "./user_agent.ts";
import { relayId } from "./uuid.ts";

/** Longest frame that is read, in UTF-16 units. */
export const MAX_FRAME_LENGTH = 65_536;
/** Presence of relays is looked at when it has been quiet for so long (§6.9). */
export const RELAYS_DEBOUNCE_MS = 1000;
/** The wall clock may be set: longer waits are taken in steps of this. */
const LONGEST_WAIT_MS = 3_600_000;

/** What a portal is made of. */
export interface PortalOptions {
  /** The configuration to begin with. */
  readonly config: PortalConfig;
  /** Where devices and authorizations outlive the process. */
  readonly store: Store;
  /** Unpredictable bytes. */
  readonly random: RandomBytes;
  /** The wall clock at a moment of monotonic time. */
  readonly unixTime: (now: Millis) => UnixSeconds;
}

/** Whether a peer may connect. */
export type ConnectResult =
  | { readonly ok: true; readonly connection: ConnectionId }
  | { readonly ok: false; readonly refusal: Refusal };

/** The control plane as a state machine. */
export class PortalState {
  readonly #registry = new ConnectionRegistry();
  readonly #relays = new RelayPool();
  readonly #authorizations: Authorizations;
  readonly #unixTime: (now: Millis) => UnixSeconds;
  readonly #admission: Admission;
  readonly #notifier: Notifier;
  readonly #flows: Flows;
  readonly #policies: PolicyEnforcer;
  readonly #messages: Messages;
  readonly #idle = new Deadlines<ConnectionId>();
  readonly #accountEnds = new Deadlines<ConnectionId>();
  #directory: Directory;
  #relaysDue: Millis = NEVER;
  #policiesDue: Millis = NEVER;
  #now: Millis;

  /** Nobody is connected; what the store knows is known. */
  constructor(now: Millis, options: PortalOptions) {
    this.#now = now;
    this.#unixTime = options.unixTime;
    this.#directory = new Directory(options.config);
    this.#authorizations = new Authorizations(options.store);
    const context: PortalContext = {
      registry: this.#registry,
      relays: this.#relays,
      devices: new DeviceRegistry(options.store, options.random),
      authorizations: this.#authorizations,
      random: options.random,
      directory: () => this.#directory,
      unixTime: options.unixTime,
    };
    this.#admission = new Admission(context);
    this.#notifier = new Notifier(context);
    this.#flows = new Flows(context);
    this.#policies = new PolicyEnforcer(context, this.#flows);
    this.#messages = new Messages(this.#registry, this.#flows, this.#notifier);
    this.#enforcePolicies(now);
  }

  // ---------------------------------------------------------------- inputs

  /**
   * Checks a token without connecting, as is due before anything else is said about a request.
   *
   * @returns why it is refused, or `undefined`
   */
  checkToken(now: Millis, role: Role, token: string | undefined): Refusal | undefined {
    const result = authenticate(this.#unixTime(now), this.#directory, role, token);
    return isRefusal(result) ? result : undefined;
  }

  /** A peer asks to connect; if it may, its frames are awaited under the name that it gets. */
  handleConnect(now: Millis, request: ConnectRequest): ConnectResult {
    this.#now = now;
    const result = this.#admission.admit(now, request);
    if (isRefusal(result)) {
      const { code, detail } = result;
      const { role, remoteIp } = request;
      this.#registry.log("info", "refused a connection", { role, code });
      this.#registry.log("debug", "the refused", { from: remoteIp?.text, detail });
      return { ok: false, refusal: result };
    }
    this.#registry.add(result);
    this.#idle.set(result.id, after(now, idleTimeoutMs(result.role, result.era)));
    this.#awaitAccountEnd(now, result);
    return { ok: true, connection: result.id };
  }

  /** A text frame arrived. */
  handleText(now: Millis, id: ConnectionId, text: string): void {
    this.#now = now;
    const connection = this.#heard(now, id);
    if (!connection) return;
    if (text.length > MAX_FRAME_LENGTH) {
      return this.#drop(now, connection, CLOSE.tooBig, "frame too long");
    }
    const message = parseMessage(text);
    if (!message) return this.#drop(now, connection, CLOSE.protocolError, "malformed frame");
    this.#handleMessage(now, connection, message);
  }

  /** A binary frame arrived; there is none in this protocol. */
  handleBinary(now: Millis, id: ConnectionId): void {
    this.#now = now;
    const connection = this.#heard(now, id);
    if (connection) this.#drop(now, connection, CLOSE.unsupportedData, "binary frame");
  }

  /** The peer is gone, or its connection was lost. */
  handleClose(now: Millis, id: ConnectionId): void {
    this.#now = now;
    const connection = this.#registry.get(id);
    if (connection) this.#forget(now, connection);
  }

  /** Another configuration is in force from now on. */
  handleConfig(now: Millis, config: PortalConfig): void {
    this.#now = now;
    const before = this.#directory;
    this.#directory = new Directory(config);
    for (const connection of this.#registry.connections) this.#checkBearer(now, connection);
    this.#flows.dropForbidden(now);
    this.#enforcePolicies(now);
    for (const resource of config.resources) this.#notifier.notifyOfChange(before, resource);
    for (const client of this.#registry.clients) {
      this.#notifier.updateInterface(client);
      this.#notifier.renewRelays(before, client);
    }
  }

  /** The portal is about to stop: whoever is connected is to come back to its successor. */
  handleShutdown(now: Millis): void {
    this.#now = now;
    // Clients first: they need not hear that their gateways go offline.
    const order = { client: 0, gateway: 1, relay: 2 };
    const connections = this.#registry.connections.toSorted((a, b) =>
      order[a.role] - order[b.role]
    );
    for (const connection of connections) {
      this.#drop(now, connection, CLOSE.serviceRestart, "restarting");
    }
  }

  /** Does what is due. */
  handleTimeout(now: Millis): void {
    this.#now = now;
    for (let id = this.#idle.takeDue(now); id !== undefined; id = this.#idle.takeDue(now)) {
      const connection = this.#registry.get(id);
      if (connection) this.#drop(now, connection, CLOSE.normal, "idle");
    }
    for (
      let id = this.#accountEnds.takeDue(now);
      id !== undefined;
      id = this.#accountEnds.takeDue(now)
    ) {
      const connection = this.#registry.get(id);
      if (connection) this.#checkBearer(now, connection);
    }
    this.#flows.handleTimeout(now);
    if (this.#policiesDue <= now) this.#enforcePolicies(now);
    if (this.#relaysDue <= now) {
      this.#relaysDue = NEVER;
      this.#notifier.updateRelays();
    }
  }

  // --------------------------------------------------------------- outputs

  /** When {@link handleTimeout} has something to do; now, while there are events. */
  pollTimeout(): Millis {
    if (this.#registry.hasEvents) return this.#now;
    return [
      this.#idle.next,
      this.#accountEnds.next,
      this.#flows.pollTimeout(),
      this.#relaysDue,
      this.#policiesDue,
    ].reduce(earlier);
  }

  /** What is to be done next, if anything. */
  pollEvent(): PortalEvent | undefined {
    return this.#registry.takeEvent();
  }

  /** Who is online, without secrets. */
  status(now: Millis): PortalStatus {
    return portalStatus(this.#unixTime(now), this.#registry, this.#directory);
  }

  // ----------------------------------------------------------- connections

  /** The connection that a frame arrived on, unless it sends too many. */
  #heard(now: Millis, id: ConnectionId): Connection | undefined {
    const connection = this.#registry.get(id);
    if (!connection) return undefined;
    connection.lastHeardAt = now;
    this.#idle.set(id, after(now, idleTimeoutMs(connection.role, connection.era)));
    if (connection.rateLimit.take(now)) return connection;
    this.#drop(now, connection, CLOSE.policyViolation, "too many frames");
    return undefined;
  }

  #drop(now: Millis, connection: Connection, code: number, reason: string): void {
    this.#registry.close(connection, code, reason);
    this.#registry.log("debug", "closing a connection", { ...logFields(connection), reason });
    this.#forget(now, connection);
  }

  #forget(now: Millis, connection: Connection): void {
    this.#idle.delete(connection.id);
    this.#accountEnds.delete(connection.id);
    this.#leave(now, connection);
    this.#registry.remove(connection);
  }

  #leave(now: Millis, connection: Connection): void {
    if (!connection.isJoined) return;
    this.#registry.setOffline(connection);
    this.#registry.log("info", "offline", logFields(connection));
    switch (connection.role) {
      case "client":
        return this.#flows.handleClientGone(connection);
      case "gateway":
        return this.#flows.handleGatewayGone(now, connection);
      case "relay":
        // Its place may be taken already, by another connection of the same relay.
        if (connection.relay && !this.#registry.relay(connection.relay.id)) {
          this.#relays.delete(connection.relay.id);
        }
        this.#relaysChanged(now);
    }
  }

  /** Ends the connection of a peer whose token is in force no longer, or stands for another. */
  #checkBearer(now: Millis, connection: Connection): void {
    const bearer = this.#directory.bearer(connection.tokenHash);
    const isValid = bearer?.role === connection.role && bearerEnd(bearer) > this.#unixTime(now);
    if (!isValid) return this.#signOut(now, connection);
    if (bearerOwnerId(bearer) !== connection.ownerId) {
      return this.#drop(now, connection, CLOSE.serviceRestart, "the token has moved");
    }
    this.#awaitAccountEnd(now, connection);
  }

  #awaitAccountEnd(now: Millis, connection: Connection): void {
    if (connection.role !== "client") return;
    const end = this.#directory.account(connection.ownerId)?.expiresAt;
    this.#accountEnds.set(connection.id, end === undefined ? NEVER : this.#wait(now, end));
  }

  #signOut(now: Millis, connection: Connection): void {
    this.#registry.push(connection, "disconnect", { reason: "token_expired" });
    this.#registry.push(connection, "phx_close", {});
    this.#registry.log("info", "signed out", logFields(connection));
    this.#drop(now, connection, CLOSE.normal, "token expired");
  }

  // -------------------------------------------------------------- messages

  #handleMessage(now: Millis, connection: Connection, message: PhoenixMessage): void {
    const { topic, event, ref } = message;
    if (topic === "phoenix" && event === "heartbeat") {
      return this.#registry.reply(connection, topic, ref, OK);
    }
    if (topic === connection.role && event === "phx_join") {
      return this.#join(now, connection, message);
    }
    if (topic !== connection.role || !connection.isJoined) {
      return this.#registry.reply(connection, topic, ref, refusal("unmatched topic"));
    }
    if (event === "phx_leave") {
      this.#registry.reply(connection, topic, ref, OK);
      this.#registry.push(connection, "phx_close", {});
      return this.#leave(now, connection);
    }
    const reply = this.#messages.handle(now, connection, event, message.payload);
    if (reply) this.#registry.reply(connection, topic, ref, reply);
  }

  #join(now: Millis, connection: Connection, { payload, ref }: PhoenixMessage): void {
    const refused = this.#checkJoin(connection, payload);
    if (refused) {
      return this.#registry.reply(connection, connection.role, ref, refusal(refused));
    }
    const wasJoined = connection.isJoined;
    if (connection.role === "relay") {
      if (wasJoined) this.#leave(now, connection);
      connection.relay = toRelay(connection, payload);
    }
    // Not online yet, a gateway is not told what its `init` is about to say.
    if (connection.role === "gateway" && !wasJoined) {
      this.#policies.enforce(now, this.#authorizations.ofGateway(connection.device.id));
    }
    const rival = this.#registry.rival(connection);
    this.#registry.setOnline(connection);
    this.#registry.reply(connection, connection.role, ref, OK);
    // Only now, because the reply must come before the end of the former channel (§1.5).
    if (wasJoined) this.#registry.push(connection, "phx_close", {});
    this.#registry.log("info", "online", logFields(connection));
    this.#initialize(now, connection);
    // What the rival was asked may go to its successor, which has its `init` by now.
    if (rival) this.#drop(now, rival, CLOSE.normal, "connected anew");
  }

  #initialize(now: Millis, connection: Connection): void {
    switch (connection.role) {
      case "client":
        // Where it connects from may have changed what it is granted.
        this.#policies.enforce(now, this.#authorizations.ofClient(connection.device.id));
        return this.#notifier.initClient(now, connection);
      case "gateway":
        return this.#notifier.initGateway(connection);
      case "relay":
        this.#registry.push(connection, "init", {});
        if (connection.relay) this.#relays.add(connection.relay);
        this.#relaysChanged(now);
    }
  }

  #checkJoin(connection: Connection, payload: unknown): string | undefined {
    if (connection.role === "relay") return stampSecretOf(payload) ? undefined : "join crashed";
    return speaksFlows(connection.agent.version) ? undefined : "invalid_version";
  }

  // ------------------------------------------------------------- policies

  /** Brings everyone in line with the policies as they are at this moment. */
  #enforcePolicies(now: Millis): void {
    this.#policies.enforce(now, this.#authorizations.list());
    for (const client of this.#registry.clients) this.#notifier.updateResources(now, client);
    const at = this.#unixTime(now);
    // New authorizations end with a policy or an account; older ones may outlast a changed file.
    const ends = [this.#directory.nextEnd(at), this.#authorizations.nextEnd()];
    this.#policiesDue = ends.map((end) => end === undefined ? NEVER : this.#wait(now, end))
      .reduce(earlier);
  }

  // --------------------------------------------------------------- relays

  #relaysChanged(now: Millis): void {
    this.#relaysDue = after(now, RELAYS_DEBOUNCE_MS);
  }

  /** When to look at the wall clock again for a moment to come. */
  #wait(now: Millis, moment: UnixSeconds): Millis {
    const delayMs = (moment - this.#unixTime(now)) * 1000;
    return after(now, Math.min(Math.max(delayMs, 0), LONGEST_WAIT_MS));
  }
}

/** The secret that a relay joins with (§1.5). */
function stampSecretOf(payload: unknown): string | undefined {
  const secret = asRecord(payload)?.stamp_secret;
  return typeof secret === "string" && secret.length >= 1 && secret.length <= 256
    ? secret
    : undefined;
}

function toRelay({ params }: RelayConnection, payload: unknown): RelayConnection["relay"] {
  const stampSecret = stampSecretOf(payload);
  if (stampSecret === undefined) return undefined;
  const { ipv4, ipv6, port } = params;
  return { id: relayId(stampSecret), stampSecret, ipv4, ipv6, port };
}
