/**
 * Two tunnels on a link in virtual time, for tests.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { base64 } from "../../bytes/mod.ts";
import { type SocketAddress, socketAddress } from "../../ip/mod.ts";
import { seededRandom, testAead } from "../../testing/mod.ts";
import { after, type Millis, NEVER } from "../../units.ts";
import { peekReceiverIndex } from "../messages.ts";
import { WireGuardNode } from "../node.ts";
import {
  type WireGuardEvent,
  type WireGuardResult,
  WireGuardTunnel,
  type WireGuardTunnelOptions,
} from "../tunnel.ts";

const aead = testAead();

/** A message on its way. */
interface Flight {
  readonly arrivesAt: Millis;
  readonly to: End;
  readonly from: End;
  readonly message: Uint8Array;
}

/** One end of the link: a node, its one tunnel, and what happened to it. */
export class End {
  /** Where its messages come from. */
  readonly address: SocketAddress;
  /** Has this one tunnel. */
  readonly node: WireGuardNode;
  /** Replaced by tests that make a peer forget everything. */
  tunnel!: WireGuardTunnel;
  /** Every message of the control path sent, with its time and type. */
  readonly sent: { at: number; type: number; message: Uint8Array }[] = [];
  /** Every event, with its time. */
  readonly events: { at: number; event: WireGuardEvent }[] = [];
  /** Every packet received, with its padding. */
  readonly packets: Uint8Array[] = [];
  /** What became of each message received. */
  readonly outcomes: string[] = [];
  /** Whether the last message that came was news for the owner of the tunnel. */
  newsOfLastMessage = false;
  #deadline: Millis = NEVER;

  /** An end without a tunnel yet. */
  constructor(readonly name: string, seed: number, handshakesPerSecond?: number) {
    this.address = socketAddress(`192.0.2.${seed % 250 + 1}:51820`);
    this.node = new WireGuardNode({
      privateKey: seededRandom(seed)(32),
      aead,
      random: seededRandom(seed + 1000),
      unixMillisAtZero: 1_700_000_000_000,
      ...handshakesPerSecond !== undefined && { handshakesPerSecond },
    });
  }

  /** The times of messages of one type. */
  sentAt(type: number): number[] {
    return this.sent.filter((it) => it.type === type).map((it) => it.at);
  }

  /** When its tunnel wants to act, which is asked only when there is news of it. */
  nextDeadline(): Millis {
    if (this.tunnel.hasNews) this.#deadline = this.tunnel.pollTimeout();
    return this.#deadline;
  }

  /** The tags of the events, in order. */
  get eventTags(): string[] {
    return this.events.map((it) => it.event.tag);
  }
}

/** How to make a {@link VirtualLink}; everything has a default. */
export interface VirtualLinkOptions {
  /** Added to all seeds. */
  readonly seed?: number;
  /** What to change in the first end's tunnel; it initiates. */
  readonly a?: Partial<WireGuardTunnelOptions>;
  /** What to change in the second end's tunnel; it does not initiate. */
  readonly b?: Partial<WireGuardTunnelOptions>;
  /** Of the second end's node. */
  readonly handshakesPerSecond?: number;
  /** One way. */
  readonly delayMs?: number;
}

/** See the head of this file. */
export class VirtualLink {
  /** The current time; starts at 1000 so that nothing relies on zero. */
  now = 1000 as Millis;
  /** By default the end that initiates. */
  readonly a: End;
  /** By default the end that only answers. */
  readonly b: End;
  /** Whether a message gets through. */
  passes: (from: End, message: Uint8Array) => boolean = () => true;
  /** One way; may be changed at any time, which reorders. */
  delayMs: number;
  readonly #flights: Flight[] = [];
  readonly #plain = new Uint8Array(2048);
  readonly #sealed = new Uint8Array(2048);
  readonly #result: WireGuardResult = { code: "dropped", length: 0 };

  /** Two ends that have not talked. */
  constructor(options: VirtualLinkOptions = {}) {
    const seed = options.seed ?? 1;
    this.delayMs = options.delayMs ?? 10;
    this.a = new End("a", seed);
    this.b = new End("b", seed + 7, options.handshakesPerSecond);
    this.a.tunnel = this.makeTunnel(this.a, this.b, { initiates: true, ...options.a });
    this.b.tunnel = this.makeTunnel(this.b, this.a, { initiates: false, ...options.b });
  }

  /** Another tunnel for `end`. */
  makeTunnel(
    end: End,
    peer: End,
    options: Partial<WireGuardTunnelOptions> & { initiates: boolean },
  ): WireGuardTunnel {
    return new WireGuardTunnel({
      node: end.node,
      remotePublicKey: peer.node.publicKey,
      presharedKey: new Uint8Array(32).fill(0x33),
      now: this.now,
      ...options,
    });
  }

  /** The other end. */
  peerOf(end: End): End {
    return end === this.a ? this.b : this.a;
  }

  /** Seals and sends a packet; false when there is no session. */
  send(from: End, packet: Uint8Array): boolean {
    const { tunnel } = from;
    const length = tunnel.seal(this.now, packet, 0, packet.length, this.#sealed, 3);
    if (length > 0) {
      assertEquals(length, tunnel.sealedLength(packet.length));
      this.inject(this.peerOf(from), this.#sealed.slice(3, 3 + length));
    }
    this.#drain(from);
    return length > 0;
  }

  /** Puts a message on the link, as if it came from the other end. */
  inject(to: End, message: Uint8Array): void {
    const from = this.peerOf(to);
    if (!this.passes(from, message)) return;
    this.#flights.push({ arrivesAt: after(this.now, this.delayMs), to, from, message });
    // Stable: what was sent first arrives first when both arrive at once.
    this.#flights.sort((x, y) => x.arrivesAt - y.arrivesAt);
  }

  /** Calls a command of a tunnel and takes what it queued. */
  command(end: End, command: (tunnel: WireGuardTunnel) => void): void {
    command(end.tunnel);
    this.#drain(end);
  }

  /** Lets so many milliseconds pass, jumping from deadline to deadline. */
  run(ms: number): void {
    const until = after(this.now, ms);
    for (let steps = 0; steps < 100_000; steps++) {
      this.#drain(this.a);
      this.#drain(this.b);
      const next = Math.min(
        this.a.nextDeadline(),
        this.b.nextDeadline(),
        this.#flights[0]?.arrivesAt ?? Infinity,
      );
      if (next > until) {
        this.now = until;
        return;
      }
      this.now = Math.max(next, this.now) as Millis;
      this.#step();
    }
    throw new Error("Nothing settles: the same deadline is announced again and again");
  }

  #step(): void {
    while (this.#flights.length > 0 && this.#flights[0]!.arrivesAt <= this.now) {
      this.#deliver(this.#flights.shift()!);
    }
    for (const end of [this.a, this.b]) {
      if (end.nextDeadline() > this.now) continue;
      end.tunnel.handleTimeout(this.now);
      const next = end.nextDeadline();
      assert(next === 0 || next > this.now, "a deadline must not stay after it was handled");
    }
  }

  #deliver({ to, from, message }: Flight): void {
    // In the middle of a buffer, so that offsets are proven too.
    const buf = new Uint8Array(message.length + 5);
    buf.set(message, 5);
    const end = buf.length;
    const index = peekReceiverIndex(buf, 5, end);
    if (index === undefined) {
      const identity = to.node.identifyInitiation(this.now, from.address, buf, 5, end);
      if (identity.tag === "cookie-reply") {
        to.outcomes.push("cookie-reply");
        return this.inject(from, identity.datagram);
      }
      if (identity.tag === "drop") {
        to.outcomes.push(identity.reason);
        return;
      }
      assertEquals(identity.publicKey, base64(from.node.publicKey));
    } else if (to.node.tunnelForIndex(index) !== to.tunnel) {
      to.outcomes.push("unknown-tunnel");
      return;
    }
    const result = this.#result;
    to.tunnel.handle(this.now, buf, 5, end, this.#plain, 7, result);
    to.newsOfLastMessage = to.tunnel.hasNews;
    to.outcomes.push(result.code === "dropped" ? result.reason! : result.code);
    if (result.code === "data") to.packets.push(this.#plain.slice(7, 7 + result.length));
    this.#drain(to);
  }

  #drain(end: End): void {
    for (let message; (message = end.tunnel.pollTransmit()) !== undefined;) {
      end.sent.push({ at: this.now, type: message[0]!, message });
      this.inject(this.peerOf(end), message);
    }
    for (let event; (event = end.tunnel.pollEvent()) !== undefined;) {
      end.events.push({ at: this.now, event });
    }
  }
}

/** Completes a handshake that the first end initiates; forgets the packets of before. */
export function connect(link: VirtualLink, withinMs = 100): void {
  link.command(link.a, (tunnel) => tunnel.initiate(link.now, true));
  link.run(withinMs);
  for (const end of [link.a, link.b]) {
    assertEquals(end.eventTags.at(-1), "handshake-completed");
    end.packets.length = 0;
  }
}

/** 100 bytes that are all the same number. */
export function packet(number: number): Uint8Array {
  return new Uint8Array(100).fill(number & 0xff);
}
