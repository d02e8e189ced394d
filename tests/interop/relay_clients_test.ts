/**
 * TURN clients of others against our relay, over real sockets on loopback: coturn's tools, and werift.
 *
 * Not served, and so left out: Send indications (`-s`) and the pairs of ports for RTP and RTCP (without
 * `-c`).
 * @module
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { Endpoint, RelayProcess, toAddress } from "@firezone/relay/testing";
import { Buffer } from "node:buffer";
import { createTurnClient } from "werift-ice";
import { findCommand, requires } from "../requirements.ts";

Deno.test({
  name: "coturn's client sends through channels, over IPv4 and IPv6, and from client to client",
  ...requires("linux", "turnutils_uclient", "turnutils_peer"),
  async fn() {
    await using peer = await Peer.start("127.0.0.1");
    await using peer6 = await Peer.start("::1");
    await using relay = await Standalone.start();
    const toPeer = ["-e", "127.0.0.1", "-r", peer.port];
    const toPeer6 = ["-e", "::1", "-r", peer6.port];
    const runs = [
      { args: ["-m", "4", ...toPeer], server: "127.0.0.1", clients: 4 },
      // Each binds its channels several times, and refreshes.
      { args: ["-G", ...toPeer], server: "127.0.0.1", clients: 1 },
      // Padding after ChannelData.
      { args: ["-D", "-l", "171", ...toPeer], server: "127.0.0.1", clients: 1 },
      { args: ["-x", ...toPeer6], server: "127.0.0.1", clients: 1 },
      { args: ["-x", ...toPeer6], server: "::1", clients: 1 },
      { args: [...toPeer], server: "::1", clients: 1 },
      // Dual: one allocation, IPv4 and IPv6.
      { args: ["-Z", ...toPeer], server: "127.0.0.1", clients: 1 },
      { args: ["-Z", ...toPeer6], server: "127.0.0.1", clients: 1 },
      // Half of the clients are the peers of the other half: both ends are on our relay.
      { args: ["-y", "-m", "2", ...toPeer], server: "127.0.0.1", clients: 2 },
    ];
    const outputs = await Promise.all(runs.map(({ args, server }) => uclient(relay, args, server)));
    for (const [i, output] of outputs.entries()) {
      const { args, clients } = runs[i]!;
      const [, sent, received] = /tot_send_msgs=(\d+), tot_recv_msgs=(\d+)$/m.exec(output) ?? [];
      assert(Number(sent) >= clients * MESSAGES, `${args.join(" ")}: ${output}`);
      assertEquals(received, sent, `${args.join(" ")}: ${output}`);
    }
  },
});

Deno.test({
  name: "coturn's client is refused with a wrong password, and gives up by itself",
  ...requires("linux", "turnutils_uclient"),
  async fn() {
    await using relay = await Standalone.start();
    const wrong = { username: relay.username, password: "wrong", port: relay.port };
    const output = await uclient(wrong, ["-e", "127.0.0.1"], "127.0.0.1");
    assertStringIncludes(output, "ERROR: Cannot complete Allocation");
  },
});

Deno.test({
  name: "coturn's STUN client learns its address from our relay",
  ...requires("linux", "turnutils_stunclient"),
  async fn() {
    await using relay = await Standalone.start();
    const args = ["-p", String(relay.port), "127.0.0.1"];
    const { stdout, stderr } = await new Deno.Command(findCommand("turnutils_stunclient")!, {
      args,
      signal: AbortSignal.timeout(PATIENCE_MS),
    }).output();
    const text = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    assertMatch(text, /UDP reflexive addr: 127\.0\.0\.1:\d+/);
  },
});

Deno.test({
  name: "werift's TURN client allocates, binds channels and exchanges data with peers",
  ...requires("linux"),
  // It leaves timers of answered requests behind.
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using relay = await Standalone.start();
    const { username, password, port } = relay;
    const turn = await createTurnClient({ address: ["127.0.0.1", port], username, password }, {});
    await using one = await Endpoint.open("127.0.0.1");
    await using two = await Endpoint.open("127.0.0.1");
    const arrived: string[] = [];
    turn.onData.subscribe((data, [host, port]) => arrived.push(`${host}:${port} ${data}`));
    const [host, relayedPort] = turn.relayedAddress;
    assertEquals(host, "127.0.0.1");
    assertEquals(turn.mappedAddress[0], "127.0.0.1");
    for (const [i, peer] of [one, two].entries()) {
      await turn.sendData(Buffer.from(`hello ${i}`), [peer.address.ip.text, peer.address.port]);
      const received = await found(() => peer.received.at(-1));
      assertEquals(received, {
        from: `127.0.0.1:${relayedPort}`,
        bytes: new TextEncoder().encode(`hello ${i}`),
      });
      await peer.send(new TextEncoder().encode(`answer ${i}`), toAddress(host, relayedPort));
      assertEquals(await found(() => arrived[i]), `${peer.address.key} answer ${i}`);
    }
    await turn.close();
  },
});

/** Messages that each client of coturn's sends. */
const MESSAGES = 20;
const PATIENCE_MS = 20_000;

/** Who may use a relay, and where. */
interface Account {
  readonly username: string;
  readonly password: string;
  readonly port: number;
}

/** Waits until `look` finds something. */
async function found<T>(look: () => T | undefined): Promise<T> {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end;) {
    const it = look();
    if (it !== undefined) return it;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error("Waited in vain");
}

/** Runs coturn's client and returns what it says. */
async function uclient(account: Account, args: string[], server: string): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(findCommand("turnutils_uclient")!, {
    args: [
      ...["-c", "-n", String(MESSAGES), "-l", "170", "-z", "5", "-p", String(account.port)],
      ...["-u", account.username, "-w", account.password, ...args, server],
    ],
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

/** Our relay without a portal, with the credential that it printed. */
class Standalone implements AsyncDisposable, Account {
  readonly username: string;
  readonly password: string;
  readonly port: number;
  readonly #relay: RelayProcess;

  private constructor(relay: RelayProcess, username: string, password: string) {
    this.#relay = relay;
    this.port = relay.port;
    this.username = username;
    this.password = password;
  }

  static async start(): Promise<Standalone> {
    const relay = await RelayProcess.start([]);
    const [, username, password] = (await relay.stdout.line()).split(" ");
    return new Standalone(relay, username!, password!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#relay[Symbol.asyncDispose]();
  }
}

/** coturn's peer, which sends everything back. */
class Peer implements AsyncDisposable {
  readonly port: string;
  readonly #process: Deno.ChildProcess;

  private constructor(process: Deno.ChildProcess, port: string) {
    this.#process = process;
    this.port = port;
  }

  static async start(host: string): Promise<Peer> {
    const free = await Endpoint.open(host);
    const port = String(free.address.port);
    await free[Symbol.asyncDispose]();
    const process = new Deno.Command(findCommand("turnutils_peer")!, {
      args: ["-p", port, "-L", host],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    return new Peer(process, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }
}
