import { assert, assertEquals } from "@std/assert";
import { requires } from "@firezone/tests/requirements";
import { ADDRESS, Topology, UNGRANTED_PORT } from "./topology.ts";

Deno.test(
  "Topology translates, keeps the private network apart and drops UDP when told",
  requires("linux", "root", "namespaces", "ip", "unshare"),
  async (t) => {
    await using topology = await Topology.create("fzt");

    await t.step("the private network answers its gateway and nobody else", async () => {
      for (const address of [...ADDRESS.web, ...ADDRESS.payroll]) {
        const inside = await topology.fetchPage("gateway", address, 5_000);
        assert(inside.ok && inside.body.includes("private web server"), JSON.stringify(inside));
        const port = await topology.fetchPage("gateway", address, 5_000, UNGRANTED_PORT);
        assert(port.ok);
        const outside = await topology.fetchPage("client", address, 300);
        assert(!outside.ok, JSON.stringify(outside));
      }
    });

    await t.step("both NATs show their own address", async () => {
      for (const [from, nat] of [["client", ADDRESS.natA], ["gateway", ADDRESS.natB]] as const) {
        for (const family of [0, 1] as const) {
          assertEquals(await echo(topology, from, ADDRESS.relay[family]), nat[family]);
        }
      }
    });

    await t.step("two ends behind NATs meet, unless UDP between the NATs is dropped", async () => {
      for (const family of [0, 1] as const) {
        assertEquals(await punch(topology, family), [true, true]);
      }
      await topology.blockDirect();
      for (const family of [0, 1] as const) {
        assertEquals(await punch(topology, family), [false, false]);
      }
      assertEquals(await echo(topology, "client", ADDRESS.relay[0]), ADDRESS.natA[0]);
      await topology.unblockDirect();
      assertEquals(await punch(topology, 0), [true, true]);
    });
  },
);

/** The address under which a UDP datagram of `from` arrives at the relay's machine. */
async function echo(topology: Topology, from: string, server: string): Promise<string> {
  const script = new URL("../netns/udp_probe.ts", import.meta.url).pathname;
  const command = [Deno.execPath(), "run", "-A", script];
  const process = topology.get("relay").spawn("echo", [...command, "echo", server, "7000"]);
  await process.waitForLine(/^listening$/, 5_000);
  const { stdout } = await topology.get(from).run([...command, "ask", server, "7000"]);
  await process.stop();
  return stdout.trim();
}

/** Lets client and gateway send to each other's NAT, and says which of them heard the other. */
async function punch(topology: Topology, family: 0 | 1): Promise<boolean[]> {
  const script = new URL("../netns/udp_probe.ts", import.meta.url).pathname;
  const run = async (from: string, local: string, remote: string) => {
    const command = [Deno.execPath(), "run", "-A", script, "punch", local, remote, "7001"];
    return (await topology.get(from).run(command)).stdout === "heard\n";
  };
  return await Promise.all([
    run("client", ADDRESS.clientLan[family], ADDRESS.natB[family]),
    run("gateway", ADDRESS.gatewayLan[family], ADDRESS.natA[family]),
  ]);
}
