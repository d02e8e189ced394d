import { assert, assertEquals, assertMatch } from "@std/assert";
import { selectAead } from "@firezone/core/crypto";
import type { ConnectionStatus, Deployment, ProgramName } from "@firezone/tools/deployment";
import { ADDRESS, UNGRANTED_PORT } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import {
  download,
  inScene,
  kill,
  pause,
  readPage as readPageOf,
  stop,
  untilPage,
} from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "curl");
const needsPing = requires("ping");
const PAGE_MS = 5_000;

/** A path that broke is given up after 17 s at most; then comes a new one. */
const FAILOVER_MS = 45_000;

const IDLE_MS = 400;
/** A sender that understands congestion marks (RFC 3168 §5). */
const ECT1 = 1;
/** Linux counts processor time in hundredths of a second. */
const MS_PER_TICK = 10;

Deno.test("a tunnel from end to end", needs, async (t) => {
  await inScene({ prefix: "fzt" }, (deployment) => useTunnel(t, deployment));
});

async function useTunnel(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology } = deployment;
  const read = async (address: string, port?: number) =>
    await topology.fetchPage("client", address, PAGE_MS, port);
  const readPage = async (address: string) => await readPageOf(deployment, address, PAGE_MS);

  await t.step("both ends use the cipher that the environment names", () => {
    const wanted = Deno.env.get("FIREZONE_CRYPTO") || selectAead().name;
    for (const name of ["client", "gateway"] as const) {
      const { lines } = deployment.process(name);
      const line = lines.find((line) => line.includes("Data plane is running"));
      assertMatch(line ?? lines.join("\n"), new RegExp(`\\b${wanted}\\b`));
    }
  });

  await t.step("the first page comes directly within half a second", async () => {
    const { firstByteMs } = await readPage(ADDRESS.web[0]);
    assert(firstByteMs <= 500, `first byte after ${firstByteMs} ms`);
    await deployment.untilPath("direct");
  });

  await t.step("IPv6 goes over the same connection", async () => {
    await readPage(ADDRESS.web[1]);
    assertEquals((await deployment.status("client"))?.connections.length, 1);
  });

  await t.step("the server sees the gateway, not the client", async () => {
    const { body } = await readPage(ADDRESS.web[0]);
    assertMatch(body, /^Hello 10\.20\.0\.1,/);
  });

  await t.step("bulk data arrives, and both ends count it", async () => {
    const report = await topology.download("client", ADDRESS.web[0], 1_000);
    assert(report.ok && report.bytes > 1e6, JSON.stringify(report));
    assert((await connection(deployment)).rxBytes >= report.bytes);
    const atGateway = (await deployment.status("gateway"))?.connections[0];
    assert(atGateway !== undefined && atGateway.txBytes >= report.bytes);
  });

  await t.step("a file arrives whole over either family", async () => {
    await Promise.all(ADDRESS.web.map((address) => download(deployment, address)));
  });

  await t.step({
    ...needsPing,
    name: "congestion on the way is marked in the packets inside (RFC 6040)",
    fn: async () => {
      // A router that has too much to do says so on packets whose sender understands it.
      await addRules(deployment, "internet", "forward", [
        "ip ecn ect1 ip ecn set ce",
        "ip6 ecn ect1 ip6 ecn set ce",
      ]);
      await addRules(deployment, "web", "input", ["ip ecn ce icmp type echo-request counter"]);
      await ping(deployment, ADDRESS.web[0], ["-Q", `${ECT1}`]);
      const { stdout } = await topology.get("web").run(["nft", "list", "ruleset"]);
      assertMatch(stdout, /counter packets [1-9]/);
      await topology.get("internet").run(["nft", "delete table inet marks"]);
    },
  });

  await t.step("what is not granted is unreachable", async () => {
    for (const address of ADDRESS.payroll) {
      assert((await topology.fetchPage("gateway", address, PAGE_MS)).ok, "the server is there");
      assert(!(await topology.fetchPage("client", address, 1_000)).ok);
    }
  });

  await t.step("not even for a client that sends it into the tunnel", async () => {
    const client = topology.get("client");
    await client.ip(`route add ${ADDRESS.payroll[0]} dev tun-firezone`);
    await client.ip(`route add ${ADDRESS.payroll[1]} dev tun-firezone`);
    for (const address of ADDRESS.payroll) {
      assert(!(await topology.fetchPage("client", address, 1_000)).ok);
    }
    await client.ip(`route del ${ADDRESS.payroll[0]} dev tun-firezone`);
    await client.ip(`route del ${ADDRESS.payroll[1]} dev tun-firezone`);
  });

  await t.step("a port that the filters leave out is refused at once", async () => {
    const report = await read(ADDRESS.web[0], UNGRANTED_PORT);
    assert(!report.ok && report.afterMs < 1_000, JSON.stringify(report));
  });

  await t.step("a resource comes and goes with the portal's configuration", async () => {
    const config = deployment.config();
    const policies = [{ accounts: ["laptop"], resources: ["*"] }];
    await deployment.writeConfig({ ...config, policies });
    await deployment.untilStatus("client", (status) => status.resources?.length === 4);
    await readPage(ADDRESS.payroll[0]);
    await readPage(ADDRESS.payroll[1]);
    if (!needsPing.ignore) {
      for (const address of ADDRESS.payroll) await ping(deployment, address);
    }
    await deployment.writeConfig(config);
    await deployment.untilStatus("client", (status) => status.resources?.length === 2);
    assert(!(await topology.fetchPage("client", ADDRESS.payroll[0], 1_000)).ok);
    await readPage(ADDRESS.web[0]);
  });

  await t.step("when the direct way is blocked, the relay takes over by itself", async () => {
    await topology.blockDirect();
    await untilPage(deployment, ADDRESS.web[0], FAILOVER_MS);
    await deployment.untilPath("relayed");
    await readPage(ADDRESS.web[1]);
    await download(deployment, ADDRESS.web[0]);
  });

  await t.step("a client that starts over finds the relay within half a second", async () => {
    await deployment.resetClient();
    const { firstByteMs } = await readPage(ADDRESS.web[0]);
    assert(firstByteMs <= 500, `first byte after ${firstByteMs} ms`);
    await deployment.untilPath("relayed");
  });

  await t.step("with the way open again, a client that starts over goes directly", async () => {
    await topology.unblockDirect();
    await deployment.resetClient();
    await readPage(ADDRESS.web[0]);
    await deployment.untilPath("direct");
  });

  await t.step("programs without work sleep", async () => {
    for (const name of deployment.names()) {
      const usedMs = await cpuUse(deployment, name, IDLE_MS);
      assert(usedMs < IDLE_MS / 4, `${name} used ${usedMs} ms of ${IDLE_MS} ms`);
    }
  });

  await t.step("a question about the status holds nobody's end up", async () => {
    for (const name of ["client", "gateway"] as const) {
      const asked = deployment.status(name);
      await stop(deployment, name);
      await asked;
    }
  });

  await t.step("without its gateway a resource is out of reach", async () => {
    await deployment.startReady("client");
    assert(!(await topology.fetchPage("client", ADDRESS.web[0], 1_000)).ok);
  });
}

Deno.test("after kill -9 the next start works and its end leaves nothing", needs, async () => {
  await inScene({ prefix: "fzk" }, async (deployment) => {
    await readPageOf(deployment, ADDRESS.web[0]);
    for (const name of ["gateway", "client"] as const) await kill(deployment, name);
    for (const name of ["gateway", "client"] as const) await deployment.startReady(name);
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    // A relay and a portal keep nothing outside of themselves.
    for (const name of ["relay", "portal"] as const) await kill(deployment, name);
    for (const name of ["portal", "relay"] as const) await deployment.startReady(name);
    for (const name of ["gateway", "client"] as const) await deployment.untilReady(name);
    await readPageOf(deployment, ADDRESS.web[1]);
  });
});

async function connection(deployment: Deployment): Promise<ConnectionStatus> {
  const status = await deployment.status("client");
  const found = status?.connections.find((c) => c.path !== undefined);
  assert(found !== undefined, `no connection in ${JSON.stringify(status)}`);
  return found;
}

async function ping(
  deployment: Deployment,
  address: string,
  options: readonly string[] = [],
): Promise<void> {
  const { code, stdout } = await deployment.topology.get("client")
    .run(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", ...options, address]);
  assertEquals(code, 0, stdout);
}

async function addRules(
  deployment: Deployment,
  name: string,
  hook: "forward" | "input",
  rules: readonly string[],
): Promise<void> {
  const table = `table inet marks { chain marking {\ntype filter hook ${hook} priority 0\n` +
    `${rules.join("\n")}\n}\n}`;
  const { code, stderr } = await deployment.topology.get(name).run(["nft", table]);
  assertEquals(code, 0, stderr);
}

/** Processor time in milliseconds that a program uses in so long. */
async function cpuUse(
  deployment: Deployment,
  name: ProgramName,
  durationMs: number,
): Promise<number> {
  const path = `/proc/${deployment.process(name).pid}/stat`;
  const read = () => {
    const stat = Deno.readTextFileSync(path);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK;
  };
  const before = read();
  await pause(durationMs);
  return read() - before;
}
