/**
 * How a running relay is told what to log: `POST /log_filter?directives=info,relay=debug`.
 *
 * Meant for loopback: whoever reaches it can make the log long, but learns and changes nothing else.
 * @module
 */

import type { SocketAddress } from "@firezone/core/ip";
import { serveHttp } from "@firezone/core/runtime/health_server";
import { type LogFilter, parseLogFilter } from "@firezone/core/telemetry";
import { Hono } from "@hono/hono";

/** No filter that makes sense is longer. */
const MAX_DIRECTIVES_LENGTH = 4096;

/**
 * Serves until disposed of.
 *
 * @param setFilter puts a filter in force in all threads
 * @throws ConfigError when the address cannot be used
 */
export function serveControl(
  address: SocketAddress,
  setFilter: (filter: LogFilter) => void,
): AsyncDisposable {
  const app = new Hono().post("/log_filter", (c) => {
    const directives = c.req.query("directives");
    const filter = directives === undefined || directives.length > MAX_DIRECTIVES_LENGTH
      ? undefined
      : parseLogFilter(directives);
    if (filter === undefined) {
      return c.text("expected ?directives= with levels by part, such as info,portal=debug\n", 400);
    }
    setFilter(filter);
    return c.body(null, 200);
  });
  const remedy = "name another --control-endpoint, or off";
  return serveHttp(address, (request) => app.fetch(request), "the log filter", remedy);
}
