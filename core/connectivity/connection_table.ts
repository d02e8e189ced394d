/**
 * All connections, found by whatever a datagram or a message tells about them.
 *
 * Owns: three indexes that agree. Does not own: the connections' lives; receiver indexes, which lead
 * from the WireGuard node to a tunnel and its owner.
 * @module
 */

import { Checks } from "../ice/mod.ts";
import type { StunMessage } from "../stun/mod.ts";
import type { Connection } from "./connection.ts";

/** Connections by peer, public key and ICE user name. */
export class ConnectionTable implements Iterable<Connection> {
  readonly #byPeer = new Map<string, Connection>();
  readonly #byPublicKey = new Map<string, Connection>();
  /** By the USERNAME of requests for its ICE agent. */
  readonly #byUsername = new Map<string, Connection>();
  /** Where the ICE agents of all connections keep their checks. */
  readonly checks: Checks = new Checks();

  /** All connections, oldest first. */
  [Symbol.iterator](): IterableIterator<Connection> {
    return this.#byPeer.values();
  }

  /** The connection to a peer. */
  get(peerId: string): Connection | undefined {
    return this.#byPeer.get(peerId);
  }

  /** Whether this connection, and not a successor, is the one to its peer. */
  has(connection: Connection): boolean {
    return this.#byPeer.get(connection.peerId) === connection;
  }

  /** Adds a connection; a former one to the same peer must have been deleted. */
  add(connection: Connection): void {
    this.#byPeer.set(connection.peerId, connection);
    this.#byPublicKey.set(connection.remotePublicKeyText, connection);
    this.#byUsername.set(connection.agent.username, connection);
  }

  /** Forgets a connection, leaving what another one shares with it. */
  delete(connection: Connection): void {
    deleteIf(this.#byPeer, connection.peerId, connection);
    deleteIf(this.#byPublicKey, connection.remotePublicKeyText, connection);
    deleteIf(this.#byUsername, connection.agent.username, connection);
  }

  /** The connection to the peer with this WireGuard key, in base64. */
  withPublicKey(publicKey: string): Connection | undefined {
    return this.#byPublicKey.get(publicKey);
  }

  /** Whom a STUN message is for: requests name both user fragments, responses a check of ours. */
  receiverOf(message: StunMessage): Connection | undefined {
    if (message.class === "request") return this.#byUsername.get(message.username ?? "");
    const check = this.checks.get(message.transactionId);
    return check && this.#byUsername.get(check.agent.username);
  }
}

function deleteIf<K, V>(map: Map<K, V>, key: K, value: V): void {
  if (map.get(key) === value) map.delete(key);
}
