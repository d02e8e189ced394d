/**
 * Sends queries to other servers and brings their answers back.
 *
 *     system   UDP or TCP, marked: the tunnel never carries it, whatever the resources are
 *     portal   UDP or TCP, unmarked: a server that lies in a resource is reached through the tunnel
 *     site     the same, to the gateway's own resolver
 *     doh      HTTPS, marked
 *
 * Every query has a socket of its own, so that a stranger would have to guess its port; deadlines
 * belong to `stub_resolver.ts`, which stops what takes too long.
 * @module
 */

import {
  addressesIn,
  decodeMessage,
  encodeQuery,
  frameMessage,
  MessageReader,
} from "@firezone/core/dns";
import { type IpAddress, SocketAddress } from "@firezone/core/ip";
import { type DialedSocket, Dialer } from "@firezone/core/os/linux";
import type { RandomBytes } from "@firezone/core/random";
import { DohClient } from "./doh_client.ts";
import type { DnsTransport, ForwardCommand, ForwardTarget } from "./stub_resolver.ts";

/** What forwarding needs. */
export interface ForwardersOptions {
  /** For the ids of our own look-ups. */
  readonly random: RandomBytes;
  /** Mark of what must not enter the tunnel; undefined where there is no tunnel. */
  readonly mark?: number | undefined;
  /** The servers of the system, to find HTTPS servers with. */
  readonly systemServers: () => readonly IpAddress[];
  /** The resolver in the site of a resource, once there is a connection; undefined for none. */
  readonly siteServer: (resourceId: string) => Promise<SocketAddress | undefined>;
  /** Certificates to trust over HTTPS, as PEM; those of Mozilla and the system if absent. */
  readonly trusted?: readonly string[] | undefined;
}

/** Told of what comes back, from later turns of the event loop. */
export interface ForwardHandlers {
  /** A message arrived, which is not lent. @returns whether it was the answer */
  response(forwardId: number, message: Uint8Array): boolean;
  /** There will be no answer. */
  failed(forwardId: number, reason: string): void;
}

type Start = Extract<ForwardCommand, { tag: "start" }>;

const DNS_PORT = 53;
const LOOK_UP_TIMEOUT_MS = 3000;

/** See the head of this file. */
export class Forwarders {
  readonly #options: ForwardersOptions;
  readonly #handlers: ForwardHandlers;
  readonly #dialer = new Dialer();
  readonly #exchanges = new Map<number, AbortController>();
  readonly #doh = new Map<string, DohClient>();
  readonly #closing = new AbortController();

  /** No sockets are opened until there is something to send. @throws OsError */
  constructor(options: ForwardersOptions, handlers: ForwardHandlers) {
    this.#options = options;
    this.#handlers = handlers;
  }

  /** Does what the resolver wants. */
  handle(command: ForwardCommand): void {
    if (command.tag === "start") this.#start(command);
    else {
      this.#exchanges.get(command.forwardId)?.abort();
      this.#exchanges.delete(command.forwardId);
    }
  }

  /** Forgets connections that are kept: they may lead into a network that is gone. */
  reset(): void {
    for (const client of this.#doh.values()) client.reset();
  }

  /** Closes all sockets; the handlers hear nothing more. */
  async close(): Promise<void> {
    for (const exchange of this.#exchanges.values()) exchange.abort();
    this.#exchanges.clear();
    this.#closing.abort();
    this.reset();
    await this.#dialer.close();
  }

  #start(command: Start): void {
    const { forwardId, target, transport, message } = command;
    const exchange = new AbortController();
    this.#exchanges.set(forwardId, exchange);
    const answered = target.tag === "doh"
      ? this.#askDoh(target.url, message, exchange.signal).then((answer) => {
        if (exchange.signal.aborted || this.#handlers.response(forwardId, answer)) return;
        throw new Error("the server answered something else");
      })
      : this.#address(target).then((to) =>
        this.#ask(transport, to, markOf(target, this.#options.mark), message, exchange.signal, {
          response: (answer) => this.#handlers.response(forwardId, answer),
        })
      );
    answered.catch((error) => {
      if (!this.#exchanges.delete(forwardId)) return;
      this.#handlers.failed(forwardId, error instanceof Error ? error.message : String(error));
    });
  }

  async #address(target: Exclude<ForwardTarget, { tag: "doh" }>): Promise<SocketAddress> {
    if (target.tag !== "site") return target.address;
    const server = await this.#options.siteServer(target.resourceId);
    if (!server) throw new Error("no gateway of the resource is connected");
    return server;
  }

  async #askDoh(url: string, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    let client = this.#doh.get(url);
    if (!client) {
      client = new DohClient(url, {
        dialer: this.#dialer,
        mark: this.#options.mark,
        lookUp: (host) => this.#lookUp(host),
        trusted: this.#options.trusted,
      });
      this.#doh.set(url, client);
    }
    return await client.query(message, signal);
  }

  /** Sends one query; resolves when it was answered or stopped. */
  #ask(
    transport: DnsTransport,
    to: SocketAddress,
    mark: number | undefined,
    message: Uint8Array,
    signal: AbortSignal,
    handlers: { response(message: Uint8Array): boolean },
  ): Promise<void> {
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const reader = new MessageReader();
      const socket: DialedSocket = this.#dialer.dial({ transport, to, mark }, {
        received: (bytes) => {
          if (transport === "udp") {
            // What does not answer the query may be forged; the answer may still come.
            handlers.response(new Uint8Array(bytes));
            return;
          }
          reader.push(bytes);
          const answer = reader.poll();
          if (!answer || handlers.response(answer)) return;
          socket.close();
          reject(new Error("the server answered something else"));
        },
        ended: (error) => reject(new Error(error ?? "the server closed the connection")),
      });
      signal.addEventListener("abort", () => {
        socket.close();
        resolve();
      });
      socket.send(transport === "udp" ? message : frameMessage(message));
    });
  }

  /** The addresses of an HTTPS server, from the first of the system's servers that knows any. */
  async #lookUp(host: string): Promise<readonly IpAddress[]> {
    const servers = this.#options.systemServers();
    if (servers.length === 0) {
      throw new Error(`cannot look up ${host}: the system names no DNS servers`);
    }
    let reason: unknown;
    for (const ip of servers) {
      try {
        return await Promise.any(
          ["A", "AAAA"].map((type) =>
            this.#lookUpWith(new SocketAddress(ip, DNS_PORT), host, type)
          ),
        );
      } catch (error) {
        reason = error instanceof AggregateError ? error.errors[0] : error;
      }
    }
    throw reason;
  }

  async #lookUpWith(
    server: SocketAddress,
    host: string,
    type: string,
  ): Promise<readonly IpAddress[]> {
    const [high, low] = this.#options.random(2);
    const id = high! << 8 | low!;
    const stop = new AbortController();
    const signal = AbortSignal.any([stop.signal, this.#closing.signal]);
    const timer = setTimeout(() => stop.abort(), LOOK_UP_TIMEOUT_MS);
    let addresses: readonly IpAddress[] = [];
    const query = encodeQuery(id, host, type);
    try {
      await this.#ask("udp", server, this.#options.mark, query, signal, {
        response: (bytes) => {
          const message = decodeMessage(bytes);
          if (!message?.isResponse || message.id !== id) return false;
          addresses = addressesIn(message);
          stop.abort();
          return true;
        },
      });
    } finally {
      clearTimeout(timer);
    }
    if (addresses.length > 0) return addresses;
    throw new Error(`cannot look up ${host}: ${server} knows no addresses`);
  }
}

/** What the portal names may lie behind the tunnel; what the system names never does. */
function markOf(target: ForwardTarget, mark: number | undefined): number | undefined {
  return target.tag === "system" ? mark : undefined;
}
