/**
 * One WebSocket to the portal.
 *
 * The runtime's own `WebSocket` would not do: it hides how an upgrade was refused, and that decides
 * whether we fall back (404), give up (401) or wait for as long as the portal asks (`Retry-After`);
 * and it puts its own `User-Agent` before ours, which portals then read. So the handshake is a
 * request of `node:http` and the frames are ours (`websocket_frames.ts`).
 *
 * Names are resolved anew for each connection, and when there are several addresses they are tried
 * side by side (RFC 8305). TLS trusts Mozilla's roots, those of the system (on Linux the file that
 * `SSL_CERT_FILE` names, if it is set) and the file that `NODE_EXTRA_CA_CERTS` names.
 *
 * Spec: RFC 6455, client side, without extensions and subprotocols.
 * @module
 */

import { createHash } from "node:crypto";
import http from "node:http";
import https from "node:https";
import type { LookupFunction, Socket } from "node:net";
import tls from "node:tls";
import { base64, utf8 } from "../bytes/text.ts";
import type { IpAddress } from "../ip/address.ts";
import type { RandomBytes } from "../random.ts";
import { parseRetryAfter } from "./backoff.ts";
import type { Refusal } from "./phoenix_channel.ts";
import {
  closePayload,
  type FrameEvent,
  FrameReader,
  OPCODE,
  writeFrame,
} from "./websocket_frames.ts";

/** Appended to the key before it is hashed (RFC 6455 §1.3). */
const ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/** How much of a refusal's body is read. */
const MAX_REFUSAL_BYTES = 64 * 1024;

/** Finds the addresses of a host. */
export type ResolveHost = (host: string) => Promise<readonly IpAddress[]>;

/** Told of what happens on a socket. After `refused` or `closed` nothing more is told. */
export interface SocketHandlers {
  /** The handshake is done. */
  opened(): void;
  /** A text message arrived. */
  text(text: string): void;
  /** The portal answered the handshake with another status. */
  refused(refusal: Refusal): void;
  /** The connection ended or never came to be. */
  closed(reason: string): void;
}

/** What a socket is dialled with. */
export interface SocketOptions {
  /** Where to; scheme `ws` or `wss`. */
  readonly url: URL;
  /** Headers beside those of the protocol. */
  readonly headers: Readonly<Record<string, string>>;
  /** For the masks and the key; unpredictable. */
  readonly random: RandomBytes;
  /** Finds addresses; the system's resolver if left out. */
  readonly resolve?: ResolveHost | undefined;
}

/** A WebSocket that is being opened, or is open. */
export class PortalSocket {
  readonly #handlers: SocketHandlers;
  readonly #random: RandomBytes;
  readonly #request: http.ClientRequest;
  readonly #reader = new FrameReader();
  #socket: Socket | undefined;
  #isOver = false;

  /** Begins to dial.
   * @param handlers told from later turns of the event loop, never from within the constructor */
  constructor(options: SocketOptions, handlers: SocketHandlers) {
    this.#handlers = handlers;
    this.#random = options.random;
    const key = base64(options.random(16));
    const isTls = options.url.protocol === "wss:";
    const url = new URL(options.url);
    url.protocol = isTls ? "https:" : "http:";
    this.#request = (isTls ? https : http).request(url, {
      agent: false,
      headers: {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        ...options.headers,
      },
      ...(isTls ? { ca: trustedRoots() } : {}),
      ...(options.resolve === undefined ? {} : { lookup: toLookup(options.resolve) }),
    });
    this.#request.on("upgrade", (response, socket, head) => {
      this.#handleUpgrade(key, response, socket as Socket, head);
    });
    this.#request.on("response", (response) => this.#handleRefusal(response));
    this.#request.on("error", (error) => this.#end(`cannot reach the portal: ${told(error)}`));
    this.#request.end();
  }

  /** Sends a text message; lost if the socket is not open. */
  send(text: string): void {
    this.#write(OPCODE.text, utf8(text));
  }

  /** Closes with status 1000, or gives up dialling; the handlers hear nothing more. */
  hangUp(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#write(OPCODE.close, closePayload(1000, ""));
    this.#release();
  }

  #handleUpgrade(
    key: string,
    response: http.IncomingMessage,
    socket: Socket,
    head: Uint8Array,
  ): void {
    this.#socket = socket;
    socket.on("error", (error) => this.#end(`the connection broke: ${told(error)}`));
    if (this.#isOver) return this.#release();
    const accept = createHash("sha1").update(key + ACCEPT_GUID).digest("base64");
    if (response.headers["sec-websocket-accept"] !== accept) {
      return this.#end("the server does not speak WebSocket");
    }
    socket.setNoDelay(true);
    socket.on("close", () => this.#end("the connection was lost"));
    socket.on("end", () => this.#end("the portal ended the connection"));
    socket.on("data", (bytes: Uint8Array) => this.#handleBytes(bytes));
    this.#handlers.opened();
    if (head.length > 0) this.#handleBytes(head);
  }

  #handleBytes(bytes: Uint8Array): void {
    this.#reader.push(bytes);
    for (let event = this.#reader.poll(); event !== undefined; event = this.#reader.poll()) {
      if (this.#isOver) return;
      this.#handleEvent(event);
    }
  }

  #handleEvent(event: FrameEvent): void {
    switch (event.tag) {
      case "text":
        return this.#handlers.text(event.text);
      case "binary":
        return; // portals send none
      case "ping":
        return this.#write(OPCODE.pong, event.payload);
      case "close":
        this.#write(OPCODE.close, closePayload(event.code === 1005 ? 1000 : event.code, ""));
        return this.#end(
          `the portal closed the connection (${event.code}${event.reason && ` ${event.reason}`})`,
        );
      case "violation":
        this.#write(OPCODE.close, closePayload(event.code, event.reason));
        return this.#end(`the server broke the WebSocket protocol: ${event.reason}`);
    }
  }

  #handleRefusal(response: http.IncomingMessage): void {
    let body = "";
    const done = () => {
      if (this.#isOver) return;
      this.#isOver = true;
      this.#release();
      this.#handlers.refused({
        status: response.statusCode ?? 0,
        retryAfterMs: parseRetryAfter(response.headers["retry-after"], Date.now()),
        ...problem(body),
      });
    };
    response.setEncoding("utf8");
    response.on("data", (text: string) => {
      body += text;
      if (body.length > MAX_REFUSAL_BYTES) done();
    });
    response.on("end", done);
    response.on("error", done);
    response.on("close", done);
  }

  #write(opcode: number, payload: Uint8Array): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || !socket.writable) return;
    socket.write(writeFrame(opcode, payload, this.#random(4)));
  }

  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#release();
    this.#handlers.closed(reason);
  }

  /** Lets go of the connection once what was written has left. */
  #release(): void {
    if (this.#socket === undefined) this.#request.destroy();
    else this.#socket.destroySoon();
  }
}

/** What a refusal's body says: problem details (RFC 9457), or a bare word as older portals do. */
function problem(body: string): { code?: string; detail?: string } {
  const word = /^[a-z_]{1,64}$/.exec(body.trim());
  if (word !== null) return { code: word[0] };
  try {
    const json: unknown = JSON.parse(body);
    if (typeof json !== "object" || json === null) return {};
    const { code, detail } = json as Record<string, unknown>;
    return {
      ...(typeof code === "string" ? { code: code.slice(0, 64) } : {}),
      ...(typeof detail === "string" ? { detail: detail.slice(0, 200) } : {}),
    };
  } catch {
    return {};
  }
}

let roots: string[] | undefined;

/** All certificates that may sign a server's, as PEM: Mozilla's and the system's; read once. */
export function trustedRoots(): string[] {
  const read = (kind: "default" | "system") => {
    try {
      return tls.getCACertificates(kind);
    } catch {
      return []; // a system without a store
    }
  };
  roots ??= [...new Set([...read("default"), ...read("system")])];
  return roots;
}

function toLookup(resolve: ResolveHost): LookupFunction {
  return (host, options, callback) => {
    resolve(host).then(
      (addresses) => {
        const list = addresses.map((ip) => ({ address: ip.text, family: ip.family }));
        const first = list[0];
        if (first === undefined) callback(new Error(`no address found for ${host}`), "", 4);
        else if (options.all) callback(null, list);
        else callback(null, first.address, first.family);
      },
      (error) => callback(error instanceof Error ? error : new Error(String(error)), "", 4),
    );
  };
}

/** An error in words; several attempts at once fail with a bundle whose own text is empty. */
function told(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(told).join("; ");
  return error instanceof Error ? error.message || error.name : String(error);
}
