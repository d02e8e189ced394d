/** Several workers of one relay, as clients and operators meet them: a process on loopback. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { ip, SocketAddress, socketAddress } from "@firezone/core/ip";
import { UdpSocket } from "@firezone/core/os/linux";
import { METHOD, newTransactionId, StunWriter } from "@firezone/core/stun";
import { systemRandom } from "@firezone/core/system_random";
import { relayCredentials } from "@firezone/core/turn";
import type { UnixSeconds } from "@firezone/core/units";
import { isInRange, slicePorts } from "./port_pool.ts";
import { RawClient, RelayProcess } from "./testing/mod.ts";

const SECRET = "ab".repeat(32);
const onLinux = { ignore: Deno.build.os !== "linux" };
const WORKERS = 4;
const RANGE = { lowest: 61_000, highest: 61_999 };
const SLICES = slicePorts(RANGE, WORKERS);
const ARGS = [
  ...["--stamp-secret", SECRET, "--num-worker-threads", String(WORKERS)],
  ...["--lowest-port", String(RANGE.lowest), "--highest-port", String(RANGE.highest)],
];
/** Our public address is elsewhere, as behind a 1:1 NAT: nothing sent there comes back. */
const NAT = ["--public-ip4-addr", "203.0.113.9", "--bind-ip4-addr", "127.0.0.1"];

const user = (name: string) => relayCredentials(2_145_916_800 as UnixSeconds, SECRET, name);
const workerOf = (relayed: SocketAddress) => SLICES.findIndex((s) => isInRange(s, relayed.port));

Deno.test({
  name: "Clients of different workers meet on one relay behind a 1:1 NAT",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT]);
    await using stack = new AsyncDisposableStack();
    const clients: { client: RawClient; relayed: SocketAddress }[] = [];
    for (let i = 0; i < 10; i++) {
      const client = stack.use(await RawClient.open(serverOf(relay), user(`user${i}`)));
      clients.push({ client, relayed: await client.allocate() });
    }
    assert(
      new Set(clients.map((c) => workerOf(c.relayed))).size > 1,
      "they are of several workers",
    );
    for (const { client } of clients) {
      for (const [i, { relayed }] of clients.entries()) {
        assertEquals(await client.bind(0x4000 + i, relayed), 0);
      }
    }
    for (const [from, { client }] of clients.entries()) {
      for (const to of clients.keys()) {
        for (const n of [0, 1, 2]) await client.send(0x4000 + to, new Uint8Array([from, to, n]));
      }
    }
    await until(() => clients.every(({ client }) => client.data.length === 3 * clients.length));
    for (const [to, { client }] of clients.entries()) {
      for (const from of clients.keys()) {
        assertEquals(
          client.data.filter((d) => d.channel === 0x4000 + from).map((d) => [...d.bytes]),
          [[from, to, 0], [from, to, 1], [from, to, 2]],
        );
      }
    }
  },
});

Deno.test({
  name: "A client's requests reach the worker that has its allocation, again and again",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT]);
    await using stack = new AsyncDisposableStack();
    await Promise.all(Array.from({ length: 8 }, async (_, i) => {
      const client = stack.use(await RawClient.open(serverOf(relay), user(`user${i}`)));
      await client.allocate();
      for (let n = 0; n < 20; n++) assertEquals(await client.refresh(600), 0);
      const again = await client.ask(METHOD.allocate, (w) => w.requestedTransport(17));
      assertEquals(again.errorCode?.code, 437);
    }));
  },
});

Deno.test({
  name: "The newest allocation of a user wins, whichever workers they are with",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT, "--prometheus-metrics"]);
    await using stack = new AsyncDisposableStack();
    let last: RawClient | undefined;
    const seen = new Set<number>();
    // As a client whose NAT gives it a new port each time, which the kernel may hash elsewhere.
    for (let i = 0; i < 40 && (seen.size < 3 || i < 8); i++) {
      const client = stack.use(await RawClient.open(serverOf(relay), user("ann")));
      seen.add(workerOf(await client.allocate()));
      if (last) {
        const older = last;
        await until(async () => await older.refresh(600) === 437);
      }
      assertEquals(await client.refresh(600), 0);
      last = client;
    }
    assert(seen.size > 1, "they were with several workers");
    const { text } = await relay.page("/metrics");
    assertMatch(text, /^relay_active_allocations 1$/m);
  },
});

Deno.test({
  name: "A relay drains until the last allocation of all its workers has ended",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT, "--drain-timeout", "1m"]);
    await using stack = new AsyncDisposableStack();
    const clients = [];
    for (let i = 0; i < 6; i++) {
      const client = stack.use(await RawClient.open(serverOf(relay), user(`user${i}`)));
      await client.allocate();
      clients.push(client);
    }
    relay.kill("SIGTERM");
    await relay.until("Serving until the last allocation ends");
    for (const client of clients) {
      assert(!relay.log.includes("No allocation is left"));
      assertEquals(await client.refresh(600), 0);
      assertEquals(await client.refresh(0), 0);
    }
    assertEquals((await relay.status).code, 0);
    assert(relay.log.includes("No allocation is left"));
  },
});

Deno.test({
  name: "A second relay does not share the port of the first",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT]);
    await using second = await RelayProcess.spawn([
      ...[...ARGS, ...NAT],
      ...["--listen-port", String(relay.port)],
    ]);
    assertEquals((await second.status).code, 1);
    assertMatch(second.log.trimEnd(), /^.*bind UDP 127\.0\.0\.1:\d+: address already in use.*$/);
  },
});

Deno.test({
  name: "A relay that has nothing to do sleeps, with all its workers and an allocation",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT]);
    await using client = await RawClient.open(serverOf(relay), user("ann"));
    const relayed = await client.allocate();
    assertEquals(await client.bind(0x4000, new SocketAddress(relayed.ip, relayed.port)), 0);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = relay.cpuMs;
    await new Promise((resolve) => setTimeout(resolve, 1000));
    assert(relay.cpuMs - before < 100, `${relay.cpuMs - before} ms of a second`);
  },
});

Deno.test({
  name: "A relay without descriptors left refuses newcomers with 508 and goes on with all others",
  ...onLinux,
  async fn() {
    await using relay = await RelayProcess.start([...ARGS, ...NAT]);
    await using stack = new AsyncDisposableStack();
    const open = async (name: string) =>
      stack.use(await RawClient.open(serverOf(relay), user(name)));
    const first = await open("first");
    await first.allocate();
    const limit = (count: number) =>
      new Deno.Command("prlimit", { args: [`--pid=${relay.pid}`, `--nofile=${count}:`] }).output();
    const fds = new Set([...Deno.readDirSync(`/proc/${relay.pid}/fd`)].map((e) => Number(e.name)));
    let unused = 0;
    while (fds.has(unused)) unused++;
    await limit(unused);
    const late = await open("late");
    const refused = await late.ask(METHOD.allocate, (w) => w.requestedTransport(17));
    assertEquals(refused.errorCode?.code, 508);
    assertEquals(await first.refresh(600), 0);
    await relay.until("too many open files (EMFILE)");
    await limit(1024);
    await late.allocate();
    assertEquals(relay.log.split("Cannot open an allocation's port").length, 2, "one line");
  },
});

Deno.test({
  name: "The kernel keeps a sender with one socket of a shared port until their number changes",
  ...onLinux,
  fn() {
    const address = ip("127.0.0.1");
    const first = UdpSocket.open({ family: 4, address, port: 0, reusePort: true });
    const { localPort: port } = first;
    const sockets = [first];
    while (sockets.length < WORKERS) {
      sockets.push(UdpSocket.open({ family: 4, address, port, reusePort: true }));
    }
    const senders = Array.from(
      { length: 100 },
      () => UdpSocket.open({ family: 4, address, port: 0 }),
    );
    const binding = new StunWriter("request", METHOD.binding, newTransactionId(systemRandom))
      .finish();
    /** Which socket each sender's datagram came to. */
    const round = () => {
      for (const s of senders) s.send(undefined, first.bound, binding, 0, binding.length, 0, 0);
      const reached = new Map<string, number>();
      for (const [i, socket] of sockets.entries()) {
        for (let n; (n = socket.receive()) > 0;) {
          for (let m = 0; m < n; m++) reached.set(socket.from(m).key, i);
        }
      }
      return senders.map((s) => reached.get(s.bound.key));
    };
    const once = round();
    assertEquals(new Set(once), new Set([0, 1, 2, 3]));
    for (let i = 0; i < 10; i++) assertEquals(round(), once);
    sockets.pop()!.close();
    const moved = round().filter((socket, i) => socket !== once[i]).length;
    assert(moved > 25, "so nobody may be served before all sockets are open");
    for (const socket of [...sockets, ...senders]) socket.close();
  },
});

function serverOf(relay: RelayProcess): SocketAddress {
  return socketAddress(`127.0.0.1:${relay.port}`);
}

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 15_000; !await isSo();) {
    if (Date.now() > end) throw new Error("Waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
