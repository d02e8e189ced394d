/**
 * Packets from any thread of the process to one: a pair of connected Unix sockets (socketpair(2)).
 *
 *     ThreadPipe.open()   in one thread
 *     writer(fd).send     in any thread; a whole packet or nothing, never blocks
 *     reader(fd).receive  in the thread that has `readFd` in its epoll
 *
 * Both ends of the pair have each other as peer, so the kernel bounds what waits by bytes alone.
 * Owns: the descriptors. Does not own: what the packets hold.
 * Cost: one system call per packet, which may well hold many of something.
 * @module
 */

import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Bytes of the largest packet. */
export const MAX_PIPE_PACKET = 65_536;
/** How many bytes may wait; without privileges the system grants less. */
const WAITING_BYTES = 8 << 20;

/** The descriptors of a pipe, which are valid in every thread. */
export class ThreadPipe {
  /** Readable while packets wait. */
  readonly readFd: Fd;
  /** Where packets are put in. */
  readonly writeFd: Fd;
  #closed = false;

  private constructor(readFd: Fd, writeFd: Fd) {
    this.readFd = readFd;
    this.writeFd = writeFd;
  }

  /** Opens one. @throws OsError when the process has too many descriptors */
  static open(): ThreadPipe {
    const pair = new Memory(8);
    const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    if (libc.socketpair(AF_UNIX, type, 0, pair.bytes) < 0) throw osError("socketpair", "threads");
    const [readFd, writeFd] = [pair.u32[0] as Fd, pair.u32[1] as Fd];
    const size = new Memory(4);
    size.u32[0] = WAITING_BYTES;
    // Too small a queue costs packets, not function; the forced form needs CAP_NET_ADMIN.
    if (libc.setsockopt(writeFd, SOL_SOCKET, SO_SNDBUFFORCE, size.bytes, 4) < 0) {
      libc.setsockopt(writeFd, SOL_SOCKET, SO_SNDBUF, size.bytes, 4);
    }
    return new ThreadPipe(readFd, writeFd);
  }

  /** Closes both ends; a second call does nothing. */
  close(): void {
    if (!this.#closed) {
      closeFd(this.readFd);
      closeFd(this.writeFd);
    }
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The end that takes packets out. */
export class ThreadPipeReader {
  /** The packet of the last {@link receive}. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  readonly #fd: Fd;

  /** Borrows a {@link ThreadPipe.readFd}. */
  constructor(fd: Fd) {
    this.#fd = fd;
    this.buffer = new Memory(MAX_PIPE_PACKET).bytes;
  }

  /** Fetches the next packet into {@link buffer}; never blocks. @returns its bytes, 0 for none */
  receive(): number {
    while (true) {
      const n = libc.recv(this.#fd, this.buffer, MAX_PIPE_PACKET, MSG_DONTWAIT);
      if (n >= 0) return n;
      const error = errno();
      if (error === Errno.EAGAIN) return 0;
      if (error !== Errno.EINTR) throw new OsError("recv", "pipe between threads", error);
    }
  }
}

/** The end that puts packets in. */
export class ThreadPipeWriter {
  readonly #fd: Fd;

  /** Borrows a {@link ThreadPipe.writeFd}. */
  constructor(fd: Fd) {
    this.#fd = fd;
  }

  /**
   * Sends `packet[0, length)`, 1 to {@link MAX_PIPE_PACKET} bytes; never blocks.
   *
   * @param packet borrowed for the call
   * @returns false when too much waits already: the packet is lost
   */
  send(packet: Uint8Array<ArrayBuffer>, length: number): boolean {
    while (libc.send(this.#fd, packet, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
      const error = errno();
      if (error === Errno.EAGAIN || error === Errno.ENOBUFS) return false;
      // Nobody reads any more: the program is about to end.
      if (error === Errno.ECONNREFUSED || error === Errno.ECONNRESET) return false;
      if (error !== Errno.EINTR) throw new OsError("send", "pipe between threads", error);
    }
    return true;
  }
}
