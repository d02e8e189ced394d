/**
 * Outgoing UDP and TCP sockets for the main thread, with a firewall mark.
 *
 * The runtime's own sockets cannot be marked, and only a marked one is kept out of the tunnel by the
 * routing rule. They also hide the ICMP errors that tell at once that a server is not there.
 *
 *     sockets ──► epoll ──► one wait on a thread of the pool, while there are sockets ──► handlers
 *
 * Owns: its sockets. Cost: about ten system calls per UDP exchange, two of them waits elsewhere.
 * @module
 */

import type { SocketAddress } from "../../ip/address.ts";
import { Epoll } from "./epoll.ts";
import { Errno, errnoName, OsError, osError } from "./errno.ts";
import { EventFd } from "./eventfd.ts";
import { closeFd, type Fd } from "./fd.ts";
import { cString, errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";
import {
  AF_INET,
  AF_INET6,
  SOCKADDR_SIZE,
  sockaddrLength,
  writeSockaddr,
} from "./socket_address.ts";

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const SO_MARK = 36;
const IPPROTO_IP = 0;
const IP_RECVERR = 11;
const IPPROTO_IPV6 = 41;
const IPV6_RECVERR = 25;
const MSG_NOSIGNAL = 0x4000;
const SHUT_WR = 1;
/** Where `sockaddr_in6` has its scope. */
const SCOPE_ID = 24;
const EINPROGRESS = 115;
const RECEIVE_SIZE = 65_536;
const WAKE_TOKEN = 0;

/** Where to and how. */
export interface DialOptions {
  /** Datagrams or a stream. */
  readonly transport: "udp" | "tcp";
  /** The one that is talked to. */
  readonly to: SocketAddress;
  /** Firewall mark of everything that is sent (needs CAP_NET_ADMIN). */
  readonly mark?: number | undefined;
}

/** Told of what happens on a socket, from later turns of the event loop. */
export interface DialHandlers {
  /** The stream is connected; not told of UDP. */
  connected?(): void;
  /** Bytes of the stream, or one datagram; lent for this call. */
  received(bytes: Uint8Array): void;
  /**
   * The socket is closed and nothing more is told.
   *
   * @param error name of the reason; undefined when the other side ended the stream in order
   */
  ended(error: string | undefined): void;
}

/** A socket that is being connected, or is. */
export interface DialedSocket {
  /**
   * Sends a datagram, or bytes of the stream as soon as there is room.
   *
   * @param bytes not to be changed until `done` is called
   */
  send(bytes: Uint8Array, done?: () => void): void;
  /** Ends our side of the stream after what was sent. */
  end(): void;
  /** Stops telling of bytes, so that the other side has to wait. */
  pause(): void;
  /** Goes on after {@link pause}. */
  resume(): void;
  /** Closes it; the handlers hear nothing more. */
  close(): void;
}

/** Opens sockets and waits for all of them. */
export class Dialer {
  readonly #epoll = new Epoll();
  readonly #wake = EventFd.open();
  readonly #sockets = new Map<number, OpenSocket>();
  readonly #buffer = new Memory(RECEIVE_SIZE).bytes;
  #nextToken = WAKE_TOKEN + 1;
  #running: Promise<void> | undefined;
  #closed = false;

  /** A dialer without sockets. @throws OsError when the process has too many descriptors */
  constructor() {
    this.#epoll.add(this.#wake.fd, WAKE_TOKEN, { readable: true });
  }

  /**
   * Opens a socket towards one address. Datagrams of others are not received.
   *
   * @throws OsError EPERM (mark without CAP_NET_ADMIN), ENETUNREACH, EMFILE, EAFNOSUPPORT, ENODEV
   */
  dial(options: DialOptions, handlers: DialHandlers): DialedSocket {
    if (this.#closed) throw new Error("Cannot dial: the dialer is closed");
    const fd = openSocket(options);
    const token = this.#nextToken++;
    const socket = new OpenSocket(fd, options.transport, handlers, {
      watch: (interest) => this.#epoll.modify(fd, token, interest),
      release: () => this.#release(token, fd),
    });
    try {
      this.#epoll.add(fd, token, { readable: true, writable: options.transport === "tcp" });
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#sockets.set(token, socket);
    this.#running ??= this.#run();
    return socket;
  }

  /** Closes all sockets without telling their handlers. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const socket of [...this.#sockets.values()]) socket.close();
    await this.#running;
    this.#epoll.close();
    this.#wake.close();
  }

  async #run(): Promise<void> {
    while (this.#sockets.size > 0) {
      const count = await this.#epoll.waitElsewhere();
      for (let i = 0; i < count; i++) {
        const token = this.#epoll.token(i);
        if (token === WAKE_TOKEN) this.#wake.drain();
        // One that was closed since is not there any more.
        else {
          this.#sockets.get(token)
            ?.handle(this.#epoll.isReadable(i), this.#epoll.isWritable(i), this.#buffer);
        }
      }
    }
    this.#running = undefined;
  }

  #release(token: number, fd: Fd): void {
    this.#sockets.delete(token);
    closeFd(fd);
    if (this.#sockets.size === 0) this.#wake.signal();
  }
}

/** What a socket asks of its dialer. */
interface Owner {
  watch(interest: { readonly readable: boolean; readonly writable: boolean }): void;
  release(): void;
}

class OpenSocket implements DialedSocket {
  readonly #fd: Fd;
  readonly #transport: "udp" | "tcp";
  readonly #handlers: DialHandlers;
  readonly #owner: Owner;
  readonly #queue: { bytes: Uint8Array; done: (() => void) | undefined }[] = [];
  #isConnected: boolean;
  #isPaused = false;
  #isEnding = false;
  #isOver = false;

  constructor(fd: Fd, transport: "udp" | "tcp", handlers: DialHandlers, owner: Owner) {
    this.#fd = fd;
    this.#transport = transport;
    this.#handlers = handlers;
    this.#owner = owner;
    this.#isConnected = transport === "udp";
  }

  send(bytes: Uint8Array, done?: () => void): void {
    if (this.#isOver || this.#isEnding) return;
    if (this.#transport === "udp") {
      const error = libc.send(this.#fd, bytes, bytes.length, MSG_NOSIGNAL) < 0 ? errno() : 0;
      // What does not fit into the kernel's queue is lost, as any datagram may be.
      if (error !== 0 && error !== Errno.EAGAIN && error !== Errno.ENOBUFS) {
        queueMicrotask(() => this.#finish(errnoName(error)));
      } else done?.();
      return;
    }
    this.#queue.push({ bytes, done });
    if (this.#queue.length === 1) this.#flush();
  }

  end(): void {
    if (this.#isOver || this.#isEnding) return;
    this.#isEnding = true;
    this.#flush();
  }

  pause(): void {
    this.#isPaused = true;
    this.#watch();
  }

  resume(): void {
    this.#isPaused = false;
    this.#watch();
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#owner.release();
  }

  /** Does what the socket is ready for; `buffer` is received into and lent to the handlers. */
  handle(isReadable: boolean, isWritable: boolean, buffer: Uint8Array): void {
    if (!this.#isConnected && (isReadable || isWritable)) {
      const error = socketError(this.#fd);
      if (error !== 0) return this.#finish(errnoName(error));
      this.#isConnected = true;
      this.#handlers.connected?.();
      if (this.#isOver) return;
    }
    if (isWritable) this.#flush();
    if (isReadable && !this.#isOver) this.#receive(buffer);
  }

  #receive(buffer: Uint8Array): void {
    const length = libc.recv(this.#fd, buffer, buffer.length, 0);
    if (length > 0 || length === 0 && this.#transport === "udp") {
      return this.#handlers.received(buffer.subarray(0, length));
    }
    if (length === 0) return this.#finish(undefined);
    const error = errno();
    if (error !== Errno.EAGAIN && error !== Errno.EINTR) this.#finish(errnoName(error));
  }

  #flush(): void {
    if (!this.#isConnected || this.#isOver) return;
    for (let first = this.#queue[0]; first !== undefined; first = this.#queue[0]) {
      const sent = libc.send(this.#fd, first.bytes, first.bytes.length, MSG_NOSIGNAL);
      if (sent < 0) {
        const error = errno();
        // Other errors come with the next event, after what there is to read.
        if (error === Errno.EAGAIN || error === Errno.EINTR) break;
        return this.#watch();
      }
      if (sent < first.bytes.length) first.bytes = first.bytes.subarray(sent);
      else {
        this.#queue.shift();
        first.done?.();
        if (this.#isOver) return;
      }
    }
    if (this.#queue.length === 0 && this.#isEnding) libc.shutdown(this.#fd, SHUT_WR);
    this.#watch();
  }

  #watch(): void {
    if (this.#isOver) return;
    const writable = !this.#isConnected || this.#queue.length > 0;
    this.#owner.watch({ readable: !this.#isPaused, writable });
  }

  #finish(error: string | undefined): void {
    if (this.#isOver) return;
    this.close();
    this.#handlers.ended(error);
  }
}

function openSocket({ transport, to, mark }: DialOptions): Fd {
  const type = (transport === "udp" ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const subject = `${transport.toUpperCase()} ${to}`;
  const fd = libc.socket(to.family === 4 ? AF_INET : AF_INET6, type, 0) as Fd;
  if (fd < 0) throw osError("socket", subject);
  try {
    if (mark !== undefined && !setOption(fd, SOL_SOCKET, SO_MARK, mark)) {
      const number = errno();
      const hint = number === Errno.EPERM ? "run as root or grant CAP_NET_ADMIN" : undefined;
      throw new OsError("setsockopt SO_MARK", subject, number, hint);
    }
    // Otherwise only that the port is closed is told, not that the host or its network is away. The
    // queue of errors is never read: the first one ends the socket.
    if (transport === "udp") {
      const [level, name] = to.family === 4
        ? [IPPROTO_IP, IP_RECVERR]
        : [IPPROTO_IPV6, IPV6_RECVERR];
      if (!setOption(fd, level, name, 1)) throw osError("setsockopt RECVERR", subject);
    }
    const name = new Memory(SOCKADDR_SIZE);
    writeSockaddr(name.bytes, 0, to);
    if (to.ip.zone !== "") name.u32[SCOPE_ID / 4] = interfaceIndex(to.ip.zone);
    if (libc.connect(fd, name.bytes, sockaddrLength(to.family)) < 0 && errno() !== EINPROGRESS) {
      throw osError("connect", subject);
    }
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** The number of an interface. @throws OsError ENODEV when it is gone */
function interfaceIndex(zone: string): number {
  if (/^\d+$/.test(zone)) return Number(zone);
  const index = libc.if_nametoindex(cString(zone));
  if (index === 0) throw osError("if_nametoindex", zone);
  return index;
}

function setOption(fd: Fd, level: number, name: number, number: number): boolean {
  const value = new Memory(4);
  value.u32[0] = number;
  return libc.setsockopt(fd, level, name, value.bytes, 4) === 0;
}

/** The pending error of a socket, 0 for none; reading clears it. */
function socketError(fd: Fd): number {
  const value = new Memory(4);
  const length = new Memory(4);
  length.u32[0] = 4;
  if (libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, value.bytes, length.bytes) < 0) return errno();
  return value.u32[0]!;
}
