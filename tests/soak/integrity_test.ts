/**
 * Everything that goes through the tunnel comes out once, unchanged and in order, whatever its size.
 *
 * A new connection may change its path until it has found the best one, and then overtakes itself: so
 * a little is carried before, of which only the order is not looked at.
 *
 * By default a quarter of a gigabyte. `FIREZONE_SOAK_GB=10 deno test -A tests/soak` takes ten.
 * @module
 */

import { assert, assertEquals } from "@std/assert";
import { Deployment } from "@firezone/tools/deployment";
import type { Process } from "@firezone/tools/netns";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { Dice, Pattern } from "./pattern.ts";
import type { TcpOrders, TcpReport } from "./tcp_traffic.ts";
import { Numbers, type UdpOrders, type UdpReport } from "./udp_traffic.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip");
const GIGABYTES = Number(Deno.env.get("FIREZONE_SOAK_GB") ?? 0.25);
const MEAN_DATAGRAM = 620;
/** Datagrams that are carried while the path may still change. */
const FIRST_DATAGRAMS = 2000;
const TCP_PORT = 7001;
const UDP_PORT = 7002;
/** Slower than any tunnel worth testing. */
const MS_PER_GIGABYTE = 120_000;
const START_MS = 20_000;

Deno.test(
  "what goes through the tunnel comes out once, unchanged and in order",
  needs,
  async (t) => {
    await using deployment = await Deployment.create({ prefix: "bnts" });
    await deployment.writeConfig({
      ...deployment.config(),
      resources: ADDRESS.web.map((address) => ({
        name: address,
        type: "ip",
        address,
        sites: ["office"],
      })),
      policies: [{ accounts: ["laptop"], resources: [...ADDRESS.web] }],
    });
    await deployment.startAll();
    const web = deployment.topology.get("web");
    await started(web.spawn("tcp server", script("tcp_traffic.ts", { serve: TCP_PORT })));
    await started(
      web.spawn(
        "udp server",
        script("udp_traffic.ts", { serve: UDP_PORT, addresses: ADDRESS.web }),
      ),
    );

    let runs = 0;
    const sendDatagrams = (datagrams: number) =>
      report<UdpReport>(deployment, "udp_traffic.ts", {
        send: ADDRESS.web,
        port: UDP_PORT,
        datagrams,
        run: ++runs,
      });

    const carry = async (kind: "direct" | "relayed") => {
      const [first, paths] = await Promise.all([
        sendDatagrams(FIRST_DATAGRAMS),
        deployment.untilSettled(kind),
      ]);
      for (const { damaged, repeated } of [first.there, first.back]) {
        assertEquals({ damaged, repeated }, { damaged: 0, repeated: 0 }, JSON.stringify(first));
      }
      const [tcp, udp] = await Promise.all([
        report<TcpReport>(deployment, "tcp_traffic.ts", {
          connect: [...ADDRESS.web, ...ADDRESS.web],
          port: TCP_PORT,
          bytes: GIGABYTES * 1e9 / 2,
        }),
        sendDatagrams(Math.round(GIGABYTES * 1e8 / MEAN_DATAGRAM)),
      ]);
      assert(tcp.checkedBytes >= GIGABYTES * 1e9 / 2);
      const context = `${JSON.stringify(udp)}\npaths of client and gateway before: ${paths}\n` +
        `and after: ${await deployment.paths()}`;
      for (const { damaged, repeated, late } of [udp.there, udp.back]) {
        assertEquals({ damaged, repeated, late }, { damaged: 0, repeated: 0, late: 0 }, context);
      }
      assert(udp.back.right > udp.sent / 2, context);
    };

    await t.step("directly", () => carry("direct"));

    await t.step("through the relay", async () => {
      await deployment.topology.blockDirect();
      await deployment.resetClient();
      await carry("relayed");
    });

    const env = { FIREZONE_THREADS: "3" };
    await t.step("through the relay, with more threads at both ends", async () => {
      for (const name of ["client", "gateway"] as const) await deployment.process(name).stop();
      for (const name of ["gateway", "client"] as const) {
        await deployment.startReady(name, { env });
      }
      await carry("relayed");
    });

    await t.step("directly, with more threads", async () => {
      await deployment.topology.unblockDirect();
      await deployment.resetClient();
      await carry("direct");
    });
  },
);

Deno.test("Numbers tells what is late from what has come before", () => {
  const numbers = new Numbers();
  const order = [0, 1, 4, 2, 4, 2, 1, 5, 3].map((number) => numbers.take(number));
  assertEquals(order.slice(0, 4), ["next", "next", "next", "late"]);
  assertEquals(order.slice(4), ["repeated", "repeated", "repeated", "next", "late"]);
});

Deno.test("Pattern is the same for the same seed, however it is cut, and notices a changed bit", () => {
  const bytes = new Uint8Array(100_000);
  new Pattern(5).fill(bytes);
  const again = new Pattern(5);
  const dice = new Dice(1);
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + 1 + dice.below(20_000));
    assert(again.check(bytes.subarray(at, end)));
    at = end;
  }
  bytes[99_999]! ^= 1;
  assert(!new Pattern(5).check(bytes));
});

function script(name: string, orders: TcpOrders | UdpOrders): string[] {
  const path = new URL(name, import.meta.url).pathname;
  return [Deno.execPath(), "run", "-A", path, JSON.stringify(orders)];
}

async function started(server: Process): Promise<void> {
  await server.waitForLine(/^listening$/, START_MS);
}

/** Runs one in the client's namespace and returns what it printed. */
async function report<T>(
  deployment: Deployment,
  name: string,
  orders: TcpOrders | UdpOrders,
): Promise<T> {
  const { code, stdout, stderr } = await deployment.topology.get("client").run(
    script(name, orders),
    { timeoutMs: START_MS + GIGABYTES * MS_PER_GIGABYTE },
  );
  if (code === 0) return JSON.parse(stdout);
  const ends = await Promise.all([deployment.status("client"), deployment.status("gateway")]);
  throw new Error(
    `${name} ended with status ${code}: ${stderr}\nclient and gateway: ${JSON.stringify(ends)}`,
  );
}
