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
 * Spec: portal-protocol.md. Owns: the life of connections, what is pushed when. Does not own: the
 * way to an authorization (`flows.ts`), who may connect (`admission.ts`), how things look on the
 * wire (`views.ts`).
 * @module
 */

import { Deadlines } from "@firezone/core/deadlines";
import type { RandomBytes } from "@firezone/core/random";
import { after, earlier, type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import {
  authenticate,
  bearerEnd,
  bearerOwnerId,
  type ConnectRequest,
  deviceParams,
  isRefusal,
  type Refusal,
  relayParams,
  type Role,
} from "./admission.ts";
import { parseAgent, speaksFlows, wantsSites } from "./agent.ts";
import { Allowance, Allowances } from "./allowance.ts";
import { Authorizations } from "./authorizations.ts";
import { type PortalConfig, type Resource, resourceKey } from "./config/config.ts";
import {
  type ClientConnection,
  type Connection,
  type ConnectionId,
  type GatewayConnection,
  idleTimeoutMs,
  type RelayConnection,
} from "./connection.ts";
import { type Authorization, DeviceRegistry, type Store } from "./device.ts";
import { Directory, FAR_FUTURE } from "./directory.ts";
import { EVENTS, Flows, rejectAccess } from "./flows.ts";
import {
  asRecord,
  asTexts,
  OK,
  parseMessage,
  type PhoenixMessage,
  refusal,
  type Reply,
} from "./phoenix.ts";
import { isSameRelay, RelayPool } from "./relay_pool.ts";
import { type PortalStatus, portalStatus } from "./status.ts";
import { CLOSE, logFields, type PortalEvent, Switchboard } from "./switchboard.ts";
import { relayId } from "./uuid.ts";
import {
  clientInterfaceView,
  clientResourceView,
  FLOW_LOGS,
  gatewayInitView,
  gatewayResourceView,
  type Json,
  relayViews,
} from "./views.ts";

/** Longest frame that is read, in UTF-16 units. */
export const MAX_FRAME_LENGTH = 65_536;
/** Presence of relays is looked at when it has been quiet for so long (§6.9). */
export const RELAYS_DEBOUNCE_MS = 1000;
/** Another gateway with the same id is refused while this one was heard within so many ms. */
const RIVAL_ALIVE_MS = 12_000;
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
  readonly #switchboard = new Switchboard();
  readonly #relays = new RelayPool();
  readonly #devices: DeviceRegistry;
  readonly #authorizations: Authorizations;
  readonly #flows: Flows;
  readonly #unixTime: (now: Millis) => UnixSeconds;
  /** Connects, by address and token (§1.8). */
  readonly #connects = new Allowances(20, 2);
  readonly #idle = new Deadlines<ConnectionId>();
  readonly #accountEnds = new Deadlines<ConnectionId>();
  #directory: Directory;
  #relaysDue: Millis = NEVER;
  #reviewDue: Millis = NEVER;
  #now: Millis;

  /** Nobody is connected; what the store knows is known. */
  constructor(now: Millis, options: PortalOptions) {
    this.#now = now;
    this.#unixTime = options.unixTime;
    this.#directory = new Directory(options.config);
    this.#devices = new DeviceRegistry(options.store, options.random);
    this.#authorizations = new Authorizations(options.store);
    this.#flows = new Flows({
      switchboard: this.#switchboard,
      authorizations: this.#authorizations,
      random: options.random,
      directory: () => this.#directory,
      unixTime: options.unixTime,
    });
    this.#review(now);
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
    const result = this.#admit(now, request);
    if (isRefusal(result)) {
      const { code } = result;
      const from = request.remoteIp?.text;
      this.#switchboard.log("info", "refused a connection", { role: request.role, code, from });
      return { ok: false, refusal: result };
    }
    this.#switchboard.add(result);
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
    const connection = this.#switchboard.get(id);
    if (connection) this.#forget(now, connection);
  }

  /** Another configuration is in force from now on. */
  handleConfig(now: Millis, config: PortalConfig): void {
    this.#now = now;
    const before = this.#directory;
    this.#directory = new Directory(config);
    for (const connection of this.#switchboard.connections) this.#checkBearer(now, connection);
    this.#flows.review(now);
    this.#review(now);
    for (const resource of config.resources) this.#announceChange(before, resource);
    for (const client of this.#switchboard.clients) this.#updateInterface(client);
  }

  /** The portal is about to stop: whoever is connected is to come back to its successor. */
  handleShutdown(now: Millis): void {
    this.#now = now;
    // Clients first: they need not hear that their gateways go offline.
    const order = { client: 0, gateway: 1, relay: 2 };
    const connections = this.#switchboard.connections.toSorted((a, b) =>
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
      const connection = this.#switchboard.get(id);
      if (connection) this.#drop(now, connection, CLOSE.normal, "idle");
    }
    for (
      let id = this.#accountEnds.takeDue(now);
      id !== undefined;
      id = this.#accountEnds.takeDue(now)
    ) {
      const connection = this.#switchboard.get(id);
      if (connection) this.#checkBearer(now, connection);
    }
    this.#flows.handleTimeout(now);
    if (this.#reviewDue <= now) this.#review(now);
    if (this.#relaysDue <= now) {
      this.#relaysDue = NEVER;
      this.#updateRelays();
    }
  }

  // --------------------------------------------------------------- outputs

  /** When {@link handleTimeout} has something to do; now, while there are events. */
  pollTimeout(): Millis {
    if (this.#switchboard.hasEvents) return this.#now;
    return [
      this.#idle.next,
      this.#accountEnds.next,
      this.#flows.pollTimeout(),
      this.#relaysDue,
      this.#reviewDue,
    ].reduce(earlier);
  }

  /** What is to be done next, if anything. */
  pollEvent(): PortalEvent | undefined {
    return this.#switchboard.takeEvent();
  }

  /** Who is online, without secrets. */
  status(now: Millis): PortalStatus {
    return portalStatus(this.#unixTime(now), this.#switchboard, this.#directory);
  }

  // ----------------------------------------------------------- connections

  #admit(now: Millis, request: ConnectRequest): Connection | Refusal {
    const at = this.#unixTime(now);
    const authenticated = authenticate(at, this.#directory, request.role, request.token);
    if (isRefusal(authenticated)) return authenticated;
    const { bearer, tokenHash } = authenticated;
    if (!this.#connects.take(now, `${request.remoteIp} ${tokenHash.slice(0, 16)}`)) {
      const detail = "Too many connections with this token in a short time.";
      return { status: 503, code: "rate_limit", detail, retryAfterSeconds: 1 };
    }
    const agent = parseAgent(request.userAgent);
    const base = {
      id: this.#switchboard.newId(),
      era: request.era,
      agent,
      remoteIp: request.remoteIp,
      tokenHash,
      ownerId: bearerOwnerId(bearer),
      connectedAt: at,
      allowance: new Allowance(now, 1000, 100),
      lastHeardAt: now,
      isJoined: false,
    };
    if (request.role === "relay") {
      const params = relayParams(request.params);
      return isRefusal(params) ? params : { ...base, role: "relay", params, relay: undefined };
    }
    const params = deviceParams(request.role, request.params, agent);
    if (isRefusal(params)) return params;
    const { externalId, name, publicKey } = params;
    const introduction = { kind: request.role, ownerId: base.ownerId, externalId, name, publicKey };
    if (request.role === "gateway" && request.era === "v2") {
      const rival = this.#switchboard.gateways.find((g) =>
        g.ownerId === base.ownerId && g.device.externalId === externalId
      );
      // The same key means the same process, whose former connection was lost.
      if (
        rival && rival.device.publicKey !== publicKey && now - rival.lastHeardAt < RIVAL_ALIVE_MS
      ) {
        const detail = `A gateway with the id ${externalId} is connected already.`;
        return { status: 409, code: "gateway_already_connected", detail };
      }
    }
    const device = this.#devices.introduce(at, introduction);
    if (!device) {
      const detail = "All tunnel addresses are taken.";
      return { status: 500, code: "unhandled_connect_error", detail };
    }
    const withDevice = { ...base, device, params, toldRelays: new Map() };
    return request.role === "gateway"
      ? { ...withDevice, role: "gateway", avoidUntil: now }
      : { ...withDevice, role: "client", toldResources: new Map(), toldInterface: "" };
  }

  /** The connection that a frame arrived on, unless it sends too many. */
  #heard(now: Millis, id: ConnectionId): Connection | undefined {
    const connection = this.#switchboard.get(id);
    if (!connection) return undefined;
    connection.lastHeardAt = now;
    this.#idle.set(id, after(now, idleTimeoutMs(connection.role, connection.era)));
    if (connection.allowance.take(now)) return connection;
    this.#drop(now, connection, CLOSE.policyViolation, "too many frames");
    return undefined;
  }

  #drop(now: Millis, connection: Connection, code: number, reason: string): void {
    this.#switchboard.close(connection, code, reason);
    this.#switchboard.log("debug", "closing a connection", { ...logFields(connection), reason });
    this.#forget(now, connection);
  }

  #forget(now: Millis, connection: Connection): void {
    this.#idle.delete(connection.id);
    this.#accountEnds.delete(connection.id);
    this.#leave(now, connection);
    this.#switchboard.remove(connection);
  }

  #leave(now: Millis, connection: Connection): void {
    if (!connection.isJoined) return;
    this.#switchboard.setOffline(connection);
    this.#switchboard.log("info", "offline", logFields(connection));
    switch (connection.role) {
      case "client":
        return this.#flows.handleClientGone(connection);
      case "gateway":
        return this.#flows.handleGatewayGone(now, connection);
      case "relay":
        // Its place may be taken already, by another connection of the same relay.
        if (connection.relay && !this.#switchboard.relay(connection.relay.id)) {
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
    this.#switchboard.push(connection, "disconnect", { reason: "token_expired" });
    this.#switchboard.push(connection, "phx_close", {});
    this.#switchboard.log("info", "signed out", logFields(connection));
    this.#drop(now, connection, CLOSE.normal, "token expired");
  }

  // -------------------------------------------------------------- messages

  #handleMessage(now: Millis, connection: Connection, message: PhoenixMessage): void {
    const { topic, event, ref } = message;
    if (topic === "phoenix" && event === "heartbeat") {
      return this.#switchboard.reply(connection, topic, ref, OK);
    }
    if (topic === connection.role && event === "phx_join") {
      return this.#join(now, connection, message);
    }
    if (topic !== connection.role || !connection.isJoined) {
      return this.#switchboard.reply(connection, topic, ref, refusal("unmatched topic"));
    }
    if (event === "phx_leave") {
      this.#switchboard.reply(connection, topic, ref, OK);
      this.#switchboard.push(connection, "phx_close", {});
      return this.#leave(now, connection);
    }
    const reply = this.#handleEvent(now, connection, event, message.payload);
    if (reply) this.#switchboard.reply(connection, topic, ref, reply);
  }

  #join(now: Millis, connection: Connection, { payload, ref }: PhoenixMessage): void {
    const refused = this.#checkJoin(connection, payload);
    if (refused) {
      return this.#switchboard.reply(connection, connection.role, ref, refusal(refused));
    }
    const wasJoined = connection.isJoined;
    if (connection.role === "relay") {
      if (wasJoined) this.#leave(now, connection);
      connection.relay = toRelay(connection, payload);
    }
    // Not online yet, a gateway is not told what its `init` is about to say.
    if (connection.role === "gateway" && !wasJoined) {
      this.#reviewAuthorizations(now, this.#authorizations.ofGateway(connection.device.id));
    }
    const rival = this.#switchboard.rival(connection);
    this.#switchboard.setOnline(connection);
    this.#switchboard.reply(connection, connection.role, ref, OK);
    // Only now, because the reply must come before the end of the former channel (§10).
    if (wasJoined) this.#switchboard.push(connection, "phx_close", {});
    this.#switchboard.log("info", "online", logFields(connection));
    this.#initialize(now, connection);
    // What the rival was asked may go to its successor, which has its `init` by now.
    if (rival) this.#drop(now, rival, CLOSE.normal, "connected anew");
  }

  #initialize(now: Millis, connection: Connection): void {
    switch (connection.role) {
      case "client":
        return this.#initClient(now, connection);
      case "gateway":
        return this.#initGateway(connection);
      case "relay":
        this.#switchboard.push(connection, "init", {});
        if (connection.relay) this.#relays.add(connection.relay);
        this.#relaysChanged(now);
    }
  }

  #checkJoin(connection: Connection, payload: unknown): string | undefined {
    if (connection.role === "relay") return stampSecretOf(payload) ? undefined : "join crashed";
    return speaksFlows(connection.agent.version) ? undefined : "invalid_version";
  }

  /** The answer to a joined peer's message, if it gets one. */
  #handleEvent(
    now: Millis,
    connection: Connection,
    event: string,
    payload: unknown,
  ): Reply | undefined {
    const unknown = refusal("unknown_message");
    const fields = asRecord(payload);
    if (connection.role === "relay" || !fields) return unknown;
    switch (event) {
      case "no_relays":
        return this.#sendAllRelays(connection);
      case "set_snownet_capabilities":
      case "request_device_access":
        return undefined;
    }
    return connection.role === "client"
      ? this.#handleClientEvent(now, connection, event, fields)
      : this.#handleGatewayEvent(now, connection, event, fields);
  }

  #handleClientEvent(
    now: Millis,
    client: ClientConnection,
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ): Reply | undefined {
    const unknown = refusal("unknown_message");
    const resourceId = fields.resource_id;
    switch (event) {
      case EVENTS[client.era].request: {
        if (typeof resourceId !== "string") return unknown;
        const connected = asTexts(fields.connected_gateway_ids ?? []);
        if (!connected) return unknown;
        const address = fields.ipv4 ?? fields.ipv6;
        if (address !== undefined && address !== null) return this.#denyDevice(client, fields);
        this.#flows.request(now, client, resourceId, connected);
        return undefined;
      }
      case "broadcast_ice_candidates":
        return this.#forward(client, "ice_candidates", fields.gateway_ids, fields.candidates);
      case "broadcast_invalidated_ice_candidates":
        return this.#forward(
          client,
          "invalidate_ice_candidates",
          fields.gateway_ids,
          fields.candidates,
        );
      case "new_gateway_ice_candidates":
        return this.#forward(client, "ice_candidates", [fields.gateway_id], fields.candidates);
      case "invalidate_gateway_ice_candidates":
        return this.#forward(
          client,
          "invalidate_ice_candidates",
          [fields.gateway_id],
          fields.candidates,
        );
      case "new_client_ice_candidates":
      case "invalidate_client_ice_candidates": {
        if (typeof fields.client_id !== "string") return unknown;
        const payload = { client_id: fields.client_id, reason: "not_found" };
        this.#switchboard.push(client, "client_ice_candidate_error", payload);
        return undefined;
      }
      case "resolve_device_pool_domain": {
        const { domain } = fields;
        if (typeof resourceId !== "string" || typeof domain !== "string") return unknown;
        const payload = { resource_id: resourceId, domain, reason: "not_found" };
        this.#switchboard.push(client, "device_pool_domain_resolution_failed", payload);
        return undefined;
      }
      case "create_log_sink":
        return refusal("disabled");
      default:
        return unknown;
    }
  }

  /** There are no device pools here. */
  #denyDevice(
    client: ClientConnection,
    fields: Readonly<Record<string, unknown>>,
  ): undefined {
    const text = (value: unknown) => typeof value === "string" ? value : null;
    this.#switchboard.push(client, "client_device_access_denied", {
      resource_id: text(fields.resource_id),
      ipv4: text(fields.ipv4),
      ipv6: text(fields.ipv6),
      reason: "not_found",
    });
  }

  #handleGatewayEvent(
    now: Millis,
    gateway: GatewayConnection,
    event: string,
    fields: Readonly<Record<string, unknown>>,
  ): Reply | undefined {
    switch (event) {
      case EVENTS[gateway.era].authorized:
        return typeof fields.ref === "string"
          ? this.#flows.acknowledge(now, gateway, fields.ref)
          : refusal("invalid_ref");
      case "broadcast_ice_candidates":
        return this.#forward(gateway, "ice_candidates", fields.client_ids, fields.candidates);
      case "broadcast_invalidated_ice_candidates":
        return this.#forward(
          gateway,
          "invalidate_ice_candidates",
          fields.client_ids,
          fields.candidates,
        );
      case "metrics":
        return OK;
      default:
        return refusal("unknown_message");
    }
  }

  /** Passes candidates on as they are, to those that the sender has to do with and that are online. */
  #forward(
    from: ClientConnection | GatewayConnection,
    event: string,
    targets: unknown,
    candidates: unknown,
  ): Reply | undefined {
    const ids = asTexts(targets);
    const texts = asTexts(candidates);
    if (!ids || !texts) return refusal("unknown_message");
    for (const id of new Set(ids)) {
      const [clientId, gatewayId] = from.role === "client"
        ? [from.device.id, id]
        : [id, from.device.id];
      const to = from.role === "client"
        ? this.#switchboard.gateway(id)
        : this.#switchboard.client(id);
      if (!to || !this.#flows.connects(clientId, gatewayId)) continue;
      const key = from.role === "client" ? "client_id" : "gateway_id";
      this.#switchboard.push(to, event, { [key]: from.device.id, candidates: texts });
    }
    return undefined;
  }

  // ------------------------------------------------------ state for peers

  #initClient(now: Millis, client: ClientConnection): void {
    this.#reviewAuthorizations(now, this.#authorizations.ofClient(client.device.id));
    const resources = this.#resourceViews(now, client);
    client.toldResources.clear();
    for (const { resource, view } of resources) this.#noteResource(client, resource, view);
    const interfaceView = clientInterfaceView(client.device, this.#directory.config.dns);
    client.toldInterface = JSON.stringify(interfaceView);
    this.#switchboard.push(client, "init", {
      interface: interfaceView,
      resources: resources.map(({ view }) => view),
      relays: this.#tellRelays(client),
      authorizations: [],
      flow_logs: FLOW_LOGS,
    });
  }

  #initGateway(gateway: GatewayConnection): void {
    const authorizations = this.#authorizations.ofGateway(gateway.device.id);
    const view = gatewayInitView(
      gateway.device,
      this.#directory.config,
      this.#tellRelays(gateway),
      authorizations,
    );
    this.#switchboard.push(gateway, "init", view);
    for (const authorization of authorizations) {
      const { expiresAt, toldExpiresAt } = authorization;
      if (expiresAt === toldExpiresAt) continue;
      this.#authorizations.save({ ...authorization, toldExpiresAt: expiresAt });
    }
    // Filters may have changed while the gateway was away.
    for (const id of new Set(authorizations.map((authorization) => authorization.resourceId))) {
      const resource = this.#directory.resource(id);
      if (resource) {
        this.#switchboard.push(gateway, "resource_updated", gatewayResourceView(resource));
      }
    }
  }

  #resourceViews(now: Millis, client: ClientConnection) {
    const sitesKey = wantsSites(client.agent) ? "sites" : "gateway_groups";
    return this.#directory.resourcesOf(this.#unixTime(now), client.ownerId, client.remoteIp)
      .map((resource) => ({
        resource,
        view: clientResourceView(resource, this.#directory, sitesKey),
      }));
  }

  #noteResource(client: ClientConnection, resource: Resource, view: Json): void {
    const key = `${resourceKey(resource)} ${resource.siteIds.join()}`;
    client.toldResources.set(resource.id, { view: JSON.stringify(view), key });
  }

  /** Tells a client what has changed for it; what is gone comes first (§2.2.4). */
  #updateResources(now: Millis, client: ClientConnection): void {
    const current = this.#resourceViews(now, client);
    const keys = new Map(
      current.map(({ resource }) => [
        resource.id,
        `${resourceKey(resource)} ${resource.siteIds.join()}`,
      ]),
    );
    for (const [id, { key }] of [...client.toldResources]) {
      if (keys.get(id) === key) continue;
      client.toldResources.delete(id);
      this.#switchboard.push(client, "resource_deleted", id);
    }
    for (const { resource, view } of current) {
      if (client.toldResources.get(resource.id)?.view === JSON.stringify(view)) continue;
      this.#noteResource(client, resource, view);
      this.#switchboard.push(client, "resource_created_or_updated", view);
    }
  }

  #updateInterface(client: ClientConnection): void {
    const view = clientInterfaceView(client.device, this.#directory.config.dns);
    const text = JSON.stringify(view);
    if (client.toldInterface === text) return;
    client.toldInterface = text;
    this.#switchboard.push(client, "config_changed", { interface: view });
  }

  /** Tells gateways of a resource that was changed in a way that access survives. */
  #announceChange(before: Directory, resource: Resource): void {
    const former = before.resource(resource.id);
    if (!former || resourceKey(former) !== resourceKey(resource)) return;
    const view = gatewayResourceView(resource);
    if (JSON.stringify(gatewayResourceView(former)) === JSON.stringify(view)) return;
    for (const gateway of this.#switchboard.gateways) {
      if (!resource.siteIds.includes(gateway.ownerId)) continue;
      this.#switchboard.push(gateway, "resource_updated", view);
    }
  }

  // ------------------------------------------------------------- policies

  /** Brings everyone in line with the policies as they are at this moment. */
  #review(now: Millis): void {
    this.#reviewAuthorizations(now, this.#authorizations.list());
    for (const client of this.#switchboard.clients) this.#updateResources(now, client);
    const at = this.#unixTime(now);
    const ends = [this.#directory.nextPolicyEnd(at), this.#authorizations.nextEnd()];
    this.#reviewDue = ends.map((end) => end === undefined ? NEVER : this.#wait(now, end))
      .reduce(earlier);
  }

  #reviewAuthorizations(now: Millis, authorizations: readonly Authorization[]): void {
    for (const authorization of authorizations) this.#reviewAuthorization(now, authorization);
  }

  /** Ends an authorization that is granted no longer; moves its end where that has moved. */
  #reviewAuthorization(now: Millis, authorization: Authorization): void {
    const at = this.#unixTime(now);
    const { accountId, resourceId, gatewayId, clientId, expiresAt } = authorization;
    const bearer = this.#directory.bearer(authorization.tokenHash);
    const resource = this.#directory.resource(resourceId);
    const isSame = bearer?.role === "client" && bearer.account.id === accountId &&
      resource !== undefined && resourceKey(resource) === authorization.resourceKey &&
      resource.siteIds.includes(this.#devices.get(gatewayId)?.ownerId ?? "");
    if (!isSame) return this.#revoke(at, authorization);
    const client = this.#switchboard.client(clientId);
    const access = this.#directory.access(at, accountId, resourceId, client?.remoteIp);
    if (access.tag === "granted") {
      const moved = { ...authorization, expiresAt: access.expiresAt };
      if (moved.expiresAt !== expiresAt) this.#authorizations.save(moved);
      if (moved.expiresAt > moved.toldExpiresAt) {
        this.#flows.prolong(now, moved, access.policyId);
      }
      return;
    }
    // Where a client that is away will connect from is not known: it keeps what it has.
    const mayStay = access.tag === "forbidden" && client === undefined && expiresAt > at;
    if (!mayStay) this.#revoke(at, authorization);
  }

  #revoke(at: UnixSeconds, authorization: Authorization): void {
    this.#authorizations.delete(authorization);
    const gateway = this.#switchboard.gateway(authorization.gatewayId);
    // What ends by itself need not be ended.
    if (!gateway || authorization.toldExpiresAt <= at) return;
    rejectAccess(this.#switchboard, gateway, authorization);
  }

  // --------------------------------------------------------------- relays

  #relaysChanged(now: Millis): void {
    this.#relaysDue = after(now, RELAYS_DEBOUNCE_MS);
  }

  /** Tells everyone whose relays went, changed, or were too few. */
  #updateRelays(): void {
    for (const peer of [...this.#switchboard.clients, ...this.#switchboard.gateways]) {
      const gone = [...peer.toldRelays.keys()].filter((id) => !this.#relays.get(id));
      for (const id of gone) peer.toldRelays.delete(id);
      const chosen = this.#relays.select(peer.device.id, new Set(peer.toldRelays.keys()));
      const isNews = chosen.some((relay) => !isSameRelay(peer.toldRelays.get(relay.id), relay));
      if (gone.length === 0 && !isNews) continue;
      const connected = this.#tellRelays(peer);
      this.#switchboard.push(peer, "relays_presence", { disconnected_ids: gone, connected });
    }
  }

  /** A peer has no relay left: it gets what there is, known to it or not. */
  #sendAllRelays(peer: ClientConnection | GatewayConnection): undefined {
    const connected = this.#tellRelays(peer);
    this.#switchboard.push(peer, "relays_presence", { disconnected_ids: [], connected });
  }

  /** The relays that a peer should use, noted as told. */
  #tellRelays(peer: ClientConnection | GatewayConnection): Json[] {
    const chosen = this.#relays.select(peer.device.id, new Set(peer.toldRelays.keys()));
    for (const relay of chosen) peer.toldRelays.set(relay.id, relay);
    const account = this.#directory.account(peer.ownerId);
    const expiresAt = account?.expiresAt ?? FAR_FUTURE;
    return relayViews(chosen, peer.device.publicKey, expiresAt);
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
