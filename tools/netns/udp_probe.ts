/**
 * UDP datagrams by hand, to see what a network does with them.
 *
 *     udp_probe.ts echo ADDRESS PORT          tells each sender its address
 *     udp_probe.ts ask ADDRESS PORT           prints what `echo` tells
 *     udp_probe.ts punch LOCAL REMOTE PORT    sends for a second; prints `heard` when REMOTE does too
 *     udp_probe.ts babble ADDRESS PORT        sends nonsense of every kind that may be looked at
 * @module
 */

import { createSocket, type Socket } from "node:dgram";

const PUNCH_MS = 1_000;
const PUNCH_INTERVAL_MS = 50;
const FIRST_BYTES = [0x00, 0x01, 0x02, 0x03, 0x04, 0x40, 0x41, 0x4f, 0x50, 0xff];

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
  case "babble":
    await babble(args[0]!, Number(args[1]));
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

/** Random bytes behind each first byte that STUN, ChannelData or WireGuard may begin with. */
async function babble(address: string, port: number): Promise<void> {
  const socket = await bind(address.includes(":") ? "::" : "0.0.0.0", 0);
  const send = (bytes: Uint8Array) =>
    new Promise<void>((resolve) => socket.send(bytes, port, address, () => resolve()));
  for (let i = 0; i < 2_000; i++) {
    const bytes = crypto.getRandomValues(new Uint8Array(i % 300));
    if (bytes.length > 0) bytes[0] = FIRST_BYTES[i % FIRST_BYTES.length]!;
    const kind = i % 3;
    if (bytes.length >= 20 && kind > 0) {
      const view = new DataView(bytes.buffer);
      // A STUN header that is right, or a WireGuard message of a known type.
      if (bytes[0]! < 4 && kind === 1) {
        view.setUint16(2, bytes.length - 20 & ~3);
        view.setUint32(4, 0x2112a442);
      } else {
        view.setUint32(0, 1 + i % 4, true);
      }
    }
    await send(bytes);
  }
  socket.close();
}

function bind(address: string, port: number): Promise<Socket> {
  const isV6 = address.includes(":");
  const socket = createSocket(isV6 ? { type: "udp6", ipv6Only: true } : { type: "udp4" });
  const { promise, resolve, reject } = Promise.withResolvers<Socket>();
  socket.once("error", reject);
  socket.bind(port, address, () => resolve(socket));
  return promise;
}
