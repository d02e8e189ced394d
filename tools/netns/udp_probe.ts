/**
 * UDP datagrams by hand, to see what a network does with them.
 *
 *     udp_probe.ts echo ADDRESS PORT          tells each sender its address
 *     udp_probe.ts ask ADDRESS PORT           prints what `echo` tells
 *     udp_probe.ts punch LOCAL REMOTE PORT    sends for a second; prints `heard` when REMOTE does too
 * @module
 */

import { createSocket, type Socket } from "node:dgram";

const PUNCH_MS = 1_000;
const PUNCH_INTERVAL_MS = 50;

const [command, ...args] = Deno.args;
switch (command) {
  case "echo":
    await echo(args[0]!, Number(args[1]));
    break;
  case "ask":
    await ask(args[0]!, Number(args[1]));
    break;
  case "punch":
    await punch(args[0]!, args[1]!, Number(args[2]));
    break;
  default:
    throw new Error(`Unknown command ${command}`);
}

async function echo(address: string, port: number): Promise<void> {
  const socket = await bind(address, port);
  socket.on("message", (_, from) => socket.send(from.address, from.port, from.address));
  console.log("listening");
}

async function ask(address: string, port: number): Promise<void> {
  const socket = await bind(address.includes(":") ? "::" : "0.0.0.0", 0);
  socket.on("message", (text) => {
    console.log(text.toString());
    socket.close();
  });
  socket.send("who am I?", port, address);
}

async function punch(local: string, remote: string, port: number): Promise<void> {
  const socket = await bind(local, port);
  let heard = false;
  socket.on("message", () => heard = true);
  const interval = setInterval(() => socket.send("hello", port, remote), PUNCH_INTERVAL_MS);
  setTimeout(() => {
    clearInterval(interval);
    socket.close();
    console.log(heard ? "heard" : "silence");
  }, PUNCH_MS);
}

function bind(address: string, port: number): Promise<Socket> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  socket.once("error", reject);
  socket.bind(port, address, () => resolve(socket));
  return promise;
}
