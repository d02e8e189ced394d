/**
 * A relay without a network: its owner, who opens and closes ports, and its clients, who believe what
 * they are told. After every step
 *
 * - what clients were told holds: data flows through channels that were granted, and through no
 *   other; a port stays open as long as it was promised, and not longer;
 * - sockets are opened and closed in pairs, and before a client hears of them;
 * - every answer answers a request of the client that gets it, once;
 * - nothing is due that was not done, and the indices agree (`relay/invariants.ts`).
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Forwarding, type RelayCommand, RelayServer } from "@firezone/relay";
import { checkServer } from "@firezone/relay/testing";
import { ip, SocketAddress, socketAddress } from "@firezone/core/ip";
import { longTermKey, METHOD, parseStunMessage, type StunMessage } from "@firezone/core/stun";
import { seededRandom } from "@firezone/core/testing";
import { relayPassword } from "@firezone/core/turn";
import { after, type Millis, NEVER, type UnixSeconds } from "@firezone/core/units";
import type { Coverage } from "./target.ts";
import { damage, type RawAttribute, rawStun, TYPE, xorAddress } from "./raw_stun.ts";
import type { Proof, RelaySetup, RequestStep, Step } from "./relay_steps.ts";

const SECRET = "4c98bf59c99b3e467ecd7cf9d6b3e5279645fca59be67bc5bb4af3cf653761ab";
const PUBLIC = { 4: ip("203.0.113.1"), 6: ip("2001:db8::1") };
const LOWEST_PORT = 50_000;
const CHANNEL_MS = 600_000;
const EPOCH = 1_700_000_000;
const CLIENTS = [
  "198.51.100.1:5000",
  "198.51.100.1:5001",
  "198.51.100.2:5000",
  "[2001:db8:5::5]:5000",
  "[2001:db8:5::6]:5000",
  "198.51.100.3:1",
  "198.51.100.4:0",
].map(socketAddress);
/** The first four are valid for a long time; one of them not for ever. */
const USERS = [
  `${EPOCH + 10_000_000}:alice`,
  `${EPOCH + 10_000_000}:bob`,
  `${EPOCH + 10_000_000}:carol`,
  `${EPOCH + 4000}:dave`,
  `${EPOCH - 1}:late`,
  "18446744073709551615:absurd",
  "9007199254740993:rounded",
  "alice",
  "1:2:3",
  "",
];
const PEERS = [
  "192.0.2.9:7000",
  "192.0.2.9:7001",
  "192.0.2.10:7000",
  "[2001:db8:9::9]:7000",
  "[2001:db8:9::9]:7001",
  "192.0.2.11:3478",
  // Our own allocations, a sibling's if there is one, and ports of ours that are none.
  `203.0.113.1:${LOWEST_PORT}`,
  `203.0.113.1:${LOWEST_PORT + 1}`,
  `[2001:db8::1]:${LOWEST_PORT}`,
  `[2001:db8::1]:${LOWEST_PORT + 1}`,
  "203.0.113.1:3478",
  "127.0.0.1:80",
  "224.0.0.1:7000",
  "192.0.2.9:0",
  "[::ffff:127.0.0.1]:80",
].map(socketAddress);

interface Promised {
  readonly port: number;
  readonly username: string;
  endsAt: Millis;
  readonly channels: Map<number, { readonly peer: SocketAddress; until: Millis }>;
}

interface Asked {
  readonly message: StunMessage;
  answers: number;
}

/** See the head of this file. */
export class RelayWorld {
  readonly #setup: RelaySetup;
  readonly #coverage: Coverage;
  readonly #server: RelayServer;
  readonly #random = seededRandom(2);
  readonly #out = new Forwarding();
  #now = 1_000 as Millis;
  #socketAnswer: "open" | "refuse" | "later" = "open";
  #lastBytes: { client: SocketAddress; bytes: Uint8Array } | undefined;
  /** What is being handled, for the question whether a port may be closed now. */
  #current: { client: SocketAddress; message: StunMessage } | undefined;
  #superseded: number | undefined;

  // The owner's side: by id.
  readonly #opening = new Map<number, RelayCommand>();
  readonly #open = new Map<number, RelayCommand>();
  readonly #everOpened = new Set<number>();

  // The clients' side: by key of their address.
  readonly #asked = new Map<string, Asked>();
  readonly #nonces = new Map<string, string[]>();
  readonly #promised = new Map<string, Promised>();

  /** A relay that nobody has talked to. */
  constructor(setup: RelaySetup, coverage: Coverage) {
    this.#setup = setup;
    this.#coverage = coverage;
    this.#server = new RelayServer({
      publicAddresses: {
        v4: setup.families === "6" ? undefined : PUBLIC[4],
        v6: setup.families === "4" ? undefined : PUBLIC[6],
      },
      stampSecret: SECRET,
      random: seededRandom(1),
      ports: { lowest: LOWEST_PORT, highest: LOWEST_PORT + setup.ports - 1 },
      legacyChannels: setup.legacyChannels,
      sharedUsernames: setup.hasSharedUser ? [USERS[0]!] : [],
      relayPorts: { lowest: LOWEST_PORT, highest: LOWEST_PORT + this.#relayPorts - 1 },
      ...(setup.isStingy && { budget: { perSource: 2, burst: 5, total: 20, totalBurst: 20 } }),
    });
  }

  /** Size of the range of all workers together. */
  get #relayPorts(): number {
    return this.#setup.ports * (this.#setup.hasSibling ? 2 : 1);
  }

  /** Does one thing and checks everything. */
  do(step: Step): void {
    switch (step.op) {
      case "request":
        this.#request(step);
        break;
      case "repeat":
        if (this.#lastBytes) this.#fromClient(this.#lastBytes.client, this.#lastBytes.bytes);
        break;
      case "bytes":
        this.#fromClient(CLIENTS[step.client]!, step.bytes);
        break;
      case "channel-data":
        this.#channelData(step);
        break;
      case "peer-data":
        this.#peerData(step);
        break;
      case "wait":
        this.#wait(step.ms, step.toDeadline);
        break;
      case "sockets":
        this.#socketAnswer = step.answer;
        break;
      case "report": {
        const late = [...this.#opening.values()];
        if (late.length > 0) this.#report(late[step.which % late.length]!, step.isOpen);
        break;
      }
      case "superseded":
        this.#supersede(step.which);
    }
    this.#settle();
    this.#check();
  }

  // Clients

  #request(step: RequestStep): void {
    const client = CLIENTS[step.client]!;
    if (step.proof.nonce !== "none" && this.#noncesOf(client).length === 0) {
      this.#learnNonce(client);
    }
    const id = this.#random(12);
    const user = step.proof.user < 0 ? step.client % 4 : step.proof.user;
    const proof = { ...step.proof, user };
    const key = this.#keyOf(proof);
    const attributes: RawAttribute[] = [
      ...step.wild,
      ...step.ask.map((ask) => {
        if (ask.ask === "raw") return ask.attribute;
        const { ip, port } = PEERS[ask.peer]!;
        return { type: TYPE.peerAddress, value: xorAddress(ip.bytes, port, id) };
      }),
      ...this.#proofAttributes(client, proof),
    ];
    const bytes = rawStun(step.type, id, attributes, {
      key,
      fingerprint: step.fingerprint === "none" ? undefined : step.fingerprint,
    });
    this.#fromClient(client, damage(bytes, step.damage));
  }

  #learnNonce(client: SocketAddress): void {
    this.#fromClient(client, rawStun(METHOD.refresh, this.#random(12), []));
    this.#settle();
  }

  #keyOf({ user, key, nonce }: Proof): Uint8Array | undefined {
    if (key === "none" || nonce === "none") return undefined;
    const username = USERS[user]!;
    const [expiry, salt] = username.split(":");
    const password = relayPassword(expiry ?? "", SECRET, salt ?? "");
    return longTermKey(username, "firezone", key === "right" ? password : `${password}?`);
  }

  #proofAttributes(client: SocketAddress, proof: Proof): RawAttribute[] {
    if (proof.nonce === "none") return [];
    const own = this.#noncesOf(client);
    const others = CLIENTS.filter((c) => c !== client).flatMap((c) => this.#noncesOf(c));
    const nonce = {
      "fresh": own.at(-1),
      "first": own[0],
      "of-another": others.at(-1),
      "invented": "bm9uY2Vub25jZW5vbmNlbm9uY2U",
    }[proof.nonce] ?? "";
    return [
      { type: TYPE.username, value: text(USERS[proof.user]!) },
      { type: TYPE.realm, value: text("firezone") },
      { type: TYPE.nonce, value: text(nonce) },
    ];
  }

  #noncesOf(client: SocketAddress): string[] {
    return this.#nonces.get(client.key) ?? [];
  }

  #channelData(step: Step & { op: "channel-data" }): void {
    const client = CLIENTS[step.client]!;
    const bytes = new Uint8Array(4 + step.length);
    const view = new DataView(bytes.buffer);
    const claimed = Math.max(0, Math.min(0xffff, step.length + step.lie));
    view.setUint16(0, step.channel);
    view.setUint16(2, claimed);
    const promised = this.#promised.get(client.key);
    const channel = promised?.channels.get(step.channel);
    const isDue = claimed <= step.length && channel !== undefined && channel.until > this.#now;
    const peer = channel?.peer;
    const { forwarded, offset } = this.#fromClient(client, bytes);
    const kind = isDue ? this.#kindOf(peer!) : undefined;
    const other = kind === "ours" ? this.#behind(peer!, promised!.port) : undefined;
    const isExpected = isDue && (kind !== "ours" || other !== undefined);
    assertEquals(forwarded, isExpected, `ChannelData on ${step.channel} by ${client}`);
    if (!forwarded) return;
    const out = this.#out;
    assertEquals([out.start - offset, out.end - offset], [4, 4 + claimed]);
    if (other !== undefined) {
      assertEquals(out.direction, "client");
      assertEquals([out.destination.key, out.channel], [other.client, other.channel]);
      this.#coverage.hit("data between two clients of ours");
      return;
    }
    assertEquals(out.direction, kind === "sibling" ? "sibling" : "peer");
    assertEquals([out.destination.key, out.allocationPort], [peer!.key, promised!.port]);
    this.#coverage.hit(`data to a ${out.direction}`);
  }

  #kindOf({ ip, port }: SocketAddress): "outside" | "ours" | "sibling" {
    if (ip.text !== PUBLIC[4].text && ip.text !== PUBLIC[6].text) return "outside";
    return port < LOWEST_PORT + this.#setup.ports ? "ours" : "sibling";
  }

  /** Whom a packet from a port of ours to another reaches. */
  #behind(peer: SocketAddress, fromPort: number): { client: string; channel: number } | undefined {
    const from = new SocketAddress(peer.ip, fromPort);
    for (const [client, { port, channels }] of this.#promised) {
      if (port !== peer.port) continue;
      for (const [channel, { peer, until }] of channels) {
        if (peer.key === from.key && until > this.#now) return { client, channel };
      }
    }
    return undefined;
  }

  #peerData(step: Step & { op: "peer-data" }): void {
    const peer = PEERS[step.peer]!;
    const ports = Array.from(this.#open.values(), ({ port }) => port);
    const port = step.port < 6 ? ports[step.port % Math.max(1, ports.length)] : step.port;
    if (port === undefined) return;
    const found = [...this.#promised].find(([, p]) => p.port === port);
    const channel = [...found?.[1].channels ?? []].find(([, c]) =>
      c.peer.key === peer.key && c.until > this.#now
    );
    const out = this.#out;
    const end = 7 + step.length;
    const forwarded = this.#server.handlePeerInput(this.#now, peer, port, 7, end, out);
    assertEquals(forwarded, channel !== undefined, `data of ${peer} to port ${port}`);
    if (!forwarded) return;
    assertEquals(out.direction, "client");
    assertEquals([out.start, out.end], [7, 7 + step.length]);
    assertEquals([out.destination.key, out.channel], [found![0], channel![0]]);
    this.#coverage.hit("data to a client");
  }

  /** Hands a datagram to the relay, somewhere inside a buffer. */
  #fromClient(client: SocketAddress, bytes: Uint8Array): { forwarded: boolean; offset: number } {
    const offset = 5;
    const buffer = new Uint8Array(offset + bytes.length + 3).fill(0x40);
    buffer.set(bytes, offset);
    const message = parseStunMessage(bytes, 0, bytes.length);
    this.#current = undefined;
    if (message?.class === "request") {
      this.#current = { client, message };
      const key = `${client} ${message.transactionId}`;
      // A repeated request may be answered once more.
      const asked = this.#asked.get(key);
      if (asked) asked.answers--;
      else this.#asked.set(key, { message, answers: 0 });
    }
    this.#lastBytes = { client, bytes };
    const wall = EPOCH + Math.floor(this.#now / 1000) as UnixSeconds;
    const end = offset + bytes.length;
    const out = this.#out;
    const forwarded = this.#server.handleClientInput(
      this.#now,
      wall,
      client,
      buffer,
      offset,
      end,
      out,
    );
    return { forwarded, offset };
  }

  /** A user whose only allocation is here has made one with a sibling. */
  #supersede(which: number): void {
    const sole = [...this.#open.values()].filter(({ soleOf }) => soleOf !== undefined);
    const superseded = sole[which % Math.max(1, sole.length)];
    if (superseded === undefined) return;
    this.#current = undefined;
    this.#superseded = superseded.port;
    this.#server.handleSuperseded(this.#now, superseded.id, superseded.soleOf!);
    this.#settle();
    this.#superseded = undefined;
    assert(!this.#open.has(superseded.id), "a superseded allocation ends");
  }

  // Time

  #wait(ms: number, toDeadline: boolean): void {
    const deadline = this.#server.pollTimeout();
    if (toDeadline && deadline !== NEVER && deadline > this.#now) this.#now = deadline;
    this.#now = after(this.#now, ms);
    this.#current = undefined;
    if (this.#server.pollTimeout() <= this.#now) this.#server.handleTimeout(this.#now);
  }

  // The owner

  #settle(): void {
    for (let i = 0;; i++) {
      assert(i < 1000, "draining ends");
      const command = this.#server.pollCommand();
      if (command !== undefined) {
        this.#obey(command);
        continue;
      }
      const transmit = this.#server.pollTransmit();
      if (transmit === undefined) return;
      this.#answered(transmit.destination, transmit.payload);
    }
  }

  #obey(command: RelayCommand): void {
    const { id, port } = command;
    if (command.tag === "create-allocation") {
      assert(!this.#everOpened.has(id), `allocation ${id} is made once`);
      this.#everOpened.add(id);
      const others = [...this.#open.values(), ...this.#opening.values()];
      assert(others.every((other) => other.port !== port), `port ${port} is not in use`);
      this.#opening.set(id, command);
      if (this.#socketAnswer !== "later") this.#report(command, this.#socketAnswer === "open");
      else this.#coverage.hit("port opened later");
      return;
    }
    if (this.#opening.delete(id)) return this.#coverage.hit("freed before it was open");
    assert(this.#open.delete(id), `allocation ${id} was open`);
    for (const [client, promised] of this.#promised) {
      if (promised.port !== port) continue;
      const reason = this.#reasonToEnd(client, promised);
      assert(reason !== undefined, `${client} loses port ${port} before its time`);
      this.#coverage.hit(`allocation ended: ${reason}`);
      this.#promised.delete(client);
    }
  }

  #reasonToEnd(client: string, { endsAt, username, port }: Promised): string | undefined {
    if (this.#now >= endsAt) return "expired";
    if (this.#superseded === port) return "superseded";
    const { message, client: sender } = this.#current ?? {};
    if (message?.method === METHOD.refresh && sender?.key === client) return "deleted";
    if (message?.method === METHOD.allocate && message.username === username) return "replaced";
    return undefined;
  }

  #report(command: RelayCommand, isOpen: boolean): void {
    const { id } = command;
    this.#opening.delete(id);
    if (isOpen) {
      this.#open.set(id, command);
      this.#server.handleAllocationCreated(this.#now, id);
    } else {
      this.#coverage.hit("port refused");
      this.#server.handleAllocationFailed(this.#now, id);
    }
  }

  // Answers

  #answered(client: SocketAddress, payload: Uint8Array): void {
    const answer = parseStunMessage(payload, 0, payload.length);
    assert(answer !== undefined, "an answer is a STUN message");
    assert(client.port !== 0, "nobody answers to port 0");
    const asked = this.#asked.get(`${client} ${answer.transactionId}`);
    assert(asked !== undefined, `${client} asked for what it is told`);
    assert(++asked.answers <= 1, `${client} is told once`);
    const request = asked.message;
    assertEquals(answer.method, request.method);
    if (answer.class === "error") {
      const code = answer.errorCode!.code;
      this.#coverage.hit(`error ${code}`);
      if (answer.nonce !== undefined) {
        this.#nonces.set(client.key, [...this.#noncesOf(client), answer.nonce].slice(-8));
      }
      return;
    }
    assertEquals(answer.class, "success");
    this.#coverage.hit(`success ${answer.method}`);
    const promised = this.#promised.get(client.key);
    if (request.method === METHOD.allocate) this.#granted(client, request, answer);
    else if (request.method === METHOD.refresh) {
      const seconds = answer.lifetimeSeconds!;
      if (seconds === 0) assertEquals(promised, undefined, "a deleted allocation is gone");
      else promised!.endsAt = after(this.#now, seconds * 1000);
    } else if (request.method === METHOD.channelBind) {
      const until = after(this.#now, CHANNEL_MS);
      promised!.channels.set(request.channelNumber!, { peer: request.peerAddress!, until });
    }
  }

  #granted(client: SocketAddress, request: StunMessage, answer: StunMessage): void {
    const addresses = answer.relayedAddresses;
    const port = addresses[0]!.port;
    const sockets = [...this.#open.values()].find((c) => c.port === port);
    assert(sockets !== undefined, `port ${port} was opened before ${client} heard of it`);
    assertEquals(addresses.map((a) => a.family), sockets.families);
    for (const { ip, port: other, family } of addresses) {
      assertEquals([ip.text, other], [PUBLIC[family].text, port]);
    }
    assertEquals(answer.mappedAddress?.key, client.key);
    const existing = this.#promised.get(client.key);
    if (existing !== undefined) {
      assertEquals(existing.port, port, "a repeated answer tells of the same port");
      this.#coverage.hit("answer repeated");
      return;
    }
    const seconds = answer.lifetimeSeconds!;
    assert(seconds >= 600 && seconds <= 3600, `lifetime of ${seconds} s`);
    this.#promised.set(client.key, {
      port,
      username: request.username!,
      endsAt: after(this.#now, seconds * 1000),
      channels: new Map(),
    });
  }

  // What must hold

  #check(): void {
    const server = this.#server;
    checkServer(server, this.#setup.ports);
    const { table, pending } = server.inside;
    assertEquals(keys(this.#opening), keys(pending), "ports that are being opened");
    const ids = Array.from(table.indices.byClient.values(), ({ id }) => id);
    assertEquals(keys(this.#open), ids.sort(), "ports that are open");
    assertEquals(keys(this.#promised), keys(table.indices.byClient), "clients with an allocation");
    assert(server.pollTimeout() > this.#now, "nothing that is due was left undone");
    for (const [client, { endsAt }] of this.#promised) {
      assert(endsAt > this.#now && server.pollTimeout() <= endsAt, `${client} ends in time`);
    }
    this.#coverage.hit("steps");
  }
}

function keys<K>(map: ReadonlyMap<K, unknown>): K[] {
  return [...map.keys()].sort();
}

function text(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
