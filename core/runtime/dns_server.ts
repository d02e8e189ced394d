/**
 * Listens for DNS messages on some addresses, UDP and TCP, with the runtime's sockets on the main
 * thread.
 *
 * UDP is `node:dgram`: `Deno.listenDatagram` still asks for a flag (`--unstable-net`) that compiled
 * programs and their users would have to carry.
 *
 * A listener that cannot be opened is tried again every second: the address may come later, or
 * whoever holds the port may go.
 * @module
 */

import type { Socket } from "node:dgram";
import { frameMessage, MessageReader } from "../dns/mod.ts";
import type { IpAddress } from "../ip/mod.ts";
import type { Logger } from "../telemetry/mod.ts";

/** Gives an answer to whoever asked; does nothing when they are gone. */
export type Reply = (message: Uint8Array) => void;

/** How a message travels. */
export type DnsTransport = "udp" | "tcp";

/** What a server is made of. */
export interface DnsServerOptions {
  /**
   * Takes a query, which is not lent; there need not be an answer.
   *
   * @param to the address that was asked
   * @param from text of the address that asks
   */
  readonly onQuery: (
    reply: Reply,
    transport: DnsTransport,
    to: IpAddress,
    message: Uint8Array,
    from: string,
  ) => void;
  /** Called whenever {@link DnsServer.isListening} changed. */
  readonly onListening?: (() => void) | undefined;
  /** Where problems go. */
  readonly log: Logger;
  /** 53 if absent; for tests. */
  readonly port?: number | undefined;
}

const DNS_PORT = 53;
const RETRY_MS = 1000;
/** Streams per address at the same time; more are turned away. */
const MAX_STREAMS = 64;
const STREAM_IDLE_MS = 10_000;
/** Queries of one stream that wait for answers; after that it is not read. */
const MAX_PIPELINED = 32;

/** See the head of this file. */
export class DnsServer {
  readonly #options: DnsServerOptions;
  readonly #listeners = new Map<string, AddressListener>();

  /** Listens nowhere yet. */
  constructor(options: DnsServerOptions) {
    this.#options = options;
  }

  /** Whether every address is listened on, and there is one. */
  get isListening(): boolean {
    const all = [...this.#listeners.values()];
    return all.length > 0 && all.every((listener) => listener.isOpen);
  }

  /** Listens on these addresses and no others. */
  listen(addresses: readonly IpAddress[]): void {
    const wanted = new Map(addresses.map((ip) => [ip.text, ip]));
    for (const [text, listener] of this.#listeners) {
      if (wanted.has(text)) continue;
      this.#listeners.delete(text);
      void listener.close();
    }
    for (const [text, ip] of wanted) {
      if (!this.#listeners.has(text)) {
        this.#listeners.set(text, new AddressListener(ip, this.#options));
      }
    }
    this.#options.onListening?.();
  }

  /** Stops listening. */
  async close(): Promise<void> {
    const all = [...this.#listeners.values()];
    this.#listeners.clear();
    await Promise.all(all.map((listener) => listener.close()));
  }
}

/** The sockets of one address. */
class AddressListener {
  readonly #ip: IpAddress;
  readonly #options: DnsServerOptions;
  readonly #streams = new Set<DnsStream>();
  #udp: Socket | undefined;
  #tcp: Deno.TcpListener | undefined;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #lastProblem = "";
  #isClosed = false;
  #opening: Promise<void>;

  constructor(ip: IpAddress, options: DnsServerOptions) {
    this.#ip = ip;
    this.#options = options;
    this.#opening = this.#open();
  }

  get isOpen(): boolean {
    return this.#udp !== undefined && this.#tcp !== undefined;
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#retry);
    await this.#opening;
    for (const stream of this.#streams) stream.close();
    this.#tcp?.close();
    this.#tcp = undefined;
    const udp = this.#udp;
    this.#udp = undefined;
    if (udp) await new Promise<void>((resolve) => udp.close(() => resolve()));
  }

  async #open(): Promise<void> {
    const port = this.#options.port ?? DNS_PORT;
    try {
      this.#udp ??= await this.#bindUdp(port);
      if (!this.#tcp) {
        this.#tcp = Deno.listen({ hostname: this.#ip.text, port: this.#udp.address().port });
        void this.#accept(this.#tcp);
      }
      if (this.#lastProblem !== "") {
        this.#options.log.info("The resolver listens now", { address: this.#ip.text });
      }
      if (!this.#isClosed) this.#options.onListening?.();
    } catch (error) {
      if (this.#isClosed) return;
      this.#report(error as Error);
      this.#retry = setTimeout(() => this.#opening = this.#open(), RETRY_MS);
    }
  }

  async #bindUdp(port: number): Promise<Socket> {
    // Loaded here, because the data plane's worker imports this room and needs no sockets of Node's.
    const { default: dgram } = await import("node:dgram");
    const type = this.#ip.family === 4 ? "udp4" : "udp6";
    return await new Promise((resolve, reject) => {
      const socket = dgram.createSocket({ type, ipv6Only: type === "udp6" });
      socket.once("error", (error) => {
        socket.close();
        reject(error);
      });
      socket.bind(port, this.#ip.text, () => {
        socket.removeAllListeners("error");
        // An answer that could not be sent is a datagram that was lost.
        socket.on("error", (error) => {
          this.#options.log.debug("A socket of the resolver failed", { error: error.message });
        });
        socket.on("message", (bytes, from) => {
          const reply: Reply = (message) => {
            if (this.#udp === socket) socket.send(message, from.port, from.address);
          };
          this.#options.onQuery(reply, "udp", this.#ip, new Uint8Array(bytes), from.address);
        });
        resolve(socket);
      });
    });
  }

  async #accept(listener: Deno.TcpListener): Promise<void> {
    while (!this.#isClosed) {
      try {
        const connection = await listener.accept();
        if (this.#streams.size >= MAX_STREAMS) {
          connection.close();
          continue;
        }
        const from = connection.remoteAddr.hostname;
        const stream = new DnsStream(connection, (reply, message) => {
          this.#options.onQuery(reply, "tcp", this.#ip, message, from);
        });
        this.#streams.add(stream);
        void stream.run().finally(() => this.#streams.delete(stream));
      } catch (error) {
        if (this.#isClosed || error instanceof Deno.errors.BadResource) return;
        // Out of descriptors, most likely: others may be given back soon.
        this.#report(error as Error);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  #report(error: Error): void {
    if (error.message === this.#lastProblem) return;
    this.#lastProblem = error.message;
    this.#options.log.warn("The resolver cannot listen", {
      address: this.#ip.text,
      error: error.message,
      ...hintFor(error),
    });
  }
}

/** One TCP connection. */
class DnsStream {
  readonly #connection: Deno.TcpConn;
  readonly #onQuery: (reply: Reply, message: Uint8Array) => void;
  readonly #reader = new MessageReader();
  #idle: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #goOn: (() => void) | undefined;
  #isClosed = false;

  constructor(connection: Deno.TcpConn, onQuery: (reply: Reply, message: Uint8Array) => void) {
    this.#connection = connection;
    this.#onQuery = onQuery;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#idle);
    this.#goOn?.();
    this.#connection.close();
  }

  /** Serves until either side has had enough. */
  async run(): Promise<void> {
    const buffer = new Uint8Array(4096);
    try {
      while (!this.#isClosed) {
        this.#postpone();
        const length = await this.#connection.read(buffer);
        if (length === null) break;
        this.#reader.push(buffer.subarray(0, length));
        for (let message; (message = this.#reader.poll()) !== undefined;) await this.#take(message);
      }
      // Whoever ended their side may still wait for answers; the idle time limits that.
      while (this.#waiting > 0 && !this.#isClosed) await this.#pause();
      await this.#writing;
    } catch {
      // The other side reset the connection, or we closed it.
    } finally {
      this.close();
    }
  }

  async #take(message: Uint8Array): Promise<void> {
    if (this.#isClosed) return;
    this.#waiting++;
    let isAnswered = false;
    this.#onQuery((answer) => {
      if (isAnswered) return;
      isAnswered = true;
      this.#waiting--;
      this.#goOn?.();
      this.#write(answer);
    }, message);
    while (this.#waiting >= MAX_PIPELINED && !this.#isClosed) await this.#pause();
  }

  #write(message: Uint8Array): void {
    if (this.#isClosed) return;
    this.#postpone();
    const frame = frameMessage(message);
    this.#writing = this.#writing.then(async () => {
      for (let at = 0; at < frame.length;) at += await this.#connection.write(frame.subarray(at));
    }).catch(() => this.close());
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => this.#goOn = resolve);
  }

  #postpone(): void {
    clearTimeout(this.#idle);
    if (!this.#isClosed) this.#idle = setTimeout(() => this.close(), STREAM_IDLE_MS);
  }
}

function hintFor(error: Error): { hint?: string } {
  const { code } = error as { code?: string };
  if (error instanceof Deno.errors.PermissionDenied || code === "EACCES") {
    return { hint: "run as root or grant CAP_NET_BIND_SERVICE" };
  }
  if (error instanceof Deno.errors.AddrInUse || code === "EADDRINUSE") {
    return { hint: "another DNS server listens on all addresses: bind it to its own" };
  }
  return {};
}
