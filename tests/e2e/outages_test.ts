import { assert, assertMatch } from "@std/assert";
import { Deployment } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip");
const PAGE_MS = 2_000;

Deno.test("a tunnel outlives what happens around it", needs, async (t) => {
  await using deployment = await Deployment.create({ prefix: "fzo" });
  const { topology } = deployment;
  await deployment.startAll();

  const readPage = async () => {
    const report = await topology.fetchPage("client", ADDRESS.web[0], PAGE_MS);
    assert(report.ok, JSON.stringify(report));
    assertMatch(report.body, /private web server/);
  };
  /** Asks until a page comes, and says after how many milliseconds it did. */
  const untilPage = async (limitMs: number) => {
    const start = performance.now();
    while (true) {
      const report = await topology.fetchPage("client", ADDRESS.web[0], PAGE_MS);
      const afterMs = performance.now() - start;
      if (report.ok) return afterMs;
      assert(afterMs < limitMs, `no page after ${Math.round(afterMs)} ms`);
    }
  };
  await readPage();

  await t.step("while the portal is away, and when it is back", async () => {
    await deployment.process("portal").stop(10_000);
    await readPage();
    await deployment.startReady("portal");
    await readPage();
    await deployment.untilStatus("client", (status) => status.portal === "connected", 60_000);
    await deployment.untilStatus("gateway", (status) => status.portal === "connected", 60_000);
    await deployment.resetClient();
    await untilPage(10_000);
  });

  await t.step("when the gateway is started again", async () => {
    await deployment.process("gateway").stop(10_000);
    await deployment.startReady("gateway");
    const afterMs = await untilPage(10_000);
    assert(afterMs < 3_000, `back after ${afterMs} ms`);
  });

  await t.step("when the gateway was killed and is started again", async () => {
    deployment.process("gateway").kill();
    await deployment.process("gateway").ended;
    await deployment.startReady("gateway");
    // The client learns of it when ICE gives the old path up.
    await untilPage(45_000);
  });

  await t.step("when the client moves to another address", async () => {
    const client = topology.get("client");
    await client.ip(
      `addr del ${ADDRESS.clientLan[0]}/24 dev eth0`,
      "addr add 192.168.1.77/24 dev eth0",
      "route replace default via 192.168.1.1",
    );
    await deployment.process("client").waitForLine(/network changed/i, 5_000);
    const afterMs = await untilPage(10_000);
    assert(afterMs < 3_000, `back after ${afterMs} ms`);
  });

  await t.step("when its relay is started again", async () => {
    await topology.blockDirect();
    await deployment.resetClient();
    await readPage();
    await deployment.untilPath("relayed");
    deployment.process("relay").kill();
    await deployment.process("relay").ended;
    await deployment.startReady("relay");
    await untilPage(45_000);
    await topology.unblockDirect();
  });
});
