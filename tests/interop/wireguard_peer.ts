/**
 * Our WireGuard in the same network namespace as a wireguard-go, in a process of its own: it talks
 * to it over loopback, and reaches echoes behind it.
 *
 *     this process: packets ─► tunnel ─► UDP ─► wireguard-go ─► its TUN ─► echo (this process too)
 *
 * It takes its orders as JSON in the first argument and answers with JSON on stdout.
 * @module
 */

import { base64, fromBase64 } from "@firezone/core/bytes";
import { ip, SocketAddress } from "@firezone/core/ip";
import { Epoll, SendResult, UdpSocket } from "@firezone/core/os/linux";
import { monotonicNow, unixMillisAtZero } from "@firezone/core/runtime";
import { testAead } from "@firezone/core/testing";
import {
  peekReceiverIndex,
  WireGuardNode,
  type WireGuardResult,
  WireGuardTunnel,
} from "@firezone/core/wireguard";
import { type EchoEnds, EchoPackets } from "./echo_packets.ts";

/** What the test wants. */
export interface PeerOrders {
  /** Which side starts handshakes. */
  readonly role: "initiator" | "responder";
  /** The interface of wireguard-go. */
  readonly interface: string;
  /** The private key of wireguard-go, base64. */
  readonly theirPrivateKey: string;
  /** Its public key, base64. */
  readonly theirPublicKey: string;
  /** Its preshared key, base64. */
  readonly theirPresharedKey: string;
  /** Ours, base64. */
  readonly ourPresharedKey: string;
  /** Loopback address between the two. */
  readonly loopback: "127.0.0.1" | "::1";
  /** Addresses on its TUN and, behind our end of the tunnel, ours. */
  readonly inner: { ours4: string; theirs4: string; ours6: string; theirs6: string };
  /** How many packets are to come back. */
  readonly packets: number;
  /** Whether to make new keys after half of them. */
  readonly rekey: boolean;
  /** Handshakes that we answer without a cookie. */
  readonly handshakesPerSecond?: number;
  /** When to stop if nothing comes back, in milliseconds. */
  readonly patienceMs: number;
}

/** What happened. */
export interface PeerReport {
  /** Packets that came back unchanged. */
  readonly echoed: number;
  /** UDP payload of these, one way. */
  readonly payloadBytes: number;
  /** Packets sent again, because they or their echo did not come. */
  readonly resent: number;
  /** Events of our tunnel, in order. */
  readonly events: string[];
  /** Cookie replies we sent. */
  readonly cookieReplies: number;
  /** Messages that our tunnel dropped. */
  readonly drops: number;
  /** What `wg show … dump` says about us at the end: received and sent bytes. */
  readonly theirTransfer: { readonly received: number; readonly sent: number };
  /** From the first packet to the last echo. */
  readonly elapsedMs: number;
}

const PACKET_SIZE = 1280;
const WINDOW = 48;
const RESEND_AFTER_MS = 400;
const OUTER = 0;
const ECHO = 1;

/** One run. */
class Peer {
  readonly #orders: PeerOrders;
  readonly #node: WireGuardNode;
  readonly #tunnel: WireGuardTunnel;
  readonly #outer: UdpSocket;
  readonly #echoes: UdpSocket[];
  readonly #epoll = new Epoll();
  readonly #packets: EchoPackets;
  readonly #ends: EchoEnds;
  readonly #packet = new Uint8Array(2048);
  readonly #sealed = new Uint8Array(65_536);
  readonly #plain = new Uint8Array(65_536);
  readonly #result: WireGuardResult = { code: "dropped", length: 0 };
  readonly #sentAt = new Map<number, number>();
  readonly #events: string[] = [];
  #remote: SocketAddress | undefined;
  #next = 0;
  #echoed = 0;
  #payloadBytes = 0;
  #resent = 0;
  #rekeyed = false;

  constructor(orders: PeerOrders) {
    this.#orders = orders;
    const { inner } = orders;
    this.#node = new WireGuardNode({
      privateKey: crypto.getRandomValues(new Uint8Array(32)),
      aead: testAead(),
      random: (length) => crypto.getRandomValues(new Uint8Array(length)),
      unixMillisAtZero: unixMillisAtZero(),
      ...orders.handshakesPerSecond !== undefined &&
        { handshakesPerSecond: orders.handshakesPerSecond },
    });
    this.#tunnel = new WireGuardTunnel({
      node: this.#node,
      remotePublicKey: fromBase64(orders.theirPublicKey)!,
      presharedKey: fromBase64(orders.ourPresharedKey)!,
      initiates: orders.role === "initiator",
      now: monotonicNow(),
    });
    const loopback = ip(orders.loopback);
    const buffers = { receiveBuffer: 4 << 20, sendBuffer: 4 << 20 };
    this.#outer = UdpSocket.open({
      family: loopback.family,
      address: loopback,
      port: 0,
      ...buffers,
    });
    this.#echoes = [inner.theirs4, inner.theirs6].map((text) => {
      const address = ip(text);
      return UdpSocket.open({ family: address.family, address, port: 7, ...buffers });
    });
    this.#ends = {
      ours4: ip(inner.ours4),
      theirs4: ip(inner.theirs4),
      ours6: ip(inner.ours6),
      theirs6: ip(inner.theirs6),
      ourPort: 4444,
      theirPort: 7,
    };
    this.#packets = new EchoPackets(this.#ends, PACKET_SIZE);
    this.#epoll.add(this.#outer.fd, OUTER, { readable: true });
    for (const [i, echo] of this.#echoes.entries()) {
      this.#epoll.add(echo.fd, ECHO + i, { readable: true });
    }
  }

  run(): PeerReport {
    wg(
      ["set", this.#orders.interface, "private-key", "/dev/stdin"],
      this.#orders.theirPrivateKey,
    );
    this.#configurePeer();
    if (this.#orders.role === "initiator") this.#tunnel.initiate(monotonicNow());
    else this.#kick();
    const startedAt = performance.now();
    let progressAt = startedAt;
    let progress = 0;
    let checkAt = startedAt + RESEND_AFTER_MS;
    while (this.#echoed < this.#orders.packets) {
      const now = performance.now();
      if (this.#echoed > progress) [progress, progressAt] = [this.#echoed, now];
      if (now - progressAt > this.#orders.patienceMs) break;
      if (now >= checkAt) {
        this.#resendLost(now);
        checkAt = now + 50;
      }
      this.#fill(now);
      this.#timeout();
      const wait = Math.min(this.#tunnel.pollTimeout(), checkAt) - performance.now();
      const n = this.#epoll.wait(Math.max(0, wait));
      for (let i = 0; i < n; i++) {
        const token = this.#epoll.token(i);
        if (token === OUTER) this.#receive();
        else echo(this.#echoes[token - ECHO]!);
      }
      if (
        this.#orders.rekey && !this.#rekeyed && this.#echoed >= this.#orders.packets / 2
      ) this.#rekey();
    }
    return this.#report(performance.now() - startedAt);
  }

  close(): void {
    this.#tunnel.dispose();
    for (const closable of [this.#epoll, this.#outer, ...this.#echoes]) closable.close();
  }

  #configurePeer(): void {
    const { interface: name, role, inner } = this.#orders;
    const args = ["set", name, "peer", base64(this.#node.publicKey)];
    args.push("preshared-key", "/dev/stdin");
    args.push("allowed-ips", `${inner.ours4}/32,${inner.ours6}/128`);
    // Without an address of ours wireguard-go cannot begin, and learns it from our handshake.
    if (role === "responder") args.push("endpoint", this.#outer.bound.key);
    wg(args, this.#orders.theirPresharedKey);
    const port = Number(wg(["show", name, "listen-port"]));
    this.#remote = new SocketAddress(ip(this.#orders.loopback), port);
  }

  /** Makes wireguard-go send something to us. */
  #kick(): void {
    const to = new SocketAddress(this.#ends.ours4, 1);
    this.#echoes[0]!.send(undefined, to, new Uint8Array(16), 0, 16, 16, 0);
  }

  /** We start a handshake, or wireguard-go has to because it forgot us. */
  #rekey(): void {
    this.#rekeyed = true;
    if (this.#orders.role === "initiator") {
      this.#tunnel.initiate(monotonicNow(), true);
      return;
    }
    wg(["set", this.#orders.interface, "peer", base64(this.#node.publicKey), "remove"]);
    this.#configurePeer();
    this.#kick();
  }

  #fill(now: number): void {
    const { packets } = this.#orders;
    if (!this.#tunnel.canSeal(monotonicNow())) return;
    while (this.#sentAt.size < WINDOW && this.#next < packets) {
      this.#send(this.#next);
      this.#sentAt.set(this.#next++, now);
    }
  }

  #resendLost(now: number): void {
    if (!this.#tunnel.canSeal(monotonicNow())) return;
    for (const [number, sentAt] of this.#sentAt) {
      if (now - sentAt < RESEND_AFTER_MS) continue;
      this.#resent++;
      this.#sentAt.set(number, now);
      this.#send(number);
    }
  }

  #send(number: number): void {
    const length = this.#packets.write(this.#packet, number);
    const sealed = this.#tunnel.seal(monotonicNow(), this.#packet, 0, length, this.#sealed, 0);
    if (sealed > 0) this.#transmit(this.#sealed, sealed);
  }

  #transmit(message: Uint8Array, length: number): void {
    const result = this.#outer.send(undefined, this.#remote!, message, 0, length, length, 0);
    if (result === SendResult.Sent) return;
    // Lost on the way; whoever waits for an answer sends it again.
  }

  #timeout(): void {
    const now = monotonicNow();
    if (this.#tunnel.pollTimeout() <= now) this.#tunnel.handleTimeout(now);
    for (let message; (message = this.#tunnel.pollTransmit()) !== undefined;) {
      this.#transmit(message, message.length);
    }
    for (let event; (event = this.#tunnel.pollEvent()) !== undefined;) {
      this.#events.push(event.tag);
    }
  }

  #receive(): void {
    const socket = this.#outer;
    const count = socket.receive();
    for (let i = 0; i < count; i++) {
      const end = socket.start(i) + socket.length(i);
      const size = socket.segmentSize(i);
      for (let at = socket.start(i); at < end; at += size) {
        this.#onDatagram(socket.from(i), socket.buffer, at, Math.min(at + size, end));
      }
    }
    this.#timeout();
  }

  #onDatagram(from: SocketAddress, buf: Uint8Array, start: number, end: number): void {
    const now = monotonicNow();
    const index = peekReceiverIndex(buf, start, end);
    if (index === undefined) {
      const identity = this.#node.identifyInitiation(now, from, buf, start, end);
      if (identity.tag === "cookie-reply") {
        this.#transmit(identity.datagram, identity.datagram.length);
      }
      if (identity.tag !== "peer") return;
    } else if (this.#node.tunnelForIndex(index) !== this.#tunnel) return;
    const result = this.#result;
    this.#tunnel.handle(now, buf, start, end, this.#plain, 0, result);
    if (result.code !== "data") return;
    const number = this.#packets.recognise(this.#plain, result.length);
    if (number === undefined || !this.#sentAt.delete(number)) return;
    this.#echoed++;
    this.#payloadBytes += this.#packets.payloadLength(number);
  }

  #report(elapsedMs: number): PeerReport {
    const fields = wg(["show", this.#orders.interface, "dump"]).trim().split("\n")[1]?.split("\t");
    return {
      echoed: this.#echoed,
      payloadBytes: this.#payloadBytes,
      resent: this.#resent,
      events: this.#events,
      cookieReplies: this.#node.counters["cookie-replies"],
      drops: Object.values(this.#tunnel.drops).reduce((sum, count) => sum + count, 0),
      theirTransfer: { received: Number(fields?.[5]), sent: Number(fields?.[6]) },
      elapsedMs: Math.round(elapsedMs),
    };
  }
}

function echo(socket: UdpSocket): void {
  const count = socket.receive();
  for (let i = 0; i < count; i++) {
    const [start, length] = [socket.start(i), socket.length(i)];
    socket.send(undefined, socket.from(i), socket.buffer, start, length, socket.segmentSize(i), 0);
  }
}

/** Runs `wg`; returns what it prints. */
function wg(args: string[], stdin?: string): string {
  // The shell gives it the key on stdin: outputSync cannot.
  const command = stdin === undefined
    ? new Deno.Command("wg", { args })
    : new Deno.Command("sh", { args: ["-c", 'printf %s "$0" | wg "$@"', stdin, ...args] });
  const { success, stdout, stderr } = command.outputSync();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`wg ${args.join(" ")} failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

if (import.meta.main) {
  const peer = new Peer(JSON.parse(Deno.args[0]!));
  try {
    console.log(JSON.stringify(peer.run()));
  } finally {
    peer.close();
  }
}
