/**
 * Our HTTP/2 client against Node's server (nghttp2), with settings that most servers leave alone.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Http2Connection, type Http2Response } from "@firezone/core/http2";
import { requires } from "../requirements.ts";

/** Answers with the number of bytes that it got, long headers, and trailers. Prints its port. */
const SERVER = `
  const server = require("node:http2").createServer({ settings: JSON.parse(process.argv[1]) });
  server.on("stream", (stream) => {
    let length = 0;
    stream.on("data", (data) => length += data.length);
    stream.on("end", () => {
      stream.respond({ ":status": 200, "x-long": "y".repeat(300) }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(String(length));
    });
  });
  server.listen(0, "127.0.0.1", () => console.log(server.address().port));
`;

const SETTINGS = {
  "of Node": {},
  // Our first header block has to say that the table is empty, or nghttp2 ends the connection.
  "without a header table": { headerTableSize: 0 },
  "with room for a few bytes": { initialWindowSize: 100 },
  "with large frames": { maxFrameSize: 1_000_000, initialWindowSize: 1_000_000 },
  // It refuses what came before it could say so.
  "for few requests at a time": { maxConcurrentStreams: 2 },
};

for (const [name, settings] of Object.entries(SETTINGS)) {
  Deno.test(`HTTP/2 with a server with settings ${name}`, requires("node"), async () => {
    await using server = await startServer(settings);
    using socket = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    const http = new Http2Connection({ scheme: "http", authority: "server.example" });
    const lengths = new Map<number, number>();
    const ask = (length: number) => {
      const body = new Uint8Array(length);
      lengths.set(http.request({ path: "/", headers: [["content-type", "a"]], body }), length);
    };
    for (let i = 0; i < 20; i++) ask(i * 1500);
    for (let answered = 0; answered < 40; answered++) {
      const { requestId, response } = await nextResponse(http, socket);
      assertEquals(response.status, 200);
      assertEquals(new TextDecoder().decode(response.body), String(lengths.get(requestId)));
      assertEquals(response.headers.get("x-long"), "y".repeat(300));
      assertEquals([...response.trailers], [["grpc-status", "0"]]);
      if (answered < 20) ask(answered * 100);
    }
    assert(http.isUsable);
  });
}

/** Carries bytes until there is an answer. */
async function nextResponse(
  http: Http2Connection,
  socket: Deno.TcpConn,
): Promise<{ requestId: number; response: Http2Response }> {
  const buffer = new Uint8Array(65_536);
  while (true) {
    const event = http.pollEvent();
    if (event?.tag === "response") return event;
    if (event !== undefined) throw new Error(event.reason);
    for (let bytes; (bytes = http.pollOutput()) !== undefined;) {
      for (let at = 0; at < bytes.length;) at += await socket.write(bytes.subarray(at));
    }
    const length = await socket.read(buffer);
    if (length === null) http.close("the server has ended");
    else http.handleBytes(buffer.subarray(0, length));
  }
}

async function startServer(settings: object): Promise<AsyncDisposable & { port: number }> {
  const child = new Deno.Command("node", {
    args: ["-e", SERVER, JSON.stringify(settings)],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  let text = "";
  for await (const part of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += part;
    if (text.endsWith("\n")) break;
  }
  return {
    port: Number(text),
    async [Symbol.asyncDispose]() {
      child.kill();
      await child.status;
    },
  };
}
