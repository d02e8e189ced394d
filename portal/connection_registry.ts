/**
 * Who is connected and who is online, and what is to be sent to them.
 *
 * "Online" means: has joined its channel. Of a device and of a relay one connection is online.
 * @module
 */

import type {
  ClientConnection,
  Connection,
  ConnectionId,
  GatewayConnection,
  RelayConnection,
} from "./connection.ts";
import { type PhoenixMessage, pushFrame, type Reply, replyFrame } from "./phoenix.ts";
import type { Json } from "./views.ts";

/** What the owner of a portal has to do, or may want to know. */
export type PortalEvent =
  | {
    /** A text frame is to be sent. */
    readonly tag: "send";
    /** To whom. */
    readonly connection: ConnectionId;
    /** JSON. */
    readonly frame: string;
  }
  | {
    /** A connection is to be closed, after what was to be sent; it is forgotten already. */
    readonly tag: "close";
    /** Which. */
    readonly connection: ConnectionId;
    /** WebSocket close code. */
    readonly code: number;
    /** Short text. */
    readonly reason: string;
  }
  | {
    /** News for the log; holds no secret. */
    readonly tag: "log";
    /** How much it matters. */
    readonly level: "debug" | "info" | "warn";
    /** Constant sentence. */
    readonly message: string;
    /** What varies. */
    readonly fields: Readonly<Record<string, string | number | undefined>>;
  };

/** WebSocket close codes (RFC 6455 §7.4.1, RFC 6455 registry). */
export const CLOSE = {
  normal: 1000,
  protocolError: 1002,
  unsupportedData: 1003,
  policyViolation: 1008,
  tooBig: 1009,
  serviceRestart: 1012,
} as const;

/** Connections and the events for their owner. */
export class ConnectionRegistry {
  readonly #connections = new Map<ConnectionId, Connection>();
  readonly #clients = new Map<string, ClientConnection>();
  readonly #gateways = new Map<string, GatewayConnection>();
  readonly #relays = new Map<string, RelayConnection>();
  readonly #events: PortalEvent[] = [];
  #lastId = 0;

  /** A name for a new connection. */
  newId(): ConnectionId {
    return ++this.#lastId as ConnectionId;
  }

  /** Everyone who is connected, joined or not. */
  get connections(): readonly Connection[] {
    return [...this.#connections.values()];
  }

  /** Clients that are online. */
  get clients(): readonly ClientConnection[] {
    return [...this.#clients.values()];
  }

  /** Gateways that are online. */
  get gateways(): readonly GatewayConnection[] {
    return [...this.#gateways.values()];
  }

  /** Relays that are online. */
  get relays(): readonly RelayConnection[] {
    return [...this.#relays.values()];
  }

  /** The connection with this name. */
  get(id: ConnectionId): Connection | undefined {
    return this.#connections.get(id);
  }

  /** The client device's connection, if it is online. */
  client(deviceId: string): ClientConnection | undefined {
    return this.#clients.get(deviceId);
  }

  /** The gateway device's connection, if it is online. */
  gateway(deviceId: string): GatewayConnection | undefined {
    return this.#gateways.get(deviceId);
  }

  /** The relay's connection, if it is online. */
  relay(id: string): RelayConnection | undefined {
    return this.#relays.get(id);
  }

  /** Adds a peer that is not online yet. */
  add(connection: Connection): void {
    this.#connections.set(connection.id, connection);
  }

  /** The connection whose place this one would take by going online. */
  rival(connection: Connection): Connection | undefined {
    const rival = connection.role === "client"
      ? this.#clients.get(connection.device.id)
      : connection.role === "gateway"
      ? this.#gateways.get(connection.device.id)
      : this.#relays.get(connection.relay?.id ?? "");
    return rival === connection ? undefined : rival;
  }

  /** Lets a connection be online; its rival must be gone. */
  setOnline(connection: Connection): void {
    connection.isJoined = true;
    if (connection.role === "client") this.#clients.set(connection.device.id, connection);
    else if (connection.role === "gateway") this.#gateways.set(connection.device.id, connection);
    else if (connection.relay) this.#relays.set(connection.relay.id, connection);
  }

  /** Ends being online; the connection stays. */
  setOffline(connection: Connection): void {
    connection.isJoined = false;
    if (connection.role === "client") dropIf(this.#clients, connection.device.id, connection);
    else if (connection.role === "gateway") {
      dropIf(this.#gateways, connection.device.id, connection);
    } else if (connection.relay) dropIf(this.#relays, connection.relay.id, connection);
  }

  /** Forgets a connection that must not be online any more. */
  remove(connection: Connection): void {
    this.#connections.delete(connection.id);
  }

  /** Sends a message of our own accord to the channel of the peer's role. */
  push(connection: Connection, event: string, payload: Json): void {
    const frame = pushFrame(connection.role, event, payload);
    this.#events.push({ tag: "send", connection: connection.id, frame });
  }

  /** Answers the message that carried `ref`. */
  reply(connection: Connection, topic: string, ref: PhoenixMessage["ref"], reply: Reply): void {
    const frame = replyFrame(topic, ref, reply);
    this.#events.push({ tag: "send", connection: connection.id, frame });
  }

  /** Asks for the end of a connection. */
  close(connection: Connection, code: number, reason: string): void {
    this.#events.push({ tag: "close", connection: connection.id, code, reason });
  }

  /** News for the log. */
  log(
    level: "debug" | "info" | "warn",
    message: string,
    fields: Readonly<Record<string, string | number | undefined>> = {},
  ): void {
    this.#events.push({ tag: "log", level, message, fields });
  }

  /** Whether {@link takeEvent} has something. */
  get hasEvents(): boolean {
    return this.#events.length > 0;
  }

  /** The oldest event. */
  takeEvent(): PortalEvent | undefined {
    return this.#events.shift();
  }
}

function dropIf<C>(map: Map<string, C>, key: string, value: C): void {
  if (map.get(key) === value) map.delete(key);
}

/** How a connection is called in the log. */
export function logFields(connection: Connection): Record<string, string | number | undefined> {
  const name = connection.role === "relay" ? connection.params.name : connection.device.name;
  const id = connection.role === "relay" ? connection.relay?.id : connection.device.id;
  return { role: connection.role, name, id, connection: connection.id };
}
