/**
 * Packets of nonsense out of an interface, which for a TUN device means into the program behind it:
 * `tun_packets.ts INTERFACE SOURCE4 DESTINATION4 SOURCE6 DESTINATION6`.
 *
 * Random bytes, and headers between these addresses that lie about length, options, extension
 * headers, fragments and what they carry. Prints how many the kernel took.
 * @module
 */

import { ip } from "@firezone/core/ip";

const { symbols: libc } = Deno.dlopen("libc.so.6", {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
  if_nametoindex: { parameters: ["buffer"], result: "u32" },
});

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_ALL = 0x0003;
const COUNT = 4_000;
const MAX_BYTES = 1280;

/** What a packet may say it carries: ICMP, TCP, UDP, IPv6's extension headers, our control packets. */
const PROTOCOLS = [0, 1, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 135, 255];

const [name, ...addresses] = Deno.args;
const [source4, destination4, source6, destination6] = addresses.map((text) => ip(text).bytes);
const fd = libc.socket(AF_PACKET, SOCK_RAW, 0);
if (fd < 0) throw new Error("Cannot open a packet socket");
const index = libc.if_nametoindex(new TextEncoder().encode(`${name}\0`));
// struct sockaddr_ll (packet(7)): family, protocol in network order, interface index.
const address = new DataView(new ArrayBuffer(20));
address.setUint16(0, AF_PACKET, true);
address.setUint16(2, ETH_P_ALL);
address.setInt32(4, index, true);
if (libc.bind(fd, new Uint8Array(address.buffer), 20) < 0) {
  throw new Error(`Cannot send by ${name}`);
}

let taken = 0;
for (let i = 0; i < COUNT; i++) {
  const packet = crypto.getRandomValues(new Uint8Array(1 + Math.floor(Math.random() * MAX_BYTES)));
  if (i % 4 !== 0) writeHeader(packet, i);
  if (libc.send(fd, packet, packet.length, 0) >= 0) taken++;
  // The device's queue is short.
  if (i % 100 === 99) await new Promise((resolve) => setTimeout(resolve, 5));
}
console.log(taken);

/** Makes the beginning look right; of every second packet the length is a lie. */
function writeHeader(packet: Uint8Array, i: number): void {
  const view = new DataView(packet.buffer);
  const isHonest = i % 2 === 0;
  const protocol = PROTOCOLS[i % PROTOCOLS.length]!;
  if (i % 4 === 1 && packet.length >= 20) {
    packet[0] = 0x40 | (isHonest ? 5 : i % 16);
    if (isHonest || i % 3 === 0) view.setUint16(2, packet.length);
    if (i % 5 !== 0) view.setUint16(6, 0);
    packet[9] = protocol;
    packet.set(source4!, 12);
    packet.set(destination4!, 16);
  } else if (packet.length >= 40) {
    packet[0] = 0x60;
    if (isHonest || i % 3 === 0) view.setUint16(4, packet.length - 40);
    packet[6] = protocol;
    packet.set(source6!, 8);
    packet.set(destination6!, 24);
  }
}
