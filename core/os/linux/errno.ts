/**
 * Error numbers by name, and the error that set-up code throws with them.
 *
 * Spec: errno(3), values of asm-generic/errno.h, which x86-64 and arm64 share.
 * @module
 */

import { errno } from "./libc.ts";

/** Error numbers that some code here tells apart or that an operator may meet. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EBADFD: 77,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETDOWN: 100,
  ENETUNREACH: 101,
  ECONNRESET: 104,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
  EHOSTDOWN: 112,
  EHOSTUNREACH: 113,
} as const;

const TEXTS: Readonly<Record<number, string>> = {
  [Errno.EPERM]: "operation not permitted",
  [Errno.ENOENT]: "no such file or entry",
  [Errno.EACCES]: "permission denied",
  [Errno.EBUSY]: "already in use",
  [Errno.EEXIST]: "exists already",
  [Errno.ENODEV]: "no such device",
  [Errno.EINVAL]: "invalid argument",
  [Errno.EMFILE]: "too many open files",
  [Errno.EROFS]: "read-only file system",
  [Errno.EOPNOTSUPP]: "not supported by this kernel",
  [Errno.EAFNOSUPPORT]: "address family not supported by this kernel",
  [Errno.EPROTONOSUPPORT]: "protocol not supported by this kernel",
  [Errno.EADDRINUSE]: "address already in use",
  [Errno.EADDRNOTAVAIL]: "address not available on this machine",
  [Errno.ENETUNREACH]: "network unreachable",
};

const NAMES = new Map<number, string>(Object.entries(Errno).map(([name, n]) => [n, name]));

/** `EAGAIN` and the like; `E<number>` for those without a name here. */
export function errnoName(number: number): string {
  return NAMES.get(number) ?? `E${number}`;
}

/** The system refused a call during set-up. The data path returns codes instead. */
export class OsError extends Error {
  /** Always `OsError`. */
  override readonly name = "OsError";
  /** Symbolic error, such as `EADDRINUSE`. */
  readonly code: string;

  /** Describes a failed call in one line that an operator can act on. */
  constructor(
    /** What was called, such as `bind` or `ioctl TUNSETIFF`. */
    readonly call: string,
    /** What it was called on: a path, an address, an interface. */
    readonly subject: string,
    /** Positive error number. */
    readonly errno: number,
    /** How to mend it, appended to the message. */
    hint?: string,
  ) {
    const code = errnoName(errno);
    const text = TEXTS[errno];
    super(
      `${call} ${subject}: ${text ? `${text} (${code})` : code}${
        hint === undefined ? "" : `; ${hint}`
      }`,
    );
    this.code = code;
  }
}

/** The error for the call that has just failed; reads errno before anything else runs. */
export function osError(call: string, subject: string): OsError {
  const number = errno();
  return new OsError(call, subject, number);
}
