/**
 * Devices and authorizations in an SQLite file.
 *
 * Reading happens once, at start, and fails loudly. Writing does not fail the caller: what is in
 * memory goes on working, and `onError` hears that it will be lost with the process.
 * @module
 */

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { ConfigError } from "@firezone/core/cli";
import type { UnixSeconds } from "@firezone/core/units";
import type { Authorization, Device, DeviceKind, Store } from "./device.ts";

/** Number of the schema below; a file with a higher one belongs to a later release. */
const SCHEMA_VERSION = 1;

const SCHEMA = `
  CREATE TABLE devices (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    external_id TEXT NOT NULL,
    address_offset INTEGER NOT NULL UNIQUE,
    psk_base BLOB NOT NULL,
    name TEXT NOT NULL,
    public_key TEXT NOT NULL,
    last_seen_at INTEGER NOT NULL,
    UNIQUE (kind, owner_id, external_id)
  ) STRICT;
  CREATE TABLE authorizations (
    client_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    resource_key TEXT NOT NULL,
    token_hash TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    told_expires_at INTEGER NOT NULL,
    PRIMARY KEY (client_id, resource_id, gateway_id)
  ) STRICT;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

const SAVE_DEVICE = `
  INSERT OR REPLACE INTO devices (id, kind, owner_id, external_id, address_offset, psk_base, name,
    public_key, last_seen_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const SAVE_AUTHORIZATION = `
  INSERT OR REPLACE INTO authorizations (client_id, resource_id, gateway_id, id, account_id,
    resource_key, token_hash, expires_at, told_expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`;
const DELETE_AUTHORIZATION = `
  DELETE FROM authorizations WHERE client_id = ? AND resource_id = ? AND gateway_id = ?`;

/** A {@link Store} in a file. */
export class SqliteStore implements Store, Disposable {
  readonly #database: DatabaseSync;
  readonly #saveDevice: StatementSync;
  readonly #saveAuthorization: StatementSync;
  readonly #deleteAuthorization: StatementSync;
  readonly #onError: (error: unknown) => void;

  /**
   * Opens the file, made with mode 0600 if it is not there, because preshared keys follow from it.
   *
   * @param onError hears of every write that failed
   * @throws {@link ConfigError} when the file cannot be used
   */
  constructor(path: string, onError: (error: unknown) => void) {
    this.#onError = onError;
    let database: DatabaseSync | undefined;
    try {
      if (path !== ":memory:") {
        Deno.openSync(path, { write: true, create: true, mode: 0o600 }).close();
      }
      database = new DatabaseSync(path);
      prepareSchema(database);
      this.#saveDevice = database.prepare(SAVE_DEVICE);
      this.#saveAuthorization = database.prepare(SAVE_AUTHORIZATION);
      this.#deleteAuthorization = database.prepare(DELETE_AUTHORIZATION);
    } catch (error) {
      database?.close();
      const reason = error instanceof Error ? error.message : String(error);
      throw new ConfigError(`Cannot use database ${path}: ${reason}`, { cause: error });
    }
    this.#database = database;
  }

  /** {@inheritDoc Store.devices} */
  devices(): readonly Device[] {
    return this.#rows("SELECT * FROM devices ORDER BY rowid").map((row) => ({
      id: row.id as string,
      kind: row.kind as DeviceKind,
      ownerId: row.owner_id as string,
      externalId: row.external_id as string,
      addressOffset: row.address_offset as number,
      pskBase: row.psk_base as Uint8Array,
      name: row.name as string,
      publicKey: row.public_key as string,
      lastSeenAt: row.last_seen_at as UnixSeconds,
    }));
  }

  /** {@inheritDoc Store.authorizations} */
  authorizations(): readonly Authorization[] {
    return this.#rows("SELECT * FROM authorizations ORDER BY rowid").map((row) => ({
      id: row.id as string,
      clientId: row.client_id as string,
      accountId: row.account_id as string,
      gatewayId: row.gateway_id as string,
      resourceId: row.resource_id as string,
      resourceKey: row.resource_key as string,
      tokenHash: row.token_hash as string,
      expiresAt: row.expires_at as UnixSeconds,
      toldExpiresAt: row.told_expires_at as UnixSeconds,
    }));
  }

  /** {@inheritDoc Store.saveDevice} */
  saveDevice(d: Device): void {
    this.#attempt(() =>
      this.#saveDevice.run(
        d.id,
        d.kind,
        d.ownerId,
        d.externalId,
        d.addressOffset,
        d.pskBase,
        d.name,
        d.publicKey,
        d.lastSeenAt,
      )
    );
  }

  /** {@inheritDoc Store.saveAuthorization} */
  saveAuthorization(a: Authorization): void {
    this.#attempt(() =>
      this.#saveAuthorization.run(
        a.clientId,
        a.resourceId,
        a.gatewayId,
        a.id,
        a.accountId,
        a.resourceKey,
        a.tokenHash,
        a.expiresAt,
        a.toldExpiresAt,
      )
    );
  }

  /** {@inheritDoc Store.deleteAuthorization} */
  deleteAuthorization(a: Authorization): void {
    this.#attempt(() => this.#deleteAuthorization.run(a.clientId, a.resourceId, a.gatewayId));
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#database.close();
  }

  #rows(query: string): Record<string, unknown>[] {
    return this.#database.prepare(query).all() as Record<string, unknown>[];
  }

  #attempt(write: () => unknown): void {
    try {
      write();
    } catch (error) {
      this.#onError(error);
    }
  }
}

function prepareSchema(database: DatabaseSync): void {
  database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;");
  database.exec("PRAGMA busy_timeout = 2000;");
  const row = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (row.user_version === 0) database.exec(`BEGIN; ${SCHEMA} COMMIT;`);
  else if (row.user_version !== SCHEMA_VERSION) {
    throw new Error(`expected schema ${SCHEMA_VERSION}, found ${row.user_version}`);
  }
}
