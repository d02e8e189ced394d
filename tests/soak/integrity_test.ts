/**
 * Everything that goes through the tunnel comes out once, unchanged and in order, whatever its size.
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
import type { UdpOrders, UdpReport } from "./udp_traffic.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip");
const GIGABYTES = Number(Deno.env.get("FIREZONE_SOAK_GB") ?? 0.25);
const MEAN_DATAGRAM = 620;
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

    const carry = async (run: number) => {
      const [tcp, udp] = await Promise.all([
        report<TcpReport>(deployment, "tcp_traffic.ts", {
          connect: [...ADDRESS.web, ...ADDRESS.web],
          port: TCP_PORT,
          bytes: GIGABYTES * 1e9 / 2,
        }),
        report<UdpReport>(deployment, "udp_traffic.ts", {
          send: ADDRESS.web,
          port: UDP_PORT,
          datagrams: Math.round(GIGABYTES * 1e8 / MEAN_DATAGRAM),
          run,
        }),
      ]);
      assert(tcp.checkedBytes >= GIGABYTES * 1e9 / 2);
      for (const counts of [udp.there, udp.back]) {
        assertEquals([counts.damaged, counts.disordered], [0, 0], JSON.stringify(udp));
      }
      assert(udp.back.right > udp.sent / 2, JSON.stringify(udp));
    };

    await t.step("directly", async () => {
      await carry(1);
      await deployment.untilPath("direct");
    });

    await t.step("through the relay", async () => {
      await deployment.topology.blockDirect();
      await deployment.resetClient();
      await carry(2);
      await deployment.untilPath("relayed");
    });

    const env = { FIREZONE_THREADS: "3" };
    await t.step("through the relay, with more threads at both ends", async () => {
      for (const name of ["client", "gateway"] as const) await deployment.process(name).stop();
      for (const name of ["gateway", "client"] as const) {
        await deployment.startReady(name, { env });
      }
      await carry(3);
      await deployment.untilPath("relayed");
    });

    await t.step("directly, with more threads", async () => {
      await deployment.topology.unblockDirect();
      await deployment.resetClient();
      await carry(4);
      await deployment.untilPath("direct");
    });
  },
);

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
  assertEquals(code, 0, `${name}: ${stderr}`);
  return JSON.parse(stdout);
}
