/**
 * A counter that wakes a thread blocked in epoll (eventfd(2)).
 * @module
 */

import { Errno, OsError, osError } from "./errno.ts";
import { closeFd, type Fd } from "./fd.ts";
import { errno, libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** A wake-up call between threads of one process. Signals that nobody drained yet merge into one. */
export class EventFd {
  /** Readable while a signal waits. */
  readonly fd: Fd;
  readonly #owned: boolean;
  readonly #value = new Memory(8);
  readonly #one = new Memory(8);
  #closed = false;

  private constructor(fd: Fd, owned: boolean) {
    this.fd = fd;
    this.#owned = owned;
    this.#one.u32[0] = 1;
  }

  /** Opens one. @throws OsError when the process has too many descriptors */
  static open(): EventFd {
    const fd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) throw osError("eventfd", "counter");
    return new EventFd(fd as Fd, true);
  }

  /** The other thread's handle on a descriptor that was opened elsewhere; closing it leaves it open. */
  static borrow(fd: number): EventFd {
    return new EventFd(fd as Fd, false);
  }

  /** Wakes whoever waits for it. */
  signal(): void {
    // EAGAIN means that the counter is full, so a wake-up is due anyway.
    while (libc.write(this.fd, this.#one.bytes, 8) < 0) {
      const error = errno();
      if (error === Errno.EAGAIN) return;
      if (error !== Errno.EINTR) throw new OsError("write", "eventfd", error);
    }
  }

  /** Takes the signals that wait; true when there was one. */
  drain(): boolean {
    while (true) {
      if (libc.read(this.fd, this.#value.bytes, 8) === 8) return true;
      const error = errno();
      if (error === Errno.EAGAIN) return false;
      if (error !== Errno.EINTR) throw new OsError("read", "eventfd", error);
    }
  }

  /** Closes it if it was opened here; a second call does nothing. */
  close(): void {
    if (this.#owned && !this.#closed) closeFd(this.fd);
    this.#closed = true;
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
