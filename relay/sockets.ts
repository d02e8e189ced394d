/**
 * The sockets of a worker: one per family for clients, one per family and allocation for peers.
 *
 *     token, port ──► socket ─┬─ udp      to read from
 *                             └─ sender   with a queue for when it is full
 *
 * All of them receive into the same slots and send through the same structs: a relay with thousands
 * would else spend more memory on these than on anything.
 *
 * Owns: descriptors, and which token names which in epoll. Does not own: when they are read.
 * @module
 */

import { type Family, type IpAddress, SocketAddress, SocketAddressCache } from "@firezone/core/ip";
import { type Epoll, ReceiveSlots, SendStructs, UdpSocket } from "@firezone/core/os/linux";
import type { RelayCommand } from "./allocator.ts";
import { type BufferedSender, BufferedSenders } from "./buffered_sender.ts";

/** Which sockets there are to be. */
export interface RelaySocketsOptions {
  /** Address to bind to in each family that is served. */
  readonly bind: ReadonlyMap<Family, IpAddress>;
  /**
   * Address to send from, where the sockets are bound to all of them: a machine with several must
   * not answer from another one than it was asked at. Left out, the kernel chooses by route.
   */
  readonly sendFrom: ReadonlyMap<Family, IpAddress>;
  /** Port for clients. */
  readonly listenPort: number;
}

/** A socket to read from, and the queue through which it sends. */
export interface RelaySocket {
  /** Reads. */
  readonly udp: UdpSocket;
  /** Sends. */
  readonly sender: BufferedSender;
}

/** The sockets of an allocation. */
interface AllocationSockets {
  readonly id: number;
  readonly byFamily: ReadonlyMap<Family, RelaySocket>;
}

/** Messages per read; with GRO each may be dozens of datagrams. */
export const SLOTS = 64;
/** Added to the port for IPv6; port 0 stands for the listen socket. */
const IPV6_TOKEN = 0x10000;
const LISTEN_BUFFER = 16 << 20;
const ALLOCATION_BUFFER = 2 << 20;
/** What may wait for a full socket. */
const LISTEN_QUEUE = 8 << 20;
const ALLOCATION_QUEUE = 1 << 20;

/** See the head of this file. */
export class RelaySockets {
  /** What was sent late or not at all. */
  readonly senders: BufferedSenders = new BufferedSenders();
  /** Addresses of those who send here. */
  readonly addresses: SocketAddressCache = new SocketAddressCache();
  readonly #options: RelaySocketsOptions;
  readonly #epoll: Epoll;
  readonly #slots = new ReceiveSlots(SLOTS);
  readonly #structs = { 4: new SendStructs(4), 6: new SendStructs(6) } as const;
  readonly #sendFrom = new Map<Family, SocketAddress>();
  readonly #listen = new Map<Family, RelaySocket>();
  readonly #allocations = new Map<number, AllocationSockets>();

  /** No sockets. @param epoll tells when they are readable, by tokens below 2^17 */
  constructor(epoll: Epoll, options: RelaySocketsOptions) {
    this.#epoll = epoll;
    this.#options = options;
    for (const [family, address] of options.sendFrom) {
      this.#sendFrom.set(family, new SocketAddress(address, options.listenPort));
    }
  }

  /** What all sockets receive into. */
  get buffer(): Uint8Array<ArrayBuffer> {
    return this.#slots.buffer;
  }

  /** Those for clients. */
  get listening(): Iterable<RelaySocket> {
    return this.#listen.values();
  }

  /** The one for clients in a family. */
  listen(family: Family): RelaySocket | undefined {
    return this.#listen.get(family);
  }

  /** That of an allocation in a family. */
  allocation(port: number, family: Family): RelaySocket | undefined {
    return this.#allocations.get(port)?.byFamily.get(family);
  }

  /** The one that a token names; undefined when it was closed meanwhile. */
  byToken(token: number): RelaySocket | undefined {
    const family = (token & IPV6_TOKEN) === 0 ? 4 : 6;
    const port = portOf(token);
    return port === 0 ? this.listen(family) : this.allocation(port, family);
  }

  /** Opens those for clients. @param isShared whether siblings have the same port @throws OsError */
  openListen(isShared: boolean): void {
    const { bind, listenPort } = this.#options;
    for (const family of bind.keys()) {
      const socket = this.#open(family, listenPort, LISTEN_BUFFER, LISTEN_QUEUE, isShared);
      this.#listen.set(family, socket);
    }
  }

  /** Has epoll tell of clients from now on. @param forget whether to throw away what waits */
  watchListen(forget: boolean): void {
    for (const [family, { udp }] of this.#listen) {
      if (forget) { for (let i = 0; i < 1000 && udp.receive() > 0; i++); }
      this.#epoll.add(udp.fd, tokenOf(family, 0), { readable: true });
    }
  }

  /** Opens all of an allocation or none of them. @throws OsError */
  openAllocation({ id, port, families }: RelayCommand): void {
    const byFamily = new Map<Family, RelaySocket>();
    try {
      for (const family of families) {
        const socket = this.#open(family, port, ALLOCATION_BUFFER, ALLOCATION_QUEUE, false);
        byFamily.set(family, socket);
        this.#epoll.add(socket.udp.fd, tokenOf(family, port), { readable: true });
      }
    } catch (error) {
      for (const socket of byFamily.values()) closeSocket(socket);
      throw error;
    }
    this.#allocations.set(port, { id, byFamily });
  }

  /** Closes those of an allocation; false when it was given up before they were opened. */
  closeAllocation({ id, port }: RelayCommand): boolean {
    const sockets = this.#allocations.get(port);
    if (sockets?.id !== id) return false;
    this.#allocations.delete(port);
    for (const socket of sockets.byFamily.values()) closeSocket(socket);
    return true;
  }

  /** Closes all. */
  close(): void {
    for (const { byFamily } of this.#allocations.values()) {
      for (const socket of byFamily.values()) closeSocket(socket);
    }
    for (const socket of this.#listen.values()) closeSocket(socket);
  }

  #open(
    family: Family,
    port: number,
    bufferSize: number,
    queueSize: number,
    isShared: boolean,
  ): RelaySocket {
    const udp = UdpSocket.open({
      family,
      address: this.#options.bind.get(family)!,
      port,
      receiveBuffer: bufferSize,
      sendBuffer: bufferSize,
      reusePort: isShared,
      localAddresses: false,
      slots: this.#slots,
      structs: this.#structs[family],
      addresses: this.addresses,
    });
    return { udp, sender: this.senders.open(udp, this.#sendFrom.get(family), queueSize) };
  }
}

/** The port of the allocation whose socket a token names; 0 for those for clients. */
export function portOf(token: number): number {
  return token & 0xffff;
}

/** The kernel takes closed descriptors out of the interest list. */
function closeSocket({ udp, sender }: RelaySocket): void {
  sender.close();
  udp.close();
}

function tokenOf(family: Family, port: number): number {
  return family === 4 ? port : port | IPV6_TOKEN;
}
