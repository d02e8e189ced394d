/**
 * Tells systemd how the service is doing (sd_notify(3)).
 *
 * A message is one datagram of `NAME=value` lines to the Unix socket in `NOTIFY_SOCKET`, whose name
 * begins with `@` when it is an abstract one.
 *
 *     struct sockaddr_un (sys/un.h), at most 110 bytes
 *        0    2  sun_family  AF_UNIX
 *        2  108  sun_path    a path with its NUL, or NUL and an abstract name without one
 *
 * Cost: a socket per message, of which there are a few per minute at most.
 * @module
 */

import { libc } from "./libc.ts";
import { closeFd, type Fd } from "./fd.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;
const MSG_DONTWAIT = 0x40;
const MAX_PATH = 107;
const VARIABLES = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] as const;

/** The service manager that started this process. */
export class ServiceManager {
  readonly #socket: string;
  /** How often it wants to hear from us, in milliseconds; undefined when it does not. */
  readonly watchdogMs: number | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Use {@link fromEnvironment}.
   * @param socket as in `NOTIFY_SOCKET`
   * @param watchdogMs see the property */
  constructor(socket: string, watchdogMs?: number) {
    this.#socket = socket;
    this.watchdogMs = watchdogMs;
  }

  /**
   * The service manager that the environment names, which is cleared of it so that no child speaks
   * for us.
   *
   * @returns undefined when there is none, or one that cannot be spoken to (on another machine)
   */
  static fromEnvironment(): ServiceManager | undefined {
    const [socket, microseconds, pid] = VARIABLES.map((name) => {
      const value = Deno.env.get(name);
      Deno.env.delete(name);
      return value;
    });
    if (!socket || Deno.build.os !== "linux" || !/^[/@]./.test(socket)) return undefined;
    const isForUs = pid === undefined || pid === `${Deno.pid}`;
    const watchdogMs = isForUs && /^[1-9]\d{0,14}$/.test(microseconds ?? "")
      ? Number(microseconds) / 1000
      : undefined;
    return new ServiceManager(socket, watchdogMs);
  }

  /** The service does what it is for. */
  ready(): boolean {
    return this.send("READY=1");
  }

  /** The service is about to end. */
  stopping(): boolean {
    this.close();
    return this.send("STOPPING=1");
  }

  /** What `systemctl status` shows. */
  status(text: string): boolean {
    return this.send(`STATUS=${text.replace(/\s+/g, " ")}`);
  }

  /**
   * Tells the watchdog that we live, twice as often as it asks, if `isAlive` resolves in time.
   *
   * Nothing happens without a watchdog.
   */
  startWatchdog(isAlive: () => Promise<unknown>): void {
    if (this.watchdogMs === undefined || this.#timer !== undefined) return;
    let isAsking = false;
    const report = async () => {
      if (isAsking) return;
      isAsking = true;
      await isAlive().then(() => this.send("WATCHDOG=1"), () => {});
      isAsking = false;
    };
    void report();
    this.#timer = setInterval(report, this.watchdogMs / 2);
  }

  /** Sends assignments; answers whether the service manager took them. */
  send(assignments: string): boolean {
    const address = toSockaddr(this.#socket);
    if (!address) return false;
    const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) as Fd;
    if (fd < 0) return false;
    try {
      if (libc.connect(fd, address, address.length) < 0) return false;
      const bytes = new TextEncoder().encode(assignments);
      return libc.send(fd, bytes, bytes.length, MSG_NOSIGNAL | MSG_DONTWAIT) === bytes.length;
    } finally {
      closeFd(fd);
    }
  }

  /** Reports to the watchdog no more. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

function toSockaddr(socket: string): Uint8Array<ArrayBuffer> | undefined {
  const name = new TextEncoder().encode(socket);
  if (name.length > MAX_PATH) return undefined;
  const isAbstract = socket.startsWith("@");
  const address = new Uint8Array(2 + name.length + (isAbstract ? 0 : 1));
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(name, 2);
  if (isAbstract) address[2] = 0;
  return address;
}
