/**
 * From a granted ALLOCATE to open sockets, and back.
 *
 *     allocate ─ command: open ─┬─ takeOpened ─► add ─ free, expiry ─ command: close ─► gone
 *                     ▲         └─ handleFailed ─ the last attempt ───────────────────► gone
 *                     └─ another port ─┘
 *
 * Owns: ports, what waits for its sockets, and {@link AllocationTable}. Does not own: who may
 * allocate, and what clients are told, see `server.ts`.
 * @module
 */

import type { Family, SocketAddress } from "@firezone/core/ip";
import type { RandomBytes } from "@firezone/core/random";
import type { StunMessage } from "@firezone/core/stun";
import type { Millis, Port } from "@firezone/core/units";
import { AllocationTable, type RelayAllocation } from "./allocation_table.ts";
import { PortPool, type PortRange } from "./port_pool.ts";

/** Ports tried before a client is told that there are none. */
export const MAX_BIND_ATTEMPTS = 4;

/** What the owner must do with sockets. In each family of the list. */
export type RelayCommand = {
  /** Open a socket on the port and report the outcome, or close it. */
  readonly tag: "create-allocation" | "free-allocation";
  /** Names the allocation in reports; never used twice. */
  readonly id: number;
  /** The same in all families. */
  readonly port: Port;
  /** IPv4 before IPv6. */
  readonly families: readonly Family[];
  /** The user whose only allocation it is; undefined where a user may have several. */
  readonly soleOf: string | undefined;
};

/** An ALLOCATE that was granted. */
export interface GrantedAllocation {
  /** To be answered. */
  readonly request: StunMessage;
  /** Who asks. */
  readonly client: SocketAddress;
  /** On whose behalf. */
  readonly username: string;
  /** The same, where the user may have but one. */
  readonly soleOf: string | undefined;
  /** Signs the answer. */
  readonly key: Uint8Array;
  /** IPv4 before IPv6. */
  readonly families: readonly Family[];
  /** As granted. */
  readonly lifetimeSeconds: number;
  /** Whether the port must be even. */
  readonly isEven: boolean;
}

/** The same with a port, waiting for its sockets. */
export interface PendingAllocation extends GrantedAllocation {
  /** The same in all families. */
  readonly port: Port;
  /** Ports tried so far, this one included. */
  readonly attempt: number;
}

/** See the head of this file. */
export class Allocator {
  /** Allocations whose sockets are open. */
  readonly table: AllocationTable = new AllocationTable();
  readonly #ports: PortPool;
  readonly #pending = new Map<number, PendingAllocation>();
  readonly #commands: RelayCommand[] = [];
  #nextId = 1;

  /** All ports of the range are free. */
  constructor(range: PortRange, random: RandomBytes) {
    this.#ports = new PortPool(range, random);
  }

  /** Number of allocations, those whose sockets are being opened included. */
  get size(): number {
    return this.table.size + this.#pending.size;
  }

  /** Allocations whose sockets are being opened, by id. */
  get pending(): ReadonlyMap<number, PendingAllocation> {
    return this.#pending;
  }

  /** Ports that nobody has. */
  get freePorts(): number {
    return this.#ports.free;
  }

  /** The earliest deadline; the distant past while a command waits. */
  get nextDeadline(): Millis {
    return this.#commands.length > 0 ? 0 as Millis : this.table.nextDeadline;
  }

  /** The next thing to do with sockets. */
  pollCommand(): RelayCommand | undefined {
    return this.#commands.shift();
  }

  /** Whether sockets are being opened for a client. */
  isWaitedForBy(client: SocketAddress): boolean {
    for (const pending of this.#pending.values()) if (pending.client.equals(client)) return true;
    return false;
  }

  /** Has sockets opened, once what the user had is closed. @returns false when no port is free */
  allocate(granted: GrantedAllocation): boolean {
    if (granted.soleOf !== undefined) this.#freeUser(granted.soleOf);
    const port = this.#takePort(granted.isEven);
    if (port === undefined) return false;
    this.#open({ ...granted, port, attempt: 1 });
    return true;
  }

  /**
   * The sockets of `id` are open: {@link add} it now.
   *
   * @returns undefined when it was given up meanwhile
   */
  takeOpened(id: number): PendingAllocation | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }

  /** Enters what {@link takeOpened} returned into the table. @param response the answer to it */
  add(id: number, opened: PendingAllocation, response: Uint8Array, expiresAt: Millis): void {
    const { client, username, soleOf, port, families, request: { transactionId } } = opened;
    const allocation = { client, username, soleOf, port, families, transactionId };
    this.table.add({ id, ...allocation, response, expiresAt });
  }

  /**
   * The sockets of `id` could not be opened; other ports are tried.
   *
   * @returns what to refuse, when enough have been
   */
  handleFailed(id: number): PendingAllocation | undefined {
    const pending = this.takeOpened(id);
    if (pending === undefined) return undefined;
    // Another program may hold this one port: draw again before giving this one back.
    const mayRetry = pending.attempt < MAX_BIND_ATTEMPTS;
    const port = mayRetry ? this.#takePort(pending.isEven) : undefined;
    this.#ports.giveBack(pending.port);
    if (port === undefined) return pending;
    this.#open({ ...pending, port, attempt: pending.attempt + 1 });
    return undefined;
  }

  /** The user whose only allocation `id` is has made a newer one with a sibling. */
  handleSuperseded(id: number, username: string): void {
    const existing = this.table.soleOf(username);
    // The order may have crossed the end of that allocation, or a still newer one.
    if (existing?.id === id) this.free(existing);
  }

  /** Ends what has expired. */
  handleTimeout(now: Millis): void {
    for (let due; (due = this.table.takeDue(now)) !== undefined;) {
      if (due.tag === "allocation-expired") this.#close(due.allocation.id, due.allocation);
    }
  }

  /** Ends an allocation of the table. */
  free(allocation: RelayAllocation): void {
    this.table.remove(allocation);
    this.#close(allocation.id, allocation);
  }

  /** Ends what this user has, open or on its way. */
  #freeUser(username: string): void {
    const existing = this.table.soleOf(username);
    if (existing) this.free(existing);
    for (const [id, pending] of this.#pending) {
      if (pending.soleOf !== username) continue;
      this.#pending.delete(id);
      this.#close(id, pending);
    }
  }

  #takePort(isEven: boolean): Port | undefined {
    return isEven ? this.#ports.takeEven() : this.#ports.take();
  }

  #open(pending: PendingAllocation): void {
    const id = this.#nextId++;
    this.#pending.set(id, pending);
    const { port, families, soleOf } = pending;
    this.#commands.push({ tag: "create-allocation", id, port, families, soleOf });
  }

  #close(id: number, { port, families, soleOf }: PendingAllocation | RelayAllocation): void {
    this.#ports.giveBack(port);
    this.#commands.push({ tag: "free-allocation", id, port, families, soleOf });
  }
}
