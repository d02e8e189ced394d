/**
 * The portal's sockets: HTTP and WebSockets around a {@link PortalState}.
 *
 * Owns: listeners, sockets, the one timer. Does not own: any decision, but which path means what.
 * @module
 */

import { type Context, Hono } from "@hono/hono";
import { ConfigError } from "@firezone/core/cli";
import { IpAddress, parseIpAddress, type SocketAddress } from "@firezone/core/ip";
import type { Logger } from "@firezone/core/telemetry";
import { type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import type { PortalConfig } from "./config/config.ts";
import type { Era, Refusal, Role } from "./connect_request.ts";
import type { ConnectionId } from "./connection.ts";
import type { PortalEvent } from "./connection_registry.ts";
import type { Store } from "./device.ts";
import { PortalState } from "./portal_state.ts";

/** What a server is made of. */
export interface PortalServerOptions {
  /** The configuration to begin with. */
  readonly config: PortalConfig;
  /** Where devices and authorizations outlive the process. */
  readonly store: Store;
  /** Where peers connect. */
  readonly listen: readonly SocketAddress[];
  /** Where `/healthz` and `/status` are answered to the operator; nowhere if absent. */
  readonly health?: SocketAddress;
  /** PEM texts; without them the portal speaks plain HTTP. */
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Whether a proxy in front says where peers come from (last entry of `X-Forwarded-For`). */
  readonly trustForwardedFor: boolean;
  /** News. */
  readonly log: Logger;
}

const ROUTES: readonly (readonly [path: string, Role, Era])[] = [
  ["/client/websocket", "client", "v1"],
  ["/client/v2/websocket", "client", "v2"],
  ["/gateway/websocket", "gateway", "v1"],
  ["/gateway/v2/websocket", "gateway", "v2"],
  ["/relay/websocket", "relay", "v1"],
];

/** A peer that reads slower than it is written to is given up beyond so many bytes. */
const MAX_BUFFERED = 4 * 1024 * 1024;
/** Peers have so long to take note of the end. */
const SHUTDOWN_MS = 2000;
/** `setTimeout` takes no longer delay. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A running portal. */
export class PortalServer {
  readonly #state: PortalState;
  readonly #log: Logger;
  readonly #trustForwardedFor: boolean;
  readonly #sockets = new Map<ConnectionId, WebSocket>();
  /** Sockets that are not closed on both sides yet. */
  readonly #open = new Set<WebSocket>();
  #allClosed: (() => void) | undefined;
  readonly #servers: Deno.HttpServer<Deno.NetAddr>[] = [];
  readonly #abort = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerDue: Millis = NEVER;
  #isClosed = false;

  private constructor(options: PortalServerOptions) {
    this.#log = options.log;
    this.#trustForwardedFor = options.trustForwardedFor;
    this.#state = new PortalState(monotonicNow(), {
      config: options.config,
      store: options.store,
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
      unixTime: () => Math.floor(Date.now() / 1000) as UnixSeconds,
    });
  }

  /**
   * Binds the addresses and begins to answer.
   *
   * @throws {@link ConfigError} when an address or the certificate cannot be used
   */
  static start(options: PortalServerOptions): PortalServer {
    const server = new PortalServer(options);
    try {
      for (const address of options.listen) server.#listen(address, server.#app(), options.tls);
      if (options.health) server.#listen(options.health, server.#healthApp());
    } catch (error) {
      server.#abort.abort();
      throw error;
    }
    server.#pump();
    return server;
  }

  /** Where it listens, ports as the kernel chose them: peers' addresses first. */
  get addresses(): readonly Deno.NetAddr[] {
    return this.#servers.map((server) => server.addr);
  }

  /** Puts another configuration in force. */
  applyConfig(config: PortalConfig): void {
    this.#state.handleConfig(monotonicNow(), config);
    this.#pump();
  }

  /** Says good-bye to everyone and stops listening. */
  async shutdown(): Promise<void> {
    this.#isClosed = true;
    this.#state.handleShutdown(monotonicNow());
    this.#pump();
    clearTimeout(this.#timer);
    const timer = setTimeout(() => {
      this.#abort.abort();
      this.#allClosed?.();
    }, SHUTDOWN_MS);
    // The servers would end the sockets at once and in their own words.
    if (this.#open.size > 0) await new Promise<void>((resolve) => this.#allClosed = resolve);
    await Promise.all(this.#servers.map((server) => server.shutdown()));
    clearTimeout(timer);
  }

  #listen(
    address: SocketAddress,
    app: Hono<Env>,
    tls?: { readonly cert: string; readonly key: string },
  ): void {
    const options = {
      hostname: address.ip.text,
      port: address.port,
      signal: this.#abort.signal,
      onListen: () => {},
      onError: (error: unknown) => this.#failed(error),
      ...tls,
    };
    try {
      const handler = (request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>) =>
        app.fetch(request, { remoteAddr: info.remoteAddr });
      this.#servers.push(Deno.serve(options, handler));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new ConfigError(`Cannot listen on ${address}: ${reason}`, { cause: error });
    }
  }

  #app(): Hono<Env> {
    const app = new Hono<Env>();
    for (const [path, role, era] of ROUTES) {
      app.get(path, (context) => this.#connect(context, role, era));
    }
    app.get("/healthz", (context) => context.json({ status: "ok" }));
    app.onError((error) => this.#failed(error));
    return app;
  }

  #healthApp(): Hono<Env> {
    const app = new Hono<Env>();
    app.get("/healthz", (context) => context.json({ status: "ok" }));
    app.get("/status", (context) => context.json(this.#state.status(monotonicNow())));
    app.onError((error) => this.#failed(error));
    return app;
  }

  #failed(error: unknown): Response {
    this.#log.error("a request failed", { error });
    const detail = "The request could not be handled.";
    return problem({ status: 500, code: "unhandled_connect_error", detail });
  }

  #connect(context: Context<Env>, role: Role, era: Era): Response {
    const request = context.req.raw;
    const params = new Map(new URL(request.url).searchParams);
    const token = bearerToken(request.headers) ?? params.get("token");
    const now = monotonicNow();
    const refused = this.#state.checkToken(now, role, token);
    if (refused) return problem(refused);
    if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
      const detail = "This address speaks WebSocket only.";
      return problem({ status: 400, code: "invalid_connect_params", detail });
    }
    const result = this.#state.handleConnect(now, {
      role,
      era,
      token,
      userAgent: request.headers.get("user-agent") ?? "",
      remoteIp: this.#remoteIp(context),
      params,
    });
    if (!result.ok) {
      this.#pump();
      return problem(result.refusal);
    }
    const response = this.#upgrade(request, result.connection);
    this.#pump();
    return response;
  }

  #upgrade(request: Request, id: ConnectionId): Response {
    let upgrade: Deno.WebSocketUpgrade;
    try {
      // Silence is judged by the state machine, by frames alone as the protocol demands.
      upgrade = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    } catch {
      this.#state.handleClose(monotonicNow(), id);
      const detail = "The WebSocket handshake is malformed.";
      return problem({ status: 400, code: "invalid_connect_params", detail });
    }
    const { socket, response } = upgrade;
    this.#sockets.set(id, socket);
    this.#open.add(socket);
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#state.handleText(monotonicNow(), id, data);
      else this.#state.handleBinary(monotonicNow(), id);
      this.#pump();
    };
    socket.onclose = () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#allClosed?.();
      this.#sockets.delete(id);
      this.#state.handleClose(monotonicNow(), id);
      this.#pump();
    };
    // An error is always followed by a close.
    socket.onerror = () => this.#log.debug("a socket failed", { connection: id });
    return response;
  }

  #remoteIp(context: Context<Env>): IpAddress | undefined {
    const forwarded = this.#trustForwardedFor
      ? context.req.header("x-forwarded-for")?.split(",").at(-1)?.trim()
      : undefined;
    const ip = parseIpAddress(forwarded ?? context.env.remoteAddr.hostname);
    return ip && unmapped(ip);
  }

  /** Does what the state machine asks for, then sleeps until it wants to be woken. */
  #pump(): void {
    for (let event = this.#state.pollEvent(); event; event = this.#state.pollEvent()) {
      this.#handleEvent(event);
    }
    const due = this.#state.pollTimeout();
    if (due === this.#timerDue) return;
    clearTimeout(this.#timer);
    this.#timerDue = due;
    if (due === NEVER || this.#isClosed) return;
    const delay = Math.min(Math.max(Math.ceil(due - monotonicNow()), 0), LONGEST_TIMER_MS);
    this.#timer = setTimeout(() => {
      this.#timerDue = NEVER;
      this.#state.handleTimeout(monotonicNow());
      this.#pump();
    }, delay);
  }

  #handleEvent(event: PortalEvent): void {
    if (event.tag === "log") return this.#log.log(event.level, event.message, event.fields);
    const socket = this.#sockets.get(event.connection);
    if (!socket) return;
    if (event.tag === "close") {
      this.#sockets.delete(event.connection);
      return socket.close(event.code, event.reason);
    }
    if (socket.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount > MAX_BUFFERED) return socket.close(1008, "reads too slowly");
    socket.send(event.frame);
  }
}

/** What handlers know beside the request. */
interface Env {
  /** {@inheritDoc Env} */
  readonly Bindings: { readonly remoteAddr: Deno.NetAddr };
}

/** v2's header; the standard `Authorization` means something else to load balancers. */
function bearerToken(headers: Headers): string | undefined {
  const header = headers.get("x-authorization");
  return header?.startsWith("Bearer ") ? header.slice(7) : undefined;
}

const TITLES: ReadonlyMap<number, string> = new Map([
  [400, "Bad Request"],
  [401, "Unauthorized"],
  [409, "Conflict"],
  [500, "Internal Server Error"],
  [503, "Service Unavailable"],
]);

/** A refusal as RFC 9457 wants it. */
function problem({ status, code, detail, retryAfterSeconds }: Refusal): Response {
  const title = TITLES.get(status) ?? "Error";
  const body = JSON.stringify({ type: "about:blank", title, status, detail, code });
  const headers = new Headers({ "content-type": "application/problem+json" });
  if (retryAfterSeconds !== undefined) headers.set("retry-after", String(retryAfterSeconds));
  return new Response(body, { status, headers });
}

/** `::ffff:192.0.2.1` as 192.0.2.1: a socket for both families shows IPv4 peers so. */
function unmapped(ip: IpAddress): IpAddress {
  const isMapped = ip.family === 6 && ip.bytes.subarray(0, 10).every((byte) => byte === 0) &&
    ip.bytes[10] === 0xff && ip.bytes[11] === 0xff;
  return isMapped ? new IpAddress(ip.bytes.slice(12)) : ip;
}

function monotonicNow(): Millis {
  return performance.now() as Millis;
}
