/**
 * Asks a resolver on another machine, then sends something to its port 5300. Prints `answer` or
 * `silence`, whichever it was for 300 ms.
 * @module
 */

import dgram from "node:dgram";
import { queryBytes } from "../../../core/testing/fake_dns.ts";

const [sentinel] = Deno.args as [string];
const socket = dgram.createSocket("udp4");
socket.on("message", () => end("answer"));
socket.send(queryBytes("db.example.com", "A"), 53, sentinel);
socket.send("hello", 5300, sentinel);
setTimeout(() => end("silence"), 300);

function end(outcome: string): never {
  console.log(outcome);
  Deno.exit();
}
