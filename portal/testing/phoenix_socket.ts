/**
 * A strict Phoenix client over a real WebSocket, for tests.
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Era, Role } from "../connect_request.ts";
import { type Frame, strictFrame, TOKENS } from "./peers.ts";

/** What a socket is opened with. */
export interface SocketOptions {
  readonly role: Role;
  readonly era: Era;
  readonly params: Readonly<Record<string, string>>;
  readonly agent: string;
  readonly token?: string;
}

/** The address of a peer's socket, v1's with the token in it. */
export function socketUrl(base: string, { role, era, params, token }: SocketOptions): URL {
  const path = role === "relay" || era === "v1" ? `/${role}/websocket` : `/${role}/v2/websocket`;
  const url = new URL(path, base);
  const query = era === "v1" ? { token: token ?? TOKENS[role], ...params } : params;
  url.search = new URLSearchParams(query).toString();
  return url;
}

/** Sends numbered messages and takes frames in order; anything unexpected is a failure. */
export class PhoenixSocket implements AsyncDisposable {
  readonly #socket: WebSocket;
  readonly #topic: string;
  readonly #frames: Frame[] = [];
  readonly #closed: Promise<CloseEvent>;
  #waiting: ((frame: Frame | undefined) => void) | undefined;
  #isClosed = false;
  #nextRef = 0;

  private constructor(socket: WebSocket, topic: string) {
    this.#socket = socket;
    this.#topic = topic;
    const { promise, resolve } = Promise.withResolvers<CloseEvent>();
    this.#closed = promise;
    socket.onmessage = ({ data }) => {
      const frame = strictFrame(data);
      if (this.#waiting) this.#waiting(frame);
      else this.#frames.push(frame);
      this.#waiting = undefined;
    };
    socket.onclose = (event) => {
      this.#isClosed = true;
      this.#waiting?.(undefined);
      resolve(event);
    };
  }

  /** Opens a socket; rejects where the portal refuses. */
  static async open(base: string, options: SocketOptions): Promise<PhoenixSocket> {
    const headers: Record<string, string> = { "user-agent": options.agent };
    if (options.era === "v2") {
      headers["x-authorization"] = `Bearer ${options.token ?? TOKENS[options.role]}`;
    }
    const socket = new WebSocket(socketUrl(base, options), { headers });
    const phoenix = new PhoenixSocket(socket, options.role);
    const opened = Promise.withResolvers<void>();
    socket.onopen = () => opened.resolve();
    socket.onerror = () => opened.reject(new Error("the socket did not open"));
    await opened.promise;
    socket.onerror = () => {};
    return phoenix;
  }

  /** Sends a message; returns its ref. */
  send(event: string, payload: unknown, topic: string = this.#topic): number {
    const ref = this.#nextRef++;
    this.#socket.send(JSON.stringify({ topic, event, payload, ref }));
    return ref;
  }

  /** Sends anything. */
  sendRaw(data: string | ArrayBuffer): void {
    this.#socket.send(data);
  }

  /** The next frame, which must be this event; returns its payload. */
  // deno-lint-ignore no-explicit-any -- tests look into payloads as they please
  async expect(event: string): Promise<any> {
    const frame = await this.#next();
    assertEquals(frame?.event, event, JSON.stringify(frame));
    return frame!.payload;
  }

  /** The next frame, which must be a reply to `ref`. */
  async expectReply(ref: number, status: "ok" | "error" = "ok"): Promise<Frame> {
    const frame = await this.#next();
    assertEquals([frame?.event, frame?.ref, frame?.payload.status], ["phx_reply", ref, status]);
    return frame!;
  }

  /** Joins and returns what `init` holds. */
  // deno-lint-ignore no-explicit-any -- tests look into payloads as they please
  async join(payload: unknown = null): Promise<any> {
    await this.expectReply(this.send("phx_join", payload));
    return await this.expect("init");
  }

  /** How the portal ended the connection. */
  async closed(): Promise<{ readonly code: number; readonly reason: string }> {
    const { code, reason } = await this.#closed;
    return { code, reason };
  }

  /** Closes, if that has not happened yet. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isClosed) this.#socket.close();
    await this.#closed;
  }

  async #next(): Promise<Frame | undefined> {
    const frame = this.#frames.shift();
    if (frame || this.#isClosed) return frame;
    const { promise, resolve } = Promise.withResolvers<Frame | undefined>();
    this.#waiting = resolve;
    return await promise;
  }
}
