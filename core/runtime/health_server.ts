/**
 * What others may ask a gateway or a relay over HTTP.
 *
 *     GET /healthz   200 while the process works
 *     GET /readyz    200 while clients are sent here, else 503; the body is the build's revision
 *     GET /metrics   metrics as Prometheus reads them, if that is wanted
 *
 * It has an entry of its own, for main threads alone: workers need no router.
 * @module
 */

import { Hono } from "@hono/hono";
import { ConfigError } from "../cli/errors.ts";
import type { SocketAddress } from "../ip/mod.ts";
import { PROMETHEUS_CONTENT_TYPE } from "../telemetry/mod.ts";

/** What the answers are made of. */
export interface HealthOptions {
  /** Whether clients are sent here. */
  readonly isReady: () => boolean;
  /** The build's revision; empty if it is not known. */
  readonly revision: string;
  /** Makes the text for Prometheus; without it there is no such page. */
  readonly metrics?: (() => Promise<string>) | undefined;
  /** What the operator can do when the address cannot be used. */
  readonly remedy: string;
}

/** Answers a request. */
export type HttpHandler = (request: Request) => Response | Promise<Response>;

/** Serves until disposed of. @throws ConfigError when the address cannot be used */
export function serveHealth(address: SocketAddress, options: HealthOptions): AsyncDisposable {
  const { isReady, revision, metrics, remedy } = options;
  const app = new Hono()
    .get("/healthz", (c) => c.body(null, 200))
    .get("/readyz", (c) => c.text(revision, isReady() ? 200 : 503));
  if (metrics) {
    app.get(
      "/metrics",
      async (c) => c.body(await metrics(), 200, { "content-type": PROMETHEUS_CONTENT_TYPE }),
    );
  }
  return serveHttp(address, (request) => app.fetch(request), "health checks", remedy);
}

/**
 * Serves until disposed of.
 *
 * @param what completes "Cannot serve …"
 * @param remedy what the operator can do when the address cannot be used
 * @throws ConfigError when the address cannot be used
 */
export function serveHttp(
  address: SocketAddress,
  handler: HttpHandler,
  what: string,
  remedy: string,
): AsyncDisposable {
  try {
    const { ip, port } = address;
    const server = Deno.serve({ hostname: ip.text, port, onListen: () => {} }, handler);
    return { [Symbol.asyncDispose]: () => server.shutdown() };
  } catch (error) {
    const reason = (error as Error).message;
    throw new ConfigError(`Cannot serve ${what} at ${address}: ${reason}; ${remedy}`);
  }
}
