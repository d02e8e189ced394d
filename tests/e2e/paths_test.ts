import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { assertNoWarnings, atOnce, download, inScene, pause, readPage, SLOW } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "curl");
const SMALL_FILE_BYTES = 100_000;

/** Time for curl to connect and to read, twice over, on a network that loses a fifth. */
const LOSSY_PAGE_MS = 30_000;
const PAGE_MS = 10_000;

/** How long a download runs before something happens to it. */
const STREAMING_MS = 500;
/** How long a client has no network while it moves. */
const AWAY_MS = 3_000;
const AT_ONCE_MS = 1_000;
const CLOSED_PORT = 81;
const FAMILIES = ["IPv4", "IPv6"];

Deno.test("files arrive whole on many kinds of network", needs, async (t) => {
  await atOnce(t, {
    "between two symmetric NATs, through the relay": () =>
      inScene({ prefix: "fze-sym", network: { symmetricNats: true } }, async (deployment) => {
        for (const address of ADDRESS.web) await readPage(deployment, address);
        await download(deployment, ADDRESS.web[0]);
        await deployment.untilPath("relayed");
        assertNoWarnings(deployment);
      }),
    "where the Internet has IPv4 alone": () => useOneFamily("IPv4"),
    "where the Internet has IPv6 alone": () => useOneFamily("IPv6"),
    "while the client moves": () => inScene({ prefix: "fze-roam" }, downloadWhileMoving),
  });
});

async function useOneFamily(onlyFamily: "IPv4" | "IPv6"): Promise<void> {
  const prefix = `fze-${onlyFamily.toLowerCase()}`;
  await inScene({ prefix, network: { onlyFamily } }, async (deployment) => {
    for (const address of ADDRESS.web) await readPage(deployment, address);
    const { path } = await deployment.untilPath("direct");
    assertEquals(path?.remote.includes("["), onlyFamily === "IPv6");
    await Promise.all(ADDRESS.web.map((address) => download(deployment, address)));
    await deployment.topology.blockDirect();
    await deployment.resetClient();
    for (const address of ADDRESS.web) await readPage(deployment, address);
    await deployment.untilPath("relayed");
    assertNoWarnings(deployment);
  });
}

async function downloadWhileMoving(deployment: Deployment): Promise<void> {
  const client = deployment.topology.get("client");
  const [own, other] = [`${ADDRESS.clientLan[0]}/24`, "192.168.1.77/24"];
  const move = async (from: string, to: string) => {
    await client.ip(
      "link set eth0 down",
      `addr del ${from} dev eth0`,
      `addr add ${to} dev eth0`,
      `addr replace ${ADDRESS.clientLan[1]}/64 dev eth0 nodad`,
    );
    await pause(AWAY_MS);
    await client.ip(
      "link set eth0 up",
      "route add default via 192.168.1.1",
      `addr replace ${ADDRESS.clientLan[1]}/64 dev eth0 nodad`,
      "route replace default via fd00:a::1",
    );
  };
  const downloads = ADDRESS.web.map((address) => download(deployment, address, { options: SLOW }));
  await pause(STREAMING_MS);
  await move(own, other);
  await Promise.all(downloads);
  await move(other, own);
  await readPage(deployment, ADDRESS.web[0]);
}

Deno.test("several files arrive whole at the same time", needs, async () => {
  await inScene({ prefix: "fze-many" }, async (deployment) => {
    const addresses = [...ADDRESS.web, ...ADDRESS.web];
    await Promise.all(addresses.map((address) => download(deployment, address)));
    assertNoWarnings(deployment);
  });
});

Deno.test("a client learns at once that a server refuses or resets", needs, async (t) => {
  await inScene({ prefix: "fze-rst" }, async (deployment) => {
    const { topology } = deployment;
    const config = deployment.config();
    await deployment.writeConfig({
      ...config,
      policies: [{ accounts: ["laptop"], resources: ["*"] }],
    });
    await deployment.untilStatus("client", (status) => status.resources?.length === 4);
    for (const [i, address] of ADDRESS.payroll.entries()) {
      await readPage(deployment, address);
      await t.step(`a port where nobody listens, over ${FAMILIES[i]}`, async () => {
        const report = await topology.fetchPage("client", address, PAGE_MS, CLOSED_PORT);
        assert(!report.ok);
        assertMatch(report.error, /refused/);
        assert(report.afterMs < AT_ONCE_MS, `after ${report.afterMs} ms`);
      });
    }
    await t.step("a connection that is reset in the middle of a download", async () => {
      const start = performance.now();
      const outcome = topology.get("client").run(
        [
          "curl",
          "-sS",
          "--max-time",
          "10",
          "-o",
          "/dev/null",
          `http://${ADDRESS.payroll[0]}/stream`,
        ],
      );
      await pause(STREAMING_MS);
      const rules = "table inet resets { chain arriving {\ntype filter hook input priority 0\n" +
        "tcp dport 80 reject with tcp reset\n}\n}";
      assertEquals((await topology.get("web").run(["nft", rules])).code, 0);
      const { code, stderr } = await outcome;
      assert(code !== 0);
      assertMatch(stderr, /reset/i);
      const afterMs = performance.now() - start;
      assert(afterMs < STREAMING_MS + AT_ONCE_MS, `after ${afterMs} ms`);
    });
  });
});

Deno.test("a file arrives whole although a fifth of all packets is lost", needs, async () => {
  await inScene({ prefix: "fze-loss" }, async (deployment) => {
    await deployment.topology.losePackets(20);
    await readPage(deployment, ADDRESS.web[0], LOSSY_PAGE_MS);
    // TCP that takes loss for congestion manages some 15 kB/s on such a network, tunnel or not.
    const bbr = "echo bbr > /proc/sys/net/ipv4/tcp_congestion_control";
    const { code } = await deployment.topology.get("web").run(["sh", "-c", bbr]);
    await download(deployment, ADDRESS.web[0], code === 0 ? {} : { bytes: SMALL_FILE_BYTES });
    assertNoWarnings(deployment);
  });
});
