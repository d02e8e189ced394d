/**
 * An HTTPS server for tests that answers every DNS query with the address 192.0.2.7.
 * @module
 */

import http2 from "node:http2";
import { CERTIFICATE, PRIVATE_KEY } from "./certificate.ts";

/** The server. */
export interface FakeHttps extends AsyncDisposable {
  /** Its port. */
  readonly port: number;
  /** Method, path and media type of what it was asked. */
  readonly requests: string[];
  /** Connections it has had. */
  readonly sessions: http2.Http2Session[];
}

/** Starts one. @param port 0 for any */
export async function fakeHttps(hostname: string, port: number): Promise<FakeHttps> {
  const requests: string[] = [];
  const sessions: http2.Http2Session[] = [];
  const server = http2.createSecureServer({ key: PRIVATE_KEY, cert: CERTIFICATE });
  server.on("session", (session) => sessions.push(session));
  server.on("sessionError", () => {});
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    const chunks: Uint8Array[] = [];
    stream.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    stream.on("end", () => {
      const path = headers[":path"];
      requests.push(`${headers[":method"]} ${path} ${headers["content-type"]}`);
      const type = path === "/html" ? "text/html" : "application/dns-message";
      stream.respond({ ":status": path === "/missing" ? 404 : 200, "content-type": type });
      if (path === "/long") stream.end(new Uint8Array(70_000));
      else stream.end(answerTo(new Uint8Array(chunks.flatMap((chunk) => [...chunk]))));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, hostname, () => resolve()));
  return {
    port: (server.address() as { port: number }).port,
    requests,
    sessions,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function answerTo(query: Uint8Array): Uint8Array {
  // The query with QR set, one answer, and the record behind: a pointer to the name, A, IN, 60 s.
  const bytes = new Uint8Array(query.length + 16);
  bytes.set(query);
  bytes[2]! |= 0x80;
  bytes[7] = 1;
  bytes.set([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7], query.length);
  return bytes;
}
