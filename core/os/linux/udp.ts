/**
 * UDP sockets for the data path: recvmmsg with GRO, sendmsg with GSO, non-blocking.
 *
 * One socket serves one IP family (IPv6 ones are v6-only), so every address it yields is of that
 * family. Each message tells to which of our addresses it came, and a send may choose one.
 *
 * Owns: the descriptor and its options. The work is done by `udp_receiver.ts` and `udp_sender.ts`.
 * @module
 */

import { type Family, IpAddress, SocketAddress, SocketAddressCache } from "../../ip/address.ts";
import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import type { GatherBatch } from "./gather_batch.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import {
  AF_INET,
  AF_INET6,
  readSockaddr,
  SOCKADDR_SIZE,
  sockaddrLength,
  writeSockaddr,
} from "./socket_address.ts";
import {
  IP_PKTINFO,
  IP_RECVTOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVPKTINFO,
  IPV6_RECVTCLASS,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "./udp_constants.ts";
import { DatagramReceiver, type ReceiveCounters, ReceiveSlots } from "./udp_receiver.ts";
import {
  DatagramSender,
  type SendCounters,
  type SendResult,
  type SendStructs,
} from "./udp_sender.ts";

const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_REUSEPORT = 15;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;
const IPV6_V6ONLY = 26;
const IPV6_ADDR_PREFERENCES = 72;
const IPV6_PREFER_SRC_PUBLIC = 2;

/** Messages that one receive call fetches at most, each of up to 64 KiB. */
const DEFAULT_SLOTS = 8;

// Arguments of the calls that open a socket. Made once: a relay opens thousands.
const scratch = new Memory(SOCKADDR_SIZE);
const scratchLength = new Memory(4);

/** How to open a {@link UdpSocket}. */
export interface UdpSocketOptions {
  /** IP version it serves. */
  readonly family: Family;
  /** Address to bind to, of that family; all of the machine's if absent. */
  readonly address?: IpAddress;
  /** Port to bind to; 0 takes any free one. */
  readonly port: number;
  /** Firewall mark of everything it sends (needs CAP_NET_ADMIN). */
  readonly mark?: number;
  /** Wanted size of the kernel's receive queue in bytes; the system may grant less. */
  readonly receiveBuffer?: number;
  /** Wanted size of the kernel's send queue in bytes; the system may grant less. */
  readonly sendBuffer?: number;
  /** Whether other sockets with this option may share the port, the kernel spreading senders over them. */
  readonly reusePort?: boolean;
  /** Where messages are received into, to share it between sockets; eight of its own if absent. */
  readonly slots?: ReceiveSlots;
  /** What is sent through, to share it between sockets of this family; its own if absent. */
  readonly structs?: SendStructs;
  /** Whether the kernel may glue datagrams of one sender together; true if absent. */
  readonly receiveOffload?: boolean;
  /** Whether {@link UdpSocket.local} is wanted, which costs a little per message; true if absent. */
  readonly localAddresses?: boolean;
  /** Where address objects come from, to share them between sockets; one of its own if absent. */
  readonly addresses?: SocketAddressCache;
}

/** A bound UDP socket. */
export class UdpSocket {
  /** For epoll; readable while messages wait. */
  readonly fd: Fd;
  /** IP version it serves. */
  readonly family: Family;
  /** What it is bound to; the address may be unspecified, the port is known. */
  readonly bound: SocketAddress;
  /** Receive slots; a message's bytes stay until the next {@link receive} into them. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly #receiver: DatagramReceiver;
  readonly #sender: DatagramSender;
  #closed = false;

  private constructor(fd: Fd, bound: SocketAddress, options: UdpSocketOptions) {
    this.fd = fd;
    this.family = options.family;
    this.bound = bound;
    const cache = options.addresses ?? new SocketAddressCache();
    const slots = options.slots ?? new ReceiveSlots(DEFAULT_SLOTS);
    this.#receiver = new DatagramReceiver(fd, options.family, bound, cache, slots);
    this.buffer = this.#receiver.buffer;
    this.#sender = new DatagramSender(fd, options.family, options.structs);
  }

  /**
   * Opens and binds a socket.
   *
   * @throws OsError EADDRINUSE, EADDRNOTAVAIL, EACCES (port below 1024), EPERM (mark without
   *   CAP_NET_ADMIN), EAFNOSUPPORT (the machine lacks the IP version)
   */
  static open(options: UdpSocketOptions): UdpSocket {
    const { family } = options;
    const address = new SocketAddress(options.address ?? unspecified(family), options.port);
    if (address.family !== family) {
      throw new RangeError(`Cannot bind an IPv${family} socket to ${address}`);
    }
    const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    const fd = libc.socket(family === 4 ? AF_INET : AF_INET6, type, 0) as Fd;
    if (fd < 0) throw osError("socket", `UDP over IPv${family}`);
    try {
      configure(fd, options);
      writeSockaddr(scratch.bytes, 0, address);
      if (libc.bind(fd, scratch.bytes, sockaddrLength(family)) < 0) {
        throw osError("bind", `UDP ${address}`);
      }
      return new UdpSocket(fd, address.port === 0 ? boundAddress(fd, family) : address, options);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
  }

  /** Port it is bound to. */
  get localPort(): number {
    return this.bound.port;
  }

  /** What was received so far. */
  get receiveCounters(): Readonly<ReceiveCounters> {
    return this.#receiver.counters;
  }

  /** What was sent so far. */
  get sendCounters(): Readonly<SendCounters> {
    return this.#sender.counters;
  }

  /** Bytes of the last send that need not be sent again. */
  get accepted(): number {
    return this.#sender.accepted;
  }

  /** Receives into other slots, of the same memory, from now on; {@link start} and the like tell of these. */
  use(slots: ReceiveSlots): void {
    this.#receiver.use(slots);
  }

  /** Fetches waiting messages into the slots; never blocks. @returns how many, 0 for none */
  receive(): number {
    return this.#receiver.receive();
  }

  /** Where message `i` starts in {@link buffer}. */
  start(i: number): number {
    return this.#receiver.start(i);
  }

  /** Bytes of message `i`, all its datagrams together. */
  length(i: number): number {
    return this.#receiver.length(i);
  }

  /** Bytes of each datagram in message `i`; the last may be shorter. At least 1. */
  segmentSize(i: number): number {
    return this.#receiver.segmentSize(i);
  }

  /** Who sent message `i`. */
  from(i: number): SocketAddress {
    return this.#receiver.from(i);
  }

  /** Our address, with our port, that message `i` was sent to. */
  local(i: number): SocketAddress {
    return this.#receiver.local(i);
  }

  /** ECN field of message `i`, 0 to 3. */
  ecn(i: number): number {
    return this.#receiver.ecn(i);
  }

  /** Sends one datagram, or several of one size; see {@link DatagramSender.send}. */
  send(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    ecn: number,
  ): SendResult {
    return this.#sender.send(source, destination, buf, start, length, segmentSize, ecn);
  }

  /** Sends datagrams scattered over a buffer; see {@link DatagramSender.sendGathered}. */
  sendGathered(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    batch: GatherBatch,
    ecn: number,
  ): SendResult {
    return this.#sender.sendGathered(source, destination, batch, ecn);
  }

  /** Closes the socket; a second call does nothing. */
  close(): void {
    if (!this.#closed) closeFd(this.fd);
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function unspecified(family: Family): IpAddress {
  return new IpAddress(new Uint8Array(family === 4 ? 4 : 16));
}

function configure(fd: Fd, options: UdpSocketOptions): void {
  const subject = `UDP over IPv${options.family}`;
  const require = (level: number, option: number, value: number, name: string) => {
    if (!setOption(fd, level, option, value)) throw osError(`setsockopt ${name}`, subject);
  };
  if (options.reusePort) require(SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
  if (options.mark !== undefined && !setOption(fd, SOL_SOCKET, SO_MARK, options.mark)) {
    const number = errno();
    const hint = number === Errno.EPERM ? "run as root or grant CAP_NET_ADMIN" : undefined;
    throw new OsError("setsockopt SO_MARK", subject, number, hint);
  }
  // Too small a queue costs packets, not function: not fatal. The forced forms need CAP_NET_ADMIN.
  if (options.receiveBuffer !== undefined) {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, options.receiveBuffer) ||
      setOption(fd, SOL_SOCKET, SO_RCVBUF, options.receiveBuffer);
  }
  if (options.sendBuffer !== undefined) {
    setOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, options.sendBuffer) ||
      setOption(fd, SOL_SOCKET, SO_SNDBUF, options.sendBuffer);
  }
  // Kernels before 5.0 lack it and deliver datagram by datagram.
  if (options.receiveOffload !== false) setOption(fd, SOL_UDP, UDP_GRO, 1);
  const wantsLocal = options.localAddresses !== false;
  if (options.family === 4) {
    if (wantsLocal) require(IPPROTO_IP, IP_PKTINFO, 1, "IP_PKTINFO");
    setOption(fd, IPPROTO_IP, IP_RECVTOS, 1);
  } else {
    require(IPPROTO_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    if (wantsLocal) require(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    setOption(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
    // A temporary address would end long-lived paths when it expires.
    setOption(fd, IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, IPV6_PREFER_SRC_PUBLIC);
  }
}

function setOption(fd: Fd, level: number, option: number, value: number): boolean {
  scratch.u32[0] = value;
  return libc.setsockopt(fd, level, option, scratch.bytes, 4) === 0;
}

function boundAddress(fd: Fd, family: Family): SocketAddress {
  scratchLength.u32[0] = SOCKADDR_SIZE;
  if (libc.getsockname(fd, scratch.bytes, scratchLength.bytes) < 0) {
    throw osError("getsockname", "UDP socket");
  }
  return readSockaddr(new SocketAddressCache(1), family, scratch.bytes, 0);
}
