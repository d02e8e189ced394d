/**
 * Answers on a Unix socket what a running program is doing: `GET /status` gives JSON.
 *
 * A socket file that an ended process left behind is replaced; one that still answers is not.
 * @module
 */

import { ConfigError } from "../cli/errors.ts";

/** A running server. */
export interface StatusServer {
  /** Stops answering and removes the socket file. */
  close(): Promise<void>;
}

/**
 * Listens at `path`, readable by the owner alone.
 *
 * @param status called per request; plain data without secrets
 * @throws ConfigError when the path cannot be used or another process answers there
 */
export async function serveStatus(
  path: string,
  status: () => Promise<unknown>,
): Promise<StatusServer> {
  await removeStale(path);
  let server: Deno.HttpServer;
  try {
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")) || "/", { recursive: true });
    server = Deno.serve({ path, onListen: () => {} }, async (request) => {
      if (new URL(request.url).pathname !== "/status") return new Response(null, { status: 404 });
      return Response.json(await status());
    });
    await Deno.chmod(path, 0o600);
  } catch (error) {
    throw new ConfigError(
      `Cannot listen at ${path}: ${(error as Error).message}; name another --status-socket`,
    );
  }
  return {
    close: async () => {
      await server.shutdown();
      await Deno.remove(path).catch(() => {});
    },
  };
}

async function removeStale(path: string): Promise<void> {
  const info = await Deno.lstat(path).catch(() => undefined);
  // What cannot be looked at cannot be listened at: that says why.
  if (info === undefined) return;
  if (!info.isSocket) refuse(path, "what is there is not a socket");
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionRefused)) {
      refuse(path, (error as Error).message);
    }
    return await Deno.remove(path).catch(() => {});
  }
  throw new ConfigError(
    `Cannot listen at ${path}: another process does; stop it or name another --status-socket`,
  );
}

function refuse(path: string, reason: string): never {
  throw new ConfigError(
    `Cannot listen at ${path}: ${reason}; remove it or name another --status-socket`,
  );
}
