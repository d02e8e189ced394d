/**
 * What others may ask a relay over HTTP.
 *
 *     GET /healthz   200 while the process works
 *     GET /readyz    200 while clients are sent here, else 503; the body is the build's revision
 *     GET /metrics   metrics as Prometheus reads them, if that is wanted
 *
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import type { SocketAddress } from "@firezone/core/ip";
import { PROMETHEUS_CONTENT_TYPE } from "@firezone/core/telemetry";
import { Hono } from "@hono/hono";

/** What the answers are made of. */
export interface HealthOptions {
  /** Whether clients are sent here. */
  readonly isReady: () => boolean;
  /** The build's revision; empty if it is not known. */
  readonly revision: string;
  /** Makes the text for Prometheus; without it there is no such page. */
  readonly metrics?: (() => Promise<string>) | undefined;
}

/** Serves until disposed of. @throws ConfigError when the address cannot be used */
export function serveHealth(address: SocketAddress, options: HealthOptions): AsyncDisposable {
  const { isReady, revision, metrics } = options;
  const app = new Hono()
    .get("/healthz", (c) => c.body(null, 200))
    .get("/readyz", (c) => c.text(revision, isReady() ? 200 : 503));
  if (metrics) {
    app.get(
      "/metrics",
      async (c) => c.body(await metrics(), 200, { "content-type": PROMETHEUS_CONTENT_TYPE }),
    );
  }
  return serveHttp(address, app, "health checks", "--health-check-addr");
}

/**
 * Serves an app until disposed of.
 *
 * @param what completes "Cannot serve …"
 * @param option names the option that holds the address
 * @throws ConfigError when the address cannot be used
 */
export function serveHttp(
  address: SocketAddress,
  app: Hono,
  what: string,
  option: string,
): AsyncDisposable {
  try {
    const { ip, port } = address;
    const server = Deno.serve({ hostname: ip.text, port, onListen: () => {} }, app.fetch);
    return { [Symbol.asyncDispose]: () => server.shutdown() };
  } catch (error) {
    throw new ConfigError(
      `Cannot serve ${what} at ${address}: ${(error as Error).message}; ` +
        `name another ${option}, or off`,
    );
  }
}
