/**
 * Packet filter tables of our own, by netlink: neither `nft` nor `iptables` need be installed.
 *
 * Each table is written in one transaction, so packets meet all of it or none.
 *
 * Owns: a netlink socket, and the tables it was told to own. Does not own: anybody else's tables.
 * @module
 */

import { Errno, OsError } from "./errno.ts";
import { NetlinkWriter } from "./netlink_message.ts";
import { type NetlinkAnswer, NetlinkProtocol, NetlinkSocket } from "./netlink_socket.ts";
import {
  NfBatchWriter,
  type NfFamily,
  type NfTable,
  parseTable,
  writeTableQuery,
} from "./nf_tables_codec.ts";

/** A connection to the kernel's packet filter. Every call is synchronous. */
export class NfTables {
  readonly #socket: NetlinkSocket;
  readonly #owned = new Set<string>();

  /** Opens a connection. @throws OsError EPROTONOSUPPORT when the kernel has no netfilter */
  constructor() {
    this.#socket = NetlinkSocket.open(NetlinkProtocol.Netfilter);
  }

  /** Names of all tables of the IP families. */
  tables(): { readonly family: NfFamily; readonly name: string }[] {
    const w = new NetlinkWriter();
    writeTableQuery(w, this.#socket.nextSequence());
    const answer = this.#socket.request(w);
    if (answer.errno !== 0) throw failure("list", "tables", answer);
    return answer.messages.flatMap((message) => parseTable(message) ?? []);
  }

  /**
   * Writes a table, in place of one of that name, whoever left it.
   *
   * @param owned the kernel removes the table when this connection closes, even by a crash; where it
   *   is too old for that (before 5.12) the table is written like any other
   * @returns whether the kernel will remove it with the connection
   * @throws OsError EPERM, EOPNOTSUPP (no nf_tables), ENOENT (no such kind of chain or action)
   */
  replaceTable(table: NfTable, owned = false): boolean {
    if (owned) {
      const errors = this.#write(table, true);
      if (errors.length === 0) return true;
      const { errno } = errors[0]!;
      if (errno !== Errno.EOPNOTSUPP && errno !== Errno.EINVAL) {
        throw failure("write table", table.name, errors[0]!);
      }
    }
    const [error] = this.#write(table, false);
    if (error !== undefined) throw failure("write table", table.name, error);
    return false;
  }

  /** Removes a table; "absent" when there was none. */
  removeTable(family: NfFamily, name: string): "done" | "absent" {
    const batch = this.#batch().removeTable(family, name);
    const [error] = this.#socket.transact(batch.finish());
    if (error !== undefined && error.errno !== Errno.ENOENT) {
      throw failure("remove table", name, error);
    }
    this.#owned.delete(`${family} ${name}`);
    return error === undefined ? "done" : "absent";
  }

  /** Closes the connection; tables that it owns go with it. */
  close(): void {
    this.#socket.close();
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #write(table: NfTable, owned: boolean): NetlinkAnswer[] {
    const key = `${table.family} ${table.name}`;
    const batch = this.#batch()
      // Creating it first makes removing it succeed; the owner's flag cannot change on the way.
      .table(table.family, table.name, this.#owned.has(key))
      .removeTable(table.family, table.name)
      .table(table.family, table.name, owned);
    for (const chain of table.chains) batch.chain(table, chain);
    const errors = this.#socket.transact(batch.finish());
    if (errors.length === 0) {
      if (owned) this.#owned.add(key);
      else this.#owned.delete(key);
    }
    return errors;
  }

  #batch(): NfBatchWriter {
    return new NfBatchWriter(new NetlinkWriter(), () => this.#socket.nextSequence());
  }
}

function failure(action: string, subject: string, answer: NetlinkAnswer): OsError {
  const hint = answer.errno === Errno.EPERM
    ? "run as root or grant CAP_NET_ADMIN, and stop the process that owns the table"
    : answer.text;
  return new OsError(`nf_tables: ${action}`, subject, answer.errno, hint);
}
