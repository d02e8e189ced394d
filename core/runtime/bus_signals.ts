/**
 * Hears what NetworkManager and systemd-resolved say on the system bus, where they are.
 *
 *     AUTH EXTERNAL ──► BEGIN ──► Hello, AddMatch … ──► PropertiesChanged, again and again
 *
 * The kernel tells of routes and addresses, but not that another network looks like the one before,
 * nor that resolved has other servers. A machine without a bus, or without these services, does not
 * tell; a bus that goes away is looked for again.
 * @module
 */

import { DBUS, type DbusMessage, takeMessage, writeMessage } from "../os/linux/mod.ts";
import type { Logger } from "../telemetry/logging.ts";

/** Whose changes are heard. */
export type BusService = "network-manager" | "resolved";

interface Watched {
  readonly name: string;
  readonly path: string;
  /** Properties of which one must be among those that changed. */
  readonly properties: readonly string[];
}

const SERVICES: Readonly<Record<BusService, Watched>> = {
  "network-manager": {
    name: "org.freedesktop.NetworkManager",
    path: "/org/freedesktop/NetworkManager",
    properties: ["PrimaryConnection"],
  },
  "resolved": {
    name: "org.freedesktop.resolve1",
    path: "/org/freedesktop/resolve1",
    properties: ["DNS", "DNSEx", "CurrentDNSServer", "CurrentDNSServerEx"],
  },
};

const PROPERTIES_INTERFACE = "org.freedesktop.DBus.Properties";
const RETRY_MS = 60_000;
const MAX_PENDING = 1 << 20;

/** What a {@link BusSignals} is made of. */
export interface BusSignalsOptions {
  /** Path of the bus's socket. */
  readonly socket: string;
  /** A service says that its state is another. */
  readonly onChange: (service: BusService) => void;
  /** Where the log lines go. */
  readonly log: Logger;
}

/** See the head of this file. */
export class BusSignals {
  readonly #options: BusSignalsOptions;
  readonly #running: Promise<void>;
  #connection: Deno.Conn | undefined;
  #wake = () => {};
  #isClosed = false;

  /** Begins to listen. */
  constructor(options: BusSignalsOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Hears nothing any more. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#disconnect();
    this.#wake();
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      try {
        await this.#listen();
      } catch (error) {
        if (this.#isClosed) return;
        this.#options.log.debug("No system bus", { reason: (error as Error).message });
      }
      this.#disconnect();
      if (!this.#isClosed) await this.#pause();
    }
  }

  async #listen(): Promise<void> {
    const connection = await Deno.connect({ transport: "unix", path: this.#options.socket });
    this.#connection = connection;
    if (this.#isClosed) return;
    await writeAll(connection, new TextEncoder().encode(`\0AUTH EXTERNAL ${hexOf(userId())}\r\n`));
    const { text, rest } = await readUntil(connection, "\r\n");
    if (!text.startsWith("OK ")) throw new Error(`the bus answered ${text}`);
    await writeAll(connection, new TextEncoder().encode("BEGIN\r\n"));
    await this.#subscribe(connection);
    for (let pending = rest;;) {
      pending = this.#takeAll(pending);
      const more = await read(connection);
      if (more === undefined) throw new Error("the bus closed the connection");
      pending = joined(pending, more);
      if (pending.length > MAX_PENDING) throw new Error("the bus sends too much");
    }
  }

  async #subscribe(connection: Deno.Conn): Promise<void> {
    const bus = { path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };
    const call = (serial: number, member: string, argument?: string) =>
      writeAll(
        connection,
        writeMessage(serial, {
          ...bus,
          type: DBUS.methodCall,
          destination: bus.interface,
          member,
          signature: argument === undefined ? "" : "s",
          body: (writer) => argument !== undefined && writer.text(argument),
        }),
      );
    await call(1, "Hello");
    for (const [i, { name, path }] of Object.values(SERVICES).entries()) {
      const rule = `type='signal',sender='${name}',path='${path}',` +
        `interface='${PROPERTIES_INTERFACE}',member='PropertiesChanged'`;
      await call(i + 2, "AddMatch", rule);
    }
  }

  #takeAll(bytes: Uint8Array): Uint8Array {
    for (let rest = bytes;;) {
      const taken = takeMessage(rest);
      if (taken.tag === "incomplete") return rest;
      if (taken.tag === "malformed") throw new Error("the bus sends what is no message");
      rest = rest.subarray(taken.length);
      this.#handle(taken.message);
    }
  }

  #handle(message: DbusMessage): void {
    if (message.type !== DBUS.signal) return;
    for (const [service, { path, properties }] of Object.entries(SERVICES)) {
      const isIt = message.path === path && properties.some((one) => message.changed.includes(one));
      if (isIt) this.#options.onChange(service as BusService);
    }
  }

  #disconnect(): void {
    try {
      this.#connection?.close();
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
    this.#connection = undefined;
  }

  async #pause(): Promise<void> {
    const timer = setTimeout(() => this.#wake(), RETRY_MS);
    await new Promise<void>((resolve) => this.#wake = resolve);
    clearTimeout(timer);
  }
}

function userId(): string {
  return String(Deno.uid() ?? 0);
}

/** The bus wants the user's number in the hexadecimal of its digits. */
function hexOf(text: string): string {
  return [...text].map((char) => char.charCodeAt(0).toString(16)).join("");
}

async function read(connection: Deno.Conn): Promise<Uint8Array | undefined> {
  const buffer = new Uint8Array(16_384);
  const length = await connection.read(buffer);
  return length === null ? undefined : buffer.subarray(0, length);
}

/** Reads a line; `rest` is what came behind it. */
async function readUntil(
  connection: Deno.Conn,
  end: string,
): Promise<{ text: string; rest: Uint8Array }> {
  for (let bytes: Uint8Array = new Uint8Array(0); bytes.length < 4096;) {
    const more = await read(connection);
    if (more === undefined) break;
    bytes = joined(bytes, more);
    const at = new TextDecoder("latin1").decode(bytes).indexOf(end);
    if (at < 0) continue;
    const text = new TextDecoder("latin1").decode(bytes.subarray(0, at));
    return { text, rest: bytes.subarray(at + end.length) };
  }
  throw new Error("the bus does not answer");
}

async function writeAll(connection: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
