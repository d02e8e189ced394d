/**
 * An HTTPS server for tests that answers every DNS query with the address 192.0.2.7.
 * @module
 */

import { CERTIFICATE, PRIVATE_KEY } from "./certificate.ts";

/** The server. */
export interface FakeHttps extends AsyncDisposable {
  /** Its port. */
  readonly port: number;
  /** Method, path and media type of what it was asked. */
  readonly requests: string[];
  /** Ports of those who asked: one per connection. */
  readonly connections: Set<number>;
}

/** Starts one. @param port 0 for any */
export function fakeHttps(hostname: string, port: number): FakeHttps {
  const requests: string[] = [];
  const connections = new Set<number>();
  const ending = Promise.withResolvers<void>();
  const server = Deno.serve({
    hostname,
    port,
    cert: CERTIFICATE,
    key: PRIVATE_KEY,
    onListen: () => {},
  }, async (request, info) => {
    const { pathname, search } = new URL(request.url);
    const query = await request.bytes();
    requests.push(`${request.method} ${pathname}${search} ${request.headers.get("content-type")}`);
    if (info.remoteAddr.transport === "tcp") connections.add(info.remoteAddr.port);
    if (pathname === "/silent") await ending.promise;
    if (pathname === "/moved") return Response.redirect(new URL("/dns-query", request.url));
    return new Response(pathname === "/long" ? new Uint8Array(70_000) : answerTo(query), {
      status: pathname === "/missing" ? 404 : 200,
      headers: { "content-type": pathname === "/html" ? "text/html" : "application/dns-message" },
    });
  });
  return {
    port: (server.addr as Deno.NetAddr).port,
    requests,
    connections,
    async [Symbol.asyncDispose]() {
      ending.resolve();
      await server.shutdown();
    },
  };
}

function answerTo(query: Uint8Array): Uint8Array<ArrayBuffer> {
  // The query with QR set, one answer, and the record behind: a pointer to the name, A, IN, 60 s.
  const bytes = new Uint8Array(query.length + 16);
  bytes.set(query);
  bytes[2]! |= 0x80;
  bytes[7] = 1;
  bytes.set([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7], query.length);
  return bytes;
}
