/**
 * Asks one DNS-over-HTTPS server, with one connection for all queries.
 *
 *     queries ──► Http2Connection ──► TLS of the runtime ──► dialled socket, marked ──► server
 *
 * The mark keeps the connection out of the tunnel. The server's own name is looked up with the
 * system's servers: through this resolver it would wait for itself.
 *
 * Spec: RFC 8484, POST only. Deviation: servers that speak HTTP/1.1 alone are refused, although the
 * RFC merely recommends HTTP/2.
 * @module
 */

import { Buffer } from "node:buffer";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { type IpAddress, parseIpAddress, SocketAddress } from "@firezone/core/ip";
import { Http2Connection, type Http2Response } from "@firezone/core/http2";
import type { DialedSocket, Dialer } from "@firezone/core/os/linux";
import { trustedRoots } from "@firezone/core/portal";

/** How to reach a server. */
export interface DohClientOptions {
  /** Opens sockets. */
  readonly dialer: Dialer;
  /** Mark of the connection. */
  readonly mark: number | undefined;
  /** Finds addresses of a host name; rejects when there are none. */
  readonly lookUp: (host: string) => Promise<readonly IpAddress[]>;
  /** Certificates to trust, as PEM; those of Mozilla and the system if absent. */
  readonly trusted?: readonly string[] | undefined;
}

const MEDIA_TYPE = "application/dns-message";
const HTTPS_PORT = 443;
/** Addresses dialled side by side; the first that answers is used. */
const MAX_ADDRESSES = 4;
const CONNECT_TIMEOUT_MS = 5000;

/** See the head of this file. */
export class DohClient {
  readonly #url: URL;
  readonly #options: DohClientOptions;
  /** All that are not closed; those that take no more requests may still bring answers. */
  readonly #links = new Set<Link>();
  #link: Link | undefined;

  /** Nothing happens until the first query. @throws Error when `url` is none of HTTPS */
  constructor(url: string, options: DohClientOptions) {
    const parsed = URL.parse(url);
    if (parsed?.protocol !== "https:") throw new Error(`${url} is no address of an HTTPS server`);
    this.#url = parsed;
    this.#options = options;
  }

  /**
   * Sends a query and waits for the answer, for as long as `signal` lets it.
   *
   * @throws Error with the reason in words
   */
  async query(message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const isFresh = this.#link === undefined;
    let outcome = await this.#exchange(message, signal);
    // A connection that was idle may have been ended just then. Another one says the truth.
    if (outcome.tag === "failed" && !isFresh && !signal.aborted) {
      outcome = await this.#exchange(message, signal);
    }
    if (outcome.tag === "failed") throw new Error(outcome.reason);
    const { status, headers, body } = outcome.response;
    if (status !== 200) throw new Error(`the server answered with status ${status}`);
    if (mediaType(headers.get("content-type")) !== MEDIA_TYPE) {
      throw new Error("the server answered with something else than DNS");
    }
    return body;
  }

  /** Breaks all connections; the next query makes another. */
  reset(): void {
    for (const link of this.#links) link.close("the connection was given up");
  }

  #exchange(message: Uint8Array, signal: AbortSignal): Promise<Outcome> {
    if (!this.#link?.isUsable) this.#link = this.#open();
    const link = this.#link;
    return new Promise((resolve) => {
      const cancel = link.post(message, resolve);
      signal.addEventListener("abort", () => {
        cancel();
        resolve({ tag: "failed", reason: "the server is silent" });
      }, { once: true });
    });
  }

  #open(): Link {
    const link: Link = new Link(this.#url, this.#options, () => {
      this.#links.delete(link);
      if (this.#link === link) this.#link = undefined;
    });
    this.#links.add(link);
    return link;
  }
}

type Outcome =
  | { readonly tag: "response"; readonly response: Http2Response }
  | { readonly tag: "failed"; readonly reason: string };

interface Waiting {
  readonly resolve: (outcome: Outcome) => void;
  readonly answersBefore: number;
}

/** A connection, from dialling to its end. */
class Link {
  readonly #url: URL;
  readonly #options: DohClientOptions;
  readonly #http: Http2Connection;
  readonly #waiting = new Map<number, Waiting>();
  readonly #onClosed: () => void;
  readonly #stop = new AbortController();
  #secure: tls.TLSSocket | undefined;
  #answers = 0;
  #isClosed = false;

  constructor(url: URL, options: DohClientOptions, onClosed: () => void) {
    this.#url = url;
    this.#options = options;
    this.#onClosed = onClosed;
    this.#http = new Http2Connection({ scheme: "https", authority: url.host });
    this.#connect().catch((error) => this.close((error as Error).message));
  }

  get isUsable(): boolean {
    return this.#http.isUsable;
  }

  /** Posts a message as soon as there is a connection. @returns what gives it up */
  post(message: Uint8Array, resolve: (outcome: Outcome) => void): () => void {
    const requestId = this.#http.request({
      path: this.#url.pathname + this.#url.search,
      headers: [
        ["content-type", MEDIA_TYPE],
        ["accept", MEDIA_TYPE],
        ["content-length", `${message.length}`],
      ],
      body: message,
    });
    this.#waiting.set(requestId, { resolve, answersBefore: this.#answers });
    this.#drain();
    return () => {
      const waiting = this.#waiting.get(requestId);
      if (!waiting) return;
      this.#waiting.delete(requestId);
      this.#http.cancel(requestId);
      this.#drain();
      // When nothing came back meanwhile, the connection is probably dead.
      if (this.#answers === waiting.answersBefore) this.close("the server is silent");
    };
  }

  close(reason: string): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#stop.abort(new Error(reason));
    this.#http.close(reason);
    this.#drain();
    this.#secure?.destroy();
    this.#onClosed();
  }

  #drain(): void {
    for (let event; (event = this.#http.pollEvent()) !== undefined;) {
      if (event.tag === "closed") {
        this.close(event.reason);
        continue;
      }
      if (event.tag === "response") this.#answers++;
      this.#waiting.get(event.requestId)?.resolve(event);
      this.#waiting.delete(event.requestId);
    }
    const secure = this.#secure;
    if (!secure || this.#isClosed) return;
    // What a server makes us answer waits where it is bounded, not in the stream.
    while (!secure.writableNeedDrain) {
      const bytes = this.#http.pollOutput();
      if (bytes === undefined) return;
      secure.write(bytes);
    }
  }

  /** Connects, and lets go of everything as soon as it is closed. */
  async #connect(): Promise<void> {
    const host = this.#url.hostname.replace(/^\[|\]$/g, "");
    const port = this.#url.port === "" ? HTTPS_PORT : Number(this.#url.port);
    const literal = parseIpAddress(host);
    const { signal } = this.#stop;
    const { promise: stopped, reject } = Promise.withResolvers<never>();
    stopped.catch(() => {});
    signal.addEventListener("abort", () => reject(signal.reason));
    const timer = setTimeout(
      () => reject(new Error("connecting took too long")),
      CONNECT_TIMEOUT_MS,
    );
    try {
      const found = literal ? [literal] : this.#options.lookUp(host);
      const addresses = await Promise.race([found, stopped]);
      const stream = await this.#dial(addresses.map((ip) => new SocketAddress(ip, port)), stopped);
      signal.addEventListener("abort", () => stream.destroy());
      const secure = tls.connect({
        socket: stream,
        host,
        ...literal ? {} : { servername: host },
        ca: [...this.#options.trusted ?? trustedRoots()],
        ALPNProtocols: ["h2"],
      });
      const shaken = new Promise<void>((resolve, reject) => {
        secure.once("secureConnect", resolve);
        secure.on("error", reject);
        secure.once("close", () => reject(new Error("the server ended the TLS handshake")));
      });
      shaken.catch(() => {});
      await Promise.race([shaken, stopped]);
      if (secure.alpnProtocol !== "h2") throw new Error("the server does not speak HTTP/2");
      secure.on("data", (bytes: Uint8Array) => {
        this.#http.handleBytes(bytes);
        this.#drain();
      });
      secure.on("drain", () => this.#drain());
      secure.on("close", () => this.close("the connection was lost"));
      this.#secure = secure;
      this.#drain();
    } finally {
      clearTimeout(timer);
    }
  }

  /** The first of several addresses that takes the connection. */
  async #dial(addresses: readonly SocketAddress[], stopped: Promise<never>): Promise<SocketStream> {
    const streams = addresses.slice(0, MAX_ADDRESSES).map((to) =>
      new SocketStream(this.#options.dialer, to, this.#options.mark)
    );
    let chosen: SocketStream | undefined;
    try {
      const attempts = streams.map((stream) => stream.connected.then(() => stream));
      return chosen = await Promise.race([Promise.any(attempts), stopped]);
    } catch (error) {
      throw error instanceof AggregateError ? error.errors[0] ?? error : error;
    } finally {
      for (const stream of streams) if (stream !== chosen) stream.destroy();
    }
  }
}

/** In lower case, without parameters. */
function mediaType(contentType: string | undefined): string | undefined {
  return contentType?.split(";", 1)[0]?.trim().toLowerCase();
}

/** A dialled TCP socket as a stream of the runtime. */
class SocketStream extends Duplex {
  readonly connected: Promise<void>;
  #socket: DialedSocket | undefined;

  constructor(dialer: Dialer, to: SocketAddress, mark: number | undefined) {
    super();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.connected = promise;
    // Whoever loses the race is not listened to any more.
    promise.catch(() => {});
    this.on("error", () => {});
    try {
      this.#socket = dialer.dial({ transport: "tcp", to, mark }, {
        connected: resolve,
        received: (bytes) => {
          if (!this.push(Buffer.from(bytes))) this.#socket?.pause();
        },
        ended: (error) => {
          this.#socket = undefined;
          if (error === undefined) return this.push(null);
          reject(new Error(`cannot reach ${to}: ${error}`));
          this.destroy(new Error(error));
        },
      });
    } catch (error) {
      reject(error);
    }
  }

  override _read(): void {
    this.#socket?.resume();
  }

  override _write(chunk: Uint8Array, _encoding: unknown, callback: (error?: Error) => void): void {
    if (this.#socket) this.#socket.send(chunk, () => callback());
    else callback(new Error("the connection is closed"));
  }

  override _final(callback: () => void): void {
    this.#socket?.end();
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    this.#socket?.close();
    this.#socket = undefined;
    callback(error);
  }
}
