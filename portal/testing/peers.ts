/**
 * A portal in virtual time with strict peers around it, for tests.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { base64 } from "@firezone/core/bytes";
import { ip } from "@firezone/core/ip";
import { seededRandom } from "@firezone/core/testing";
import { after, type Millis, type UnixSeconds } from "@firezone/core/units";
import { formatMistake, parseConfig, type PortalConfig } from "../config/mod.ts";
import type { Era, Refusal, Role } from "../connect_request.ts";
import type { ConnectionId } from "../connection.ts";
import { MemoryStore, type Store } from "../device.ts";
import { PortalState } from "../portal_state.ts";

/** The wall clock when virtual time is zero: 2026-01-01T00:00:00Z. */
export const EPOCH = 1_767_225_600;

/** What a frame from the portal holds. */
export interface Frame {
  readonly topic: string;
  readonly event: string;
  // deno-lint-ignore no-explicit-any -- tests look into payloads as they please
  readonly payload: any;
  readonly ref: unknown;
}

/** Parses a frame as strictly as the strictest peer: four keys, `{}` in what is acknowledged. */
export function strictFrame(text: string): Frame {
  const frame = JSON.parse(text);
  assertEquals(Object.keys(frame).sort(), ["event", "payload", "ref", "topic"]);
  if (frame.event === "phx_reply") {
    assertEquals(Object.keys(frame.payload).sort(), ["response", "status"]);
    if (frame.payload.status === "ok") assertEquals(frame.payload.response, {});
    else assertEquals(typeof frame.payload.response.reason, "string");
  } else {
    assertEquals(frame.ref, null);
  }
  return frame;
}

/** A configuration that must be valid. */
export function configOf(value: unknown): PortalConfig {
  const parsed = parseConfig(typeof value === "string" ? value : JSON.stringify(value));
  assert(parsed.ok, parsed.ok ? "" : parsed.mistakes.map((m) => formatMistake("", m)).join("\n"));
  return parsed.config;
}

/** A WireGuard key for tests: 32 times one byte. */
export function testKey(byte: number): string {
  return base64(new Uint8Array(32).fill(byte));
}

/** How a peer differs from the usual one of its kind. */
export interface PeerOptions {
  readonly era?: Era;
  readonly token?: string;
  readonly agent?: string;
  readonly remoteIp?: string;
  readonly params?: Readonly<Record<string, string>>;
  /** For relays; 64 times one hex digit. */
  readonly stampSecret?: string;
}

const AGENTS: Record<Role, Record<Era, string>> = {
  client: { v1: "Linux/6.1.0 connlib/1.5.0", v2: "Linux/6.1.0 headless-client/1.5.0 (x86_64)" },
  gateway: { v1: "Linux/6.1.0 connlib/1.5.0", v2: "Linux/6.1.0 gateway/1.5.0 (x86_64)" },
  relay: { v1: "relay/1.5.0", v2: "relay/1.5.0" },
};

const PARAMS: Record<Role, Record<string, string>> = {
  client: { external_id: "client-1", name: "laptop", public_key: testKey(1) },
  gateway: { external_id: "gateway-1", name: "gw", public_key: testKey(2) },
  relay: { ipv4: "203.0.113.1", port: "3478" },
};

/** The token of each role in {@link basicConfig}. */
export const TOKENS: Record<Role, string> = {
  client: "client-token-0123456789",
  gateway: "gateway-token-0123456789",
  relay: "relay-token-0123456789",
};

/** One site, one account, one resource of each type, all granted. */
export const basicConfig = {
  account_slug: "test",
  sites: [{ name: "office", gateway_tokens: [TOKENS.gateway] }],
  relay_tokens: [TOKENS.relay],
  accounts: [{ name: "laptop", tokens: [TOKENS.client] }],
  resources: [
    { name: "lab", type: "cidr", address: "10.0.0.0/24", sites: ["office"] },
    { name: "host", type: "ip", address: "fd12::7", sites: ["office"], filters: ["tcp/80"] },
    { name: "wiki", type: "dns", address: "*.wiki.test", sites: ["office"], filters: ["icmp"] },
    { type: "internet", sites: ["office"] },
  ],
  policies: [{ accounts: ["laptop"], resources: ["*"] }],
  dns: { upstream: ["9.9.9.9", "2620:fe::fe"], search_domain: "example.com" },
};

/** A portal, its clock, and whoever connects. */
export class SimulatedPortal {
  readonly state: PortalState;
  readonly store: Store;
  readonly logs: string[] = [];
  now = 0 as Millis;
  readonly #peers = new Map<ConnectionId, SimulatedPeer>();

  constructor(config: unknown = basicConfig, store: Store = new MemoryStore(), seed = 1) {
    this.store = store;
    this.state = new PortalState(this.now, {
      config: configOf(config),
      store,
      random: seededRandom(seed),
      unixTime: (now) => EPOCH + Math.floor(now / 1000) as UnixSeconds,
    });
    this.#drain();
  }

  /** Asks to connect. */
  tryConnect(role: Role, options: PeerOptions = {}): SimulatedPeer | Refusal {
    const era = options.era ?? "v2";
    const result = this.state.handleConnect(this.now, {
      role,
      era,
      token: options.token ?? TOKENS[role],
      userAgent: options.agent ?? AGENTS[role][era],
      remoteIp: ip(options.remoteIp ?? "198.51.100.7"),
      params: new Map(Object.entries({ ...PARAMS[role], ...options.params })),
    });
    this.#drain();
    if (!result.ok) return result.refusal;
    const peer = new SimulatedPeer(this, role, era, result.connection, options.stampSecret ?? "a");
    this.#peers.set(result.connection, peer);
    return peer;
  }

  /** Connects; fails where that is refused. */
  connect(role: Role, options: PeerOptions = {}): SimulatedPeer {
    const peer = this.tryConnect(role, options);
    assert(peer instanceof SimulatedPeer, JSON.stringify(peer));
    return peer;
  }

  /** Connects and joins. */
  join(role: Role, options: PeerOptions = {}): SimulatedPeer {
    const peer = this.connect(role, options);
    peer.join();
    return peer;
  }

  /** A client and a gateway that are connected, all frames so far taken. */
  pair(era: Era = "v2"): { client: SimulatedPeer; gateway: SimulatedPeer } {
    const gateway = this.join("gateway", { era });
    const client = this.join("client", { era });
    gateway.take();
    client.take();
    return { client, gateway };
  }

  /** Hands a frame to the portal, as `peer`'s. */
  deliver(peer: SimulatedPeer, text: string): void {
    this.state.handleText(this.now, peer.id, text);
    this.#drain();
  }

  /** Ends a connection from outside. */
  disconnect(peer: SimulatedPeer): void {
    peer.closed ??= { code: 1006, reason: "" };
    this.state.handleClose(this.now, peer.id);
    this.#drain();
  }

  /** Puts another configuration in force. */
  configure(config: unknown): void {
    this.state.handleConfig(this.now, configOf(config));
    this.#drain();
  }

  /** Lets time pass, from deadline to deadline; peers keep up their heartbeats unless told not to. */
  advance(ms: number, heartbeats = true): void {
    const end = after(this.now, ms);
    let nextBeat = after(this.now, 10_000);
    while (true) {
      const due = this.state.pollTimeout();
      const next = Math.min(due, heartbeats ? nextBeat : Infinity, end) as Millis;
      this.now = Math.max(this.now, next) as Millis;
      if (heartbeats && this.now >= nextBeat) {
        for (const peer of this.#peers.values()) if (!peer.closed) peer.heartbeat();
        nextBeat = after(this.now, 10_000);
      }
      if (due > this.now && this.now >= end) return;
      this.state.handleTimeout(this.now);
      this.#drain();
    }
  }

  #drain(): void {
    for (let event = this.state.pollEvent(); event; event = this.state.pollEvent()) {
      if (event.tag === "log") {
        this.logs.push(`${event.message} ${JSON.stringify(event.fields)}`);
        continue;
      }
      const peer = this.#peers.get(event.connection)!;
      assertEquals(peer.closed, undefined, "nothing is sent after the end");
      if (event.tag === "send") peer.frames.push(strictFrame(event.frame));
      else peer.closed = { code: event.code, reason: event.reason };
    }
  }
}

/** A peer that takes nothing for granted. */
export class SimulatedPeer {
  readonly frames: Frame[] = [];
  closed: { readonly code: number; readonly reason: string } | undefined;
  #nextRef = 0;

  constructor(
    readonly portal: SimulatedPortal,
    readonly role: Role,
    readonly era: Era,
    readonly id: ConnectionId,
    readonly stampSecret: string,
  ) {}

  /** Sends a message; returns its ref. */
  send(event: string, payload: unknown, topic: string = this.role): number {
    const ref = this.#nextRef++;
    this.portal.deliver(this, JSON.stringify({ topic, event, payload, ref }));
    return ref;
  }

  /** Joins; the reply and what follows is left in `frames`. */
  join(): number {
    const payload = this.role === "relay" ? { stamp_secret: this.stampSecret.repeat(64) } : null;
    return this.send("phx_join", payload);
  }

  /** Sends a heartbeat and takes its answer out again. */
  heartbeat(): void {
    const ref = this.send("heartbeat", {}, "phoenix");
    const i = this.frames.findIndex((f) => f.topic === "phoenix" && f.ref === ref);
    assert(i >= 0, "a heartbeat is answered");
    this.frames.splice(i, 1);
  }

  /** All frames since the last call. */
  take(): Frame[] {
    return this.frames.splice(0);
  }

  /** The events since the last call, in short. */
  takeEvents(): string[] {
    return this.take().map((frame) => frame.event);
  }

  /** The only frame since the last call. */
  takeOne(event: string): Frame {
    const frames = this.take();
    assertEquals(frames.map((frame) => frame.event), [event]);
    return frames[0]!;
  }
}
