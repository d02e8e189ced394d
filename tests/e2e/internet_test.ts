import { assertEquals } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { inScene, kill, untilPage } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft");
const PAGE_MS = 10_000;

/** A router on the client's own network, which is no matter of the tunnel. */
const ROUTER = ["192.168.1.1", "fd00:a::1"];

/** Somewhere on the Internet. */
const SERVER = ADDRESS.relay;

Deno.test("the Internet resource takes everything but the local network", needs, async (t) => {
  await inScene({ prefix: "fzi", isEmpty: true }, (deployment) => useInternet(t, deployment));
});

async function useInternet(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology } = deployment;
  await topology.startWebServer("nat-a", ROUTER);
  await using _server = await topology.startWebServer("relay", SERVER);
  await deployment.writeConfig({
    ...deployment.config(),
    resources: [{ type: "internet", sites: ["office"] }],
    policies: [{ accounts: ["laptop"], resources: ["*"] }],
  });
  for (const name of ["portal", "relay", "gateway"] as const) await deployment.startReady(name);
  const start = async (...args: string[]) => {
    const client = deployment.start("client", { args });
    await deployment.untilStatus("client", ({ resources }) => resources?.length === 1);
    return client;
  };
  /** Who the server is visited by. */
  const visitors = async (addresses: readonly string[]) => {
    const pages = addresses.map(async (address) => {
      await untilPage(deployment, address, PAGE_MS);
      const page = await topology.fetchPage("client", address, PAGE_MS);
      return page.ok ? /^Hello (\S+),/.exec(page.body)?.[1] : page.error;
    });
    return await Promise.all(pages);
  };

  await t.step("only if the client is asked to", async () => {
    const client = await start();
    assertEquals(await visitors(SERVER), [...ADDRESS.natA]);
    await client.stop();
  });

  await t.step("then by the gateway's network, and the local one stays in reach", async () => {
    await start("--activate-internet-resource");
    assertEquals(await visitors(SERVER), [...ADDRESS.natB]);
    assertEquals(await visitors(ROUTER), [...ADDRESS.clientLan]);
  });

  await t.step("also after the client was killed and started again", async () => {
    await kill(deployment, "client");
    assertEquals(await visitors(SERVER), [...ADDRESS.natA]);
    await start("--activate-internet-resource");
    assertEquals(await visitors(SERVER), [...ADDRESS.natB]);
  });

  await t.step("a network that changes is followed", async () => {
    const client = topology.get("client");
    await client.ip(
      `addr del ${ADDRESS.clientLan[0]}/24 dev eth0`,
      "addr add 192.168.1.77/24 dev eth0",
      "route replace default via 192.168.1.1",
    );
    await deployment.process("client").waitForLine(/network changed/i, PAGE_MS);
    assertEquals(await visitors(SERVER), [...ADDRESS.natB]);
    assertEquals(await visitors(ROUTER), ["192.168.1.77", ADDRESS.clientLan[1]]);
    await client.ip(
      "addr del 192.168.1.77/24 dev eth0",
      `addr add ${ADDRESS.clientLan[0]}/24 dev eth0`,
      "route replace default via 192.168.1.1",
    );
    assertEquals(await visitors(SERVER), [...ADDRESS.natB]);
  });
}
