/**
 * The C library's system-call wrappers, opened once per thread.
 *
 * Results that fit are declared `i32` (64-bit ones come back as BigInt) and lengths `u32`: a call
 * with a `usize` length given as a number leaves V8's fast path, 255 ns against 140 ns for a failing
 * `read` (a BigInt length is as quick, but has to be made first). `isize` results cost 8 ns more.
 * A length that passes as `u32` is zero-extended by every 64-bit calling convention used here.
 *
 * Owns: symbols and errno. Does not own: constants and structs, which live beside their users.
 * Holds: 64-bit little-endian machines (x86-64, arm64), glibc.
 * @module
 */

const SYMBOLS = {
  // Descriptors
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  faccessat: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  write: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  /** Third argument is the address of a struct. */
  ioctl: { parameters: ["i32", "u32", "buffer"], result: "i32" },
  /** Third argument is a plain value. */
  ioctlValue: { name: "ioctl", parameters: ["i32", "u32", "u32"], result: "i32" },
  /** Missing before glibc 2.33. */
  mknod: { parameters: ["buffer", "u32", "u32"], result: "i32", optional: true },
  // Waiting
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  /** The same on another thread; errno is not to be had. */
  epollWaitElsewhere: {
    name: "epoll_wait",
    parameters: ["i32", "buffer", "i32", "i32"],
    result: "i32",
    nonblocking: true,
  },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  // Sockets
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  recvmmsg: { parameters: ["i32", "buffer", "u32", "i32", "pointer"], result: "i32" },
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
  // Memory
  memcpy: { parameters: ["pointer", "pointer", "u32"], result: "void" },
  // Process
  clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  __errno_location: { parameters: [], result: "pointer" },
} as const;

type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** The functions; using one on another system than Linux throws. */
export const libc: Libc = Deno.build.os === "linux"
  ? Deno.dlopen("libc.so.6", SYMBOLS).symbols
  : new Proxy({} as Libc, {
    get(_, name): never {
      throw new Error(`Cannot call ${String(name)}: this needs Linux, not ${Deno.build.os}`);
    },
  });

// errno has one address per thread and an isolate never changes its thread, so it is mapped once:
// reading it then costs 3 ns, against 37 ns for a fresh view.
const errnoCell = Deno.build.os === "linux" ? mapErrno() : new Int32Array(1);

function mapErrno(): Int32Array {
  const location = libc.__errno_location();
  if (location === null) throw new Error("__errno_location returned NULL");
  return new Int32Array(Deno.UnsafePointerView.getArrayBuffer(location, 4));
}

/** The reason of the last failure; valid only until the next call of this thread. */
export function errno(): number {
  return errnoCell[0]!;
}

/** `text` as a C string. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${text}\0`);
}
