/**
 * Our TURN client against coturn's server, over real sockets on loopback.
 * @module
 */

import { assertEquals } from "@std/assert";
import type { SocketAddress } from "@firezone/core/ip";
import { Endpoint, toAddress, TurnClient } from "@firezone/relay/testing";
import { findCommand, requires } from "../requirements.ts";

const CREDENTIALS = { username: "alice", password: "open sesame", realm: "firezone" };

Deno.test({
  name: "Allocation on coturn, reached over either family, carries data both ways",
  ...requires("linux", "turnserver"),
  async fn() {
    await using server = await Turnserver.start();
    for (const host of ["127.0.0.1", "::1"]) {
      await using client = await TurnClient.start(server.address(host), CREDENTIALS);
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
    await using client = await TurnClient.start(server.address("127.0.0.1"), CREDENTIALS);
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

/** Whether so many milliseconds have passed since the call. */
function sinceNow(ms: number): () => boolean {
  const end = performance.now() + ms;
  return () => performance.now() >= end;
}

function pattern(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => i * 7 + seed);
}
