/**
 * Asks one DNS-over-HTTPS server, over HTTP/2 with one connection for all queries.
 *
 * The connection is made of a dialled socket (marked, so that it stays out of the tunnel) with the
 * runtime's TLS and HTTP/2 on top. The server's own name is looked up with the system's servers:
 * through this resolver it would wait for itself.
 *
 * Spec: RFC 8484, POST only. Deviation: servers that speak HTTP/1.1 alone are refused, although the
 * RFC merely recommends HTTP/2.
 * @module
 */

import { Buffer } from "node:buffer";
import http2 from "node:http2";
import { Duplex } from "node:stream";
import tls from "node:tls";
import { type IpAddress, parseIpAddress, SocketAddress } from "@firezone/core/ip";
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
const MAX_ANSWER_LENGTH = 65_535;
const HTTPS_PORT = 443;
/** Addresses dialled side by side; the first that answers is used. */
const MAX_ADDRESSES = 4;
const CONNECT_TIMEOUT_MS = 5000;

/** A connection, or the attempt to make one. */
interface Link {
  readonly session: Promise<http2.ClientHttp2Session>;
  readonly stop: AbortController;
}

/** See the head of this file. */
export class DohClient {
  readonly #url: URL;
  readonly #options: DohClientOptions;
  #link: Link | undefined;

  /** Nothing happens until the first query. @throws TypeError when `url` is none */
  constructor(url: string, options: DohClientOptions) {
    this.#url = new URL(url);
    this.#options = options;
  }

  /**
   * Sends a query and waits for the answer, for as long as `signal` lets it.
   *
   * @throws Error with the reason in words
   */
  async query(message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const isFresh = this.#link === undefined;
    const link = this.#link ??= this.#open();
    try {
      return await this.#exchange(link, message, signal);
    } catch (error) {
      this.#drop(link);
      // A connection that was idle may be gone without our knowing. A fresh one says the truth.
      if (isFresh || signal.aborted) throw error;
    }
    return await this.#exchange(this.#link ??= this.#open(), message, signal);
  }

  /** Forgets the connection; the next query makes another. */
  reset(): void {
    if (this.#link) this.#drop(this.#link);
  }

  #open(): Link {
    const stop = new AbortController();
    const session = this.#connect(stop.signal);
    const link = { session, stop };
    session.then((open) => {
      const forget = () => this.#drop(link);
      for (const event of ["error", "goaway", "close"]) open.on(event, forget);
    }, () => this.#drop(link));
    return link;
  }

  #drop(link: Link): void {
    if (this.#link === link) this.#link = undefined;
    link.stop.abort(new Error("the connection was given up"));
  }

  async #exchange(link: Link, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
    const session = await link.session;
    signal.throwIfAborted();
    const stream = session.request({
      ":method": "POST",
      ":path": this.#url.pathname + this.#url.search,
      ":authority": this.#url.host,
      "content-type": MEDIA_TYPE,
      "accept": MEDIA_TYPE,
      "content-length": message.length,
    });
    const abort = () => stream.close(http2.constants.NGHTTP2_CANCEL);
    signal.addEventListener("abort", abort);
    try {
      stream.end(Buffer.from(message));
      return await readAnswer(stream);
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Connects, and lets go of everything as soon as `signal` says so. */
  async #connect(signal: AbortSignal): Promise<http2.ClientHttp2Session> {
    if (this.#url.protocol !== "https:") throw new Error(`${this.#url.protocol} is not HTTPS`);
    const host = this.#url.hostname.replace(/^\[|\]$/g, "");
    const port = this.#url.port === "" ? HTTPS_PORT : Number(this.#url.port);
    const literal = parseIpAddress(host);
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    aborted.catch(() => {});
    signal.addEventListener("abort", () => reject(signal.reason));
    const timer = setTimeout(
      () => reject(new Error("connecting took too long")),
      CONNECT_TIMEOUT_MS,
    );
    try {
      const found = literal ? [literal] : this.#options.lookUp(host);
      const addresses = await Promise.race([found, aborted]);
      const stream = await this.#dial(addresses.map((ip) => new SocketAddress(ip, port)), aborted);
      signal.addEventListener("abort", () => stream.destroy());
      const secure = tls.connect({
        socket: stream,
        host,
        ...literal ? {} : { servername: host },
        ca: [...this.#options.trusted ?? trustedRoots()],
        ALPNProtocols: ["h2"],
      });
      secure.on("error", () => {});
      const shaken = new Promise<void>((resolve, reject) => {
        secure.once("secureConnect", resolve);
        secure.once("error", reject);
        secure.once("close", () => reject(new Error("the server ended the TLS handshake")));
      });
      shaken.catch(() => {});
      await Promise.race([shaken, aborted]);
      if (secure.alpnProtocol !== "h2") throw new Error("the server does not speak HTTP/2");
      const session = http2.connect(this.#url.origin, { createConnection: () => secure });
      session.on("error", () => {});
      signal.addEventListener("abort", () => session.destroy());
      return session;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The first of several addresses that takes the connection. */
  async #dial(addresses: readonly SocketAddress[], aborted: Promise<never>): Promise<SocketStream> {
    const streams = addresses.slice(0, MAX_ADDRESSES).map((to) =>
      new SocketStream(this.#options.dialer, to, this.#options.mark)
    );
    let chosen: SocketStream | undefined;
    try {
      const attempts = streams.map((stream) => stream.connected.then(() => stream));
      return chosen = await Promise.race([Promise.any(attempts), aborted]);
    } catch (error) {
      throw error instanceof AggregateError ? error.errors[0] ?? error : error;
    } finally {
      for (const stream of streams) if (stream !== chosen) stream.destroy();
    }
  }
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

function readAnswer(stream: http2.ClientHttp2Stream): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    let isAnswer = false;
    const refuse = (reason: string) => {
      reject(new Error(reason));
      stream.close(http2.constants.NGHTTP2_CANCEL);
    };
    stream.on("response", (headers) => {
      const status = headers[":status"];
      const type = String(headers["content-type"] ?? "").split(";")[0]!.trim().toLowerCase();
      if (status !== 200) refuse(`the server answered with status ${status}`);
      else if (type !== MEDIA_TYPE) refuse("the server answered with something else than DNS");
      else isAnswer = true;
    });
    stream.on("data", (chunk: Uint8Array) => {
      length += chunk.length;
      if (length > MAX_ANSWER_LENGTH) refuse("the answer is too long");
      else chunks.push(chunk);
    });
    stream.on("end", () => isAnswer && resolve(joined(chunks, length)));
    stream.on("error", reject);
    stream.on("close", () => reject(new Error("the connection was lost")));
  });
}

function joined(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
