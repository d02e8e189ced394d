import { assert } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import type { Namespace } from "@firezone/tools/netns";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import {
  atOnce,
  download,
  inScene,
  kill,
  pause,
  readPage,
  report,
  SLOW,
  stop,
  until,
  untilPage,
} from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "curl", "ping");

/** How long a download runs before something happens to it. */
const STREAMING_MS = 500;
const PAGE_MS = 10_000;
const RECONNECTED_MS = 60_000;

/** ICE gives a path up after 16.5 s without an answer; then comes a new connection. */
const ICE_TIMEOUT_MS = 45_000;

/** How long a client has no network while it moves. */
const AWAY_MS = 3_000;

/** What is promised, on a machine that has time for it. */
const PROMISED_MS = { roaming: 2_000, gatewayRestart: 3_000, relayRestart: 3_000 };

/** What a machine that does much else at the same time may add. */
const NOISE_MS = 4_000;

Deno.test("a tunnel outlives what happens around it", needs, async (t) => {
  await atOnce(t, {
    "portal, gateway and relay that are started again, and the client's moves": (t) =>
      inScene({ prefix: "fzo" }, async (deployment) => {
        await readPage(deployment, ADDRESS.web[0]);
        await outlivePortal(t, deployment);
        await outliveGateway(t, deployment);
        await outliveMoving(t, deployment);
        await outliveRelay(t, deployment);
      }),
    "a download and its gateway": (t) =>
      inScene({ prefix: "fzo-gw", isEmpty: true }, (deployment) => downloadOn(t, deployment)),
  });
});

/** Where the gateway masquerades, its kernel forgets all flows when it ends. */
async function downloadOn(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await masqueradeByAdministrator(deployment.topology.get("gateway"));
  const restart = () => deployment.startReady("gateway", { args: ["--no-masquerade"] });
  for (const name of ["portal", "relay"] as const) await deployment.startReady(name);
  await restart();
  await deployment.startReady("client");
  await readPage(deployment, ADDRESS.web[0]);

  await t.step("that is started again", async () => {
    const file = download(deployment, ADDRESS.web[0], { options: SLOW });
    await pause(STREAMING_MS);
    await stop(deployment, "gateway");
    await restart();
    await file;
  });

  await t.step("that was killed and is started again", async () => {
    const file = download(deployment, ADDRESS.web[1], { options: SLOW });
    await pause(STREAMING_MS);
    await kill(deployment, "gateway");
    const start = performance.now();
    await restart();
    await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    report("page after a gateway was killed and started", performance.now() - start);
    await file;
  });

  await clearRules(deployment.topology.get("gateway"));
}

async function outlivePortal(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("while the portal is away, and when it is back", async () => {
    const file = download(deployment, ADDRESS.web[1], { options: SLOW });
    await pause(STREAMING_MS);
    await stop(deployment, "portal");
    for (const name of ["client", "gateway"] as const) {
      await deployment.untilStatus(name, (status) => status.portal === "connecting");
    }
    for (const address of ADDRESS.web) await readPage(deployment, address);
    await ping(deployment, ADDRESS.web[0]);
    await deployment.startReady("portal");
    await readPage(deployment, ADDRESS.web[0]);
    await untilConnected(deployment);
    await file;
  });

  await t.step("while portal and relay are away", async () => {
    const relay = deployment.process("relay");
    await stop(deployment, "portal");
    await stop(deployment, "relay");
    await download(deployment, ADDRESS.web[0]);
    await deployment.startReady("portal");
    await deployment.startReady("relay");
    assert(deployment.process("relay") !== relay);
    await untilConnected(deployment);
    await deployment.resetClient();
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
  });
}

async function outliveGateway(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("when the gateway is started again", async () => {
    await stop(deployment, "gateway");
    assert(!(await deployment.topology.fetchPage("client", ADDRESS.web[0], 1_000)).ok);
    await deployment.startReady("gateway");
    const afterMs = await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    report("page after the gateway's restart", afterMs);
    assert(afterMs < PROMISED_MS.gatewayRestart + NOISE_MS, `back after ${afterMs} ms`);
  });
}

async function outliveMoving(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("when the client moves to another address", async () => {
    const client = deployment.topology.get("client");
    await client.ip(
      `addr del ${ADDRESS.clientLan[0]}/24 dev eth0`,
      "addr add 192.168.1.77/24 dev eth0",
      "route replace default via 192.168.1.1",
    );
    const start = performance.now();
    await deployment.process("client").waitForLine(/network changed/i, PAGE_MS);
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    const afterMs = performance.now() - start;
    report("page after the client got another address", afterMs);
    assert(afterMs < PROMISED_MS.roaming + NOISE_MS, `back after ${afterMs} ms`);
  });

  await t.step("when the client is on no network for a while, and then on another", async () => {
    const client = deployment.topology.get("client");
    const pings = client.spawn("ping", ["ping", "-n", "-D", "-i", "0.1", ADDRESS.web[0]]);
    await pings.waitForLine(/bytes from|Unreachable/, PAGE_MS);
    await client.ip("link set eth0 down", "addr flush dev eth0");
    await pause(AWAY_MS);
    const [start, since] = [performance.now(), pings.lineCount];
    await client.ip(...newAddresses("192.168.1.78", "fd00:a::78"));
    await pings.waitForLine(/bytes from/, PAGE_MS, since);
    const afterMs = performance.now() - start;
    pings.kill();
    report("first answer to a ping after the new network was usable", afterMs);
    assert(afterMs < PROMISED_MS.roaming + NOISE_MS, `back after ${afterMs} ms`);
    await readPage(deployment, ADDRESS.web[1]);
  });

  await t.step("when the client is back where it was", async () => {
    const client = deployment.topology.get("client");
    await client.ip("addr flush dev eth0", ...newAddresses(...ADDRESS.clientLan));
    await untilPage(deployment, ADDRESS.web[1], PAGE_MS);
  });
}

/** Commands that give the client's link these addresses and their routers. */
function newAddresses(v4: string, v6: string): string[] {
  return [
    `addr add ${v4}/24 dev eth0`,
    "link set eth0 up",
    "route replace default via 192.168.1.1",
    `addr add ${v6}/64 dev eth0 nodad`,
    "route replace default via fd00:a::1",
  ];
}

async function outliveRelay(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("when its relay is killed and started again, with other credentials", async () => {
    await deployment.topology.blockDirect();
    await deployment.resetClient();
    await readPage(deployment, ADDRESS.web[0]);
    await deployment.untilPath("relayed");
    const file = download(deployment, ADDRESS.web[0], { options: SLOW });
    await pause(STREAMING_MS);
    await kill(deployment, "relay");
    await deployment.startReady("relay");
    const afterMs = await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    report("page after the relay's restart", afterMs);
    await file;
    await deployment.untilPath("relayed");
  });

  await t.step(
    "a relay that is asked to end carries what it carries, until asked again",
    async () => {
      await stop(deployment, "relay");
      const relay = await deployment.startReady("relay", { args: ["--drain-timeout", "1m"] });
      await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
      await readPage(deployment, ADDRESS.web[0]);
      relay.signal("SIGTERM");
      await relay.waitForLine(/Serving until the last allocation ends/, PAGE_MS);
      await download(deployment, ADDRESS.web[0], { bytes: 1_000_000 });
      assert(relay.status === undefined, "the relay still runs");
      relay.signal("SIGTERM");
      await until("the relay ends", () => relay.status !== undefined);
      await deployment.topology.unblockDirect();
    },
  );
}

async function untilConnected(deployment: Deployment): Promise<void> {
  for (const name of ["client", "gateway"] as const) {
    await deployment.untilStatus(name, ({ portal }) => portal === "connected", RECONNECTED_MS);
  }
}

async function ping(deployment: Deployment, address: string): Promise<void> {
  const { code, stdout } = await deployment.topology.get("client")
    .run(["ping", "-n", "-c", "2", "-i", "0.2", "-W", "5", address]);
  assert(code === 0, stdout);
}

/** What a gateway does by itself unless told not to. */
async function masqueradeByAdministrator(gateway: Namespace): Promise<void> {
  await gateway.sysctl({ "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1 });
  const rules = "table inet admin { chain leaving {\ntype nat hook postrouting priority 100\n" +
    'oifname "eth1" masquerade\n}\n}';
  const { code, stderr } = await gateway.run(["nft", rules]);
  assert(code === 0, stderr);
}

async function clearRules(gateway: Namespace): Promise<void> {
  await gateway.run(["nft", "delete table inet admin"]);
  await gateway.sysctl({ "net.ipv4.ip_forward": 0, "net.ipv6.conf.all.forwarding": 0 });
}
