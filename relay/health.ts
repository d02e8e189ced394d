/**
 * The relay's health endpoint: `GET /healthz` answers 200 while the process works, `GET /readyz`
 * while clients are sent here.
 * @module
 */

import { ConfigError } from "@firezone/core/cli";
import type { SocketAddress } from "@firezone/core/ip";
import { Hono } from "@hono/hono";

/** Serves until disposed of. @throws ConfigError when the address cannot be used */
export function serveHealth(address: SocketAddress, isReady: () => boolean): AsyncDisposable {
  const app = new Hono()
    .get("/healthz", (c) => c.body(null, 200))
    .get("/readyz", (c) => c.body(null, isReady() ? 200 : 503));
  try {
    const { ip, port } = address;
    const server = Deno.serve({ hostname: ip.text, port, onListen: () => {} }, app.fetch);
    return { [Symbol.asyncDispose]: () => server.shutdown() };
  } catch (error) {
    throw new ConfigError(
      `Cannot serve health checks at ${address}: ${(error as Error).message}; ` +
        "name another --health-check-addr, or off",
    );
  }
}
