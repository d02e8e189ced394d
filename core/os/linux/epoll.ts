/**
 * Waiting for several descriptors at once (epoll(7), level-triggered).
 *
 * Owns: the interest list. Does not own: the descriptors in it.
 * Cost: `wait` allocates nothing.
 * @module
 */

import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const EPOLL_CLOEXEC = 0o2000000;
const EPOLL_CTL_ADD = 1;
const EPOLL_CTL_DEL = 2;
const EPOLL_CTL_MOD = 3;
const EPOLLIN = 0x001;
const EPOLLOUT = 0x004;
const EPOLLERR = 0x008;
const EPOLLHUP = 0x010;

// struct epoll_event (sys/epoll.h); packed on x86-64 only:
//   x86-64  other
//     0       0     4  events  EPOLL* bits
//     4       8     8  data    ours; the token is in the low half
//    12      16        size
const EVENT_SIZE = Deno.build.arch === "x86_64" ? 12 : 16;
const DATA_OFFSET = EVENT_SIZE - 8;

/** What to be woken for; errors and hang-ups always wake. */
export interface Interest {
  /** Data, or a connection, waits to be read. */
  readonly readable?: boolean;
  /** There is room to write. */
  readonly writable?: boolean;
}

/** An epoll instance. Events of the last {@link wait} are read by index. */
export class Epoll {
  readonly #fd: Fd;
  readonly #capacity: number;
  readonly #events: Memory;
  readonly #request = new Memory(EVENT_SIZE);
  #closed = false;

  /** Opens an instance.
   * @param capacity events that one wait reports at most; the rest come with the next
   * @throws OsError when the process has too many descriptors */
  constructor(capacity = 64) {
    const fd = libc.epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) throw osError("epoll_create1", "instance");
    this.#fd = fd as Fd;
    this.#capacity = capacity;
    this.#events = new Memory(capacity * EVENT_SIZE);
  }

  /** Watches a descriptor.
   * @param token u32 that {@link token} answers with
   * @throws OsError EEXIST when it is watched already, EPERM for regular files */
  add(fd: Fd, token: number, interest: Interest): void {
    this.#control(EPOLL_CTL_ADD, fd, token, interest);
  }

  /** Changes token and interest of a watched descriptor. @throws OsError ENOENT when it is not watched */
  modify(fd: Fd, token: number, interest: Interest): void {
    this.#control(EPOLL_CTL_MOD, fd, token, interest);
  }

  /** Stops watching. @throws OsError ENOENT when it is not watched */
  remove(fd: Fd): void {
    this.#control(EPOLL_CTL_DEL, fd, 0, {});
  }

  /**
   * Blocks this thread until something happens.
   *
   * @param timeoutMs how long at most; rounded up, so a deadline has passed when it returns; below
   *   zero or infinite: for ever
   * @returns the number of events; 0 after the time or a signal
   */
  wait(timeoutMs: number): number {
    // A deadline months away must not overflow into "for ever" or "at once".
    const timeout = timeoutMs < 0 || timeoutMs === Infinity
      ? -1
      : Math.min(Math.ceil(timeoutMs), 0x7fffffff);
    const n = libc.epoll_wait(this.#fd, this.#events.bytes, this.#capacity, timeout);
    if (n >= 0) return n;
    const error = errno();
    if (error === Errno.EINTR) return 0;
    throw new OsError("epoll_wait", "instance", error);
  }

  /**
   * Waits on a thread of the runtime's pool until something happens, for the main thread, which must
   * not block. One such wait at a time; descriptors may be added and removed meanwhile.
   *
   * @returns the number of events; 0 after a signal
   */
  async waitElsewhere(): Promise<number> {
    const n = await libc.epollWaitElsewhere(this.#fd, this.#events.bytes, this.#capacity, -1);
    return Math.max(n, 0);
  }

  /** Token of event `i` of the last wait. */
  token(i: number): number {
    return this.#events.view.getUint32(i * EVENT_SIZE + DATA_OFFSET, true);
  }

  /** Whether event `i` has something to read, which includes an error to be read. */
  isReadable(i: number): boolean {
    return (this.#bits(i) & (EPOLLIN | EPOLLERR | EPOLLHUP)) !== 0;
  }

  /** Whether event `i` has room to write. */
  isWritable(i: number): boolean {
    return (this.#bits(i) & EPOLLOUT) !== 0;
  }

  /** Whether event `i` is an error or a hang-up. */
  isFailed(i: number): boolean {
    return (this.#bits(i) & (EPOLLERR | EPOLLHUP)) !== 0;
  }

  /** Closes the instance; a second call does nothing. */
  close(): void {
    if (!this.#closed) closeFd(this.#fd);
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #bits(i: number): number {
    return this.#events.view.getUint32(i * EVENT_SIZE, true);
  }

  #control(operation: number, fd: Fd, token: number, interest: Interest): void {
    const bits = (interest.readable ? EPOLLIN : 0) | (interest.writable ? EPOLLOUT : 0);
    this.#request.view.setUint32(0, bits, true);
    this.#request.view.setUint32(DATA_OFFSET, token, true);
    if (libc.epoll_ctl(this.#fd, operation, fd, this.#request.bytes) < 0) {
      throw osError("epoll_ctl", `descriptor ${fd}`);
    }
  }
}
