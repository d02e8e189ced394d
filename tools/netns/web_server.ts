/**
 * The private web server of the demo: `web_server.ts PORT ADDRESS…`.
 *
 * `/` is a page that names the visitor's address; `/stream` never ends, to be read for as long as
 * the reader cares to measure; `/file/BYTES` is a file of that size. Prints `listening` once all
 * addresses are bound.
 * @module
 */

import { testFile } from "./test_file.ts";

const CHUNK = new Uint8Array(256 * 1024);

const [port, ...addresses] = Deno.args;
for (const hostname of addresses) {
  Deno.serve({ hostname, port: Number(port), onListen: () => {} }, answer);
}
console.log("listening");

function answer(request: Request, info: Deno.ServeHandlerInfo<Deno.NetAddr>): Response {
  const { pathname } = new URL(request.url);
  if (pathname === "/stream") return new Response(endlessZeros());
  const fileLength = /^\/file\/(\d{1,8})$/.exec(pathname)?.[1];
  if (fileLength !== undefined) return new Response(testFile(Number(fileLength)));
  if (pathname !== "/") return new Response("There is no such page\n", { status: 404 });
  return new Response(`Hello ${info.remoteAddr.hostname}, this is the private web server.\n`);
}

function endlessZeros(): ReadableStream<Uint8Array> {
  return new ReadableStream({
    pull: (controller) => controller.enqueue(CHUNK),
  });
}
