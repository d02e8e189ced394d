/**
 * Our TURN client against coturn's server, over real sockets on loopback.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { parseStunMessage } from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";
import {
  Allocation,
  ChannelDataRef,
  type ChannelNumber,
  looksLikeChannelData,
  Parse,
  parseChannelData,
  writeChannelDataHeader,
} from "@firezone/core/turn";
import type { Millis } from "@firezone/core/units";
import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { findCommand, requires } from "../requirements.ts";

const CREDENTIALS = { username: "alice", password: "open sesame", realm: "firezone" };
/** Nothing here takes longer unless it fails. */
const PATIENCE_MS = 15_000;

Deno.test({
  name: "Allocation on coturn, reached over either family, carries data both ways",
  ...requires("linux", "turnserver"),
  async fn() {
    await using server = await Turnserver.start();
    for (const host of ["127.0.0.1", "::1"]) {
      await using client = await Client.start(server.address(host));
      const relayed = await client.until(
        "an allocation",
        () => client.allocation.relayedAddress(4),
      );
      await using peer = await Endpoint.open("127.0.0.1");
      client.allocation.bindChannel(client.now(), peer.address);
      const channel = client.allocation.channelFor(peer.address)!;
      const there = pattern(1200, 1);
      // A channel may be used while it is asked for; what comes before the answer is lost.
      const received = await client.retry(
        () => client.sendTo(peer.address, there),
        () => peer.received.at(-1),
      );
      assertEquals(received, { from: relayed.key, bytes: there });
      const back = pattern(1101, 2);
      await peer.send(back, relayed);
      const answer = await client.until("the peer's answer", () => client.data.at(-1));
      assertEquals(answer, { from: peer.address.key, channel, bytes: back });
    }
  },
});

Deno.test({
  name: "Allocation on coturn is refreshed, and its channel as well",
  ...requires("linux", "turnserver"),
  async fn() {
    await using server = await Turnserver.start();
    await using client = await Client.start(server.address("127.0.0.1"));
    const relayed = await client.until("an allocation", () => client.allocation.relayedAddress(4));
    await using peer = await Endpoint.open("127.0.0.1");
    client.allocation.bindChannel(client.now(), peer.address);
    client.allocation.refresh(client.now());
    client.flush();
    // An unanswered probe would have lost the relay after a second.
    await client.until("more than a second", sinceNow(1200));
    assertEquals(client.allocation.relayedAddress(4)?.key, relayed.key);
    // Six minutes on, by the allocation's clock alone, the channel is refreshed.
    const channel = client.allocation.channelFor(peer.address)!;
    client.allocation.noteChannelData(client.now(), "received", channel);
    client.skip(6 * 60_000);
    await client.until("its answers", sinceNow(1200));
    assertEquals(client.allocation.channelFor(peer.address), channel);
    assertEquals(client.events, ["host-address", "candidate-added", "candidate-added"]);
  },
});

/** coturn's server, started on free ports and ended with the test. */
class Turnserver implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #folder: string;
  readonly #port: number;

  private constructor(process: Deno.ChildProcess, folder: string, port: number) {
    this.#process = process;
    this.#folder = folder;
    this.#port = port;
  }

  static async start(): Promise<Turnserver> {
    const folder = await Deno.makeTempDir({ prefix: "firezone-turnserver-" });
    await using free = await Endpoint.open("127.0.0.1");
    const port = free.address.port;
    await free[Symbol.asyncDispose]();
    const { username, password, realm } = CREDENTIALS;
    const process = new Deno.Command(findCommand("turnserver")!, {
      args: [
        "-n",
        "--no-cli",
        "--no-tls",
        "--no-dtls",
        "--no-tcp",
        "--listening-ip=127.0.0.1",
        "--listening-ip=::1",
        "--relay-ip=127.0.0.1",
        "--relay-ip=::1",
        `--listening-port=${port}`,
        "--min-port=40000",
        "--max-port=40999",
        "--relay-threads=1",
        "--allow-loopback-peers",
        "--fingerprint",
        "--lt-cred-mech",
        `--realm=${realm}`,
        `--user=${username}:${password}`,
        `--userdb=${folder}/users`,
        `--pidfile=${folder}/pid`,
        `--log-file=${folder}/log`,
        "--simple-log",
      ],
      cwd: folder,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    return new Turnserver(process, folder, port);
  }

  address(host: string): SocketAddress {
    return toAddress(host, this.#port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
    await Deno.remove(this.#folder, { recursive: true });
  }
}

interface Received {
  readonly from: string;
  readonly bytes: Uint8Array;
}

/** A UDP socket on loopback that remembers what it received. */
class Endpoint implements AsyncDisposable {
  readonly address: SocketAddress;
  readonly received: Received[] = [];
  onDatagram: (from: SocketAddress, bytes: Uint8Array) => void = () => {};
  readonly #socket: Socket;
  #isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const { address, port } = socket.address();
    this.address = toAddress(address, port);
    socket.on("message", (message, { address, port }) => {
      const from = toAddress(address, port);
      const bytes = new Uint8Array(message);
      this.received.push({ from: from.key, bytes });
      this.onDatagram(from, bytes);
    });
  }

  static async open(host: string): Promise<Endpoint> {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    socket.bind(0, host);
    await once(socket, "listening");
    return new Endpoint(socket);
  }

  send(bytes: Uint8Array, to: SocketAddress): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    // An error is like a loss: whoever waits for the answer notices.
    this.#socket.send(Buffer.from(bytes), to.port, to.ip.text, () => resolve());
    return promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
    await once(this.#socket, "close");
  }
}

/** An {@link Allocation} with a socket and a clock. */
class Client implements AsyncDisposable {
  readonly allocation: Allocation;
  /** Tags of all events. */
  readonly events: string[] = [];
  /** What came through channels. */
  readonly data: { from: string; channel: ChannelNumber; bytes: Uint8Array }[] = [];
  readonly #endpoint: Endpoint;
  #skippedMs = 0;

  private constructor(endpoint: Endpoint, server: SocketAddress) {
    this.#endpoint = endpoint;
    this.allocation = this.#allocate(server);
    endpoint.onDatagram = (from, bytes) => this.#take(from, bytes);
    this.flush();
  }

  static async start(server: SocketAddress): Promise<Client> {
    return new Client(await Endpoint.open(server.ip.text), server);
  }

  now(): Millis {
    return performance.now() + this.#skippedMs as Millis;
  }

  /** Lets the allocation believe that time has passed. */
  skip(ms: number): void {
    this.#skippedMs += ms;
    this.flush();
  }

  /** Waits until `look` finds something. */
  until<T>(what: string, look: () => T): Promise<Exclude<T, undefined | false>> {
    return this.#poll(what, () => {}, look);
  }

  /** Does something again and again until `look` finds something. */
  retry<T>(act: () => void, look: () => T): Promise<Exclude<T, undefined | false>> {
    return this.#poll("an effect", act, look);
  }

  sendTo(peer: SocketAddress, bytes: Uint8Array): void {
    const channel = this.allocation.channelFor(peer)!;
    const framed = new Uint8Array(4 + bytes.length);
    framed.set(bytes, writeChannelDataHeader(framed, 0, channel, bytes.length));
    void this.#endpoint.send(framed, this.allocation.activeServer!);
  }

  /** Does what is due and sends what is to be sent. */
  flush(): void {
    this.allocation.handleTimeout(this.now());
    for (let t; (t = this.allocation.pollTransmit()) !== undefined;) {
      void this.#endpoint.send(t.payload, t.destination);
    }
    for (let e; (e = this.allocation.pollEvent()) !== undefined;) {
      this.events.push(e.tag === "failed" ? `failed: ${e.reason}` : e.tag);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#endpoint[Symbol.asyncDispose]();
  }

  async #poll<T>(what: string, act: () => void, look: () => T) {
    const deadline = this.now() + PATIENCE_MS;
    while (this.now() < deadline) {
      this.flush();
      const found = look();
      if (found !== undefined && found !== false) {
        return found as Exclude<T, undefined | false>;
      }
      act();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`Waited for ${what} in vain; events so far: ${this.events.join(", ")}`);
  }

  #allocate(server: SocketAddress): Allocation {
    const servers = server.family === 4 ? { v4: server } : { v6: server };
    const options = { id: "coturn", servers, credentials: CREDENTIALS, random: systemRandom };
    return new Allocation({ ...options, software: "firezone-test" }, this.now());
  }

  #take(from: SocketAddress, bytes: Uint8Array): void {
    if (looksLikeChannelData(bytes, 0, bytes.length)) {
      const ref = new ChannelDataRef();
      assertEquals(parseChannelData(bytes, 0, bytes.length, ref), Parse.Ok);
      const peer = this.allocation.peerFor(ref.channel);
      this.data.push({
        from: String(peer?.key),
        channel: ref.channel,
        bytes: bytes.subarray(ref.start, ref.end),
      });
      return;
    }
    const message = parseStunMessage(bytes, 0, bytes.length);
    assert(message !== undefined);
    this.allocation.handleInput(this.now(), this.#endpoint.address, from, message);
    this.flush();
  }
}

function toAddress(host: string, port: number): SocketAddress {
  return socketAddress(host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`);
}

/** Whether so many milliseconds have passed since the call. */
function sinceNow(ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => performance.now() >= end;
}

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i * 7 + seed);
}
