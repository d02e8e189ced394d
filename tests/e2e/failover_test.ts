import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { atOnce, download, inScene, kill, readPage, report, stop, untilPage } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "curl");

/** ICE gives a path up after 16.5 s without an answer; a noisy machine takes longer. */
const ICE_TIMEOUT_MS = 45_000;

/** What is promised, and what a machine that does much else at the same time may add. */
const PROMISED_MS = 16_500;
const NOISE_MS = 4_000;
const PAGE_MS = 10_000;

/** Without a relay and without a direct way there is none. */
const NO_PAGE_MS = 2_000;

type Gateway = "gateway" | "gateway-2";
type Relay = "relay" | "relay-2";

Deno.test("clients of a gateway or relay that is lost go to another", needs, async (t) => {
  const network = { hasSpares: true };
  await atOnce(t, {
    gateways: (t) =>
      inScene(
        { prefix: "fzf", network, losesForwarding: true },
        (deployment) => loseGateways(t, deployment),
      ),
    relays: (t) =>
      inScene({ prefix: "fzf-rel", network }, (deployment) => loseRelays(t, deployment)),
  });
});

async function loseGateways(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("a gateway that ends in order", async () => {
    const first = await carrier(deployment);
    await stop(deployment, first);
    report("page from the other gateway", await untilPage(deployment, ADDRESS.web[0], PAGE_MS));
    assertEquals(await carrier(deployment), other(first));
    await deployment.startReady(first);
  });

  await t.step("a gateway that was killed, within the ICE timeout", async () => {
    const first = await carrier(deployment);
    const start = performance.now();
    await kill(deployment, first);
    await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    report("page from another gateway after one was killed", performance.now() - start);
    assertEquals(await carrier(deployment), other(first));
    await readPage(deployment, ADDRESS.web[1]);
    await deployment.startReady(first);
  });

  await t.step("a gateway whose machine died, within the ICE timeout", async () => {
    const first = await carrier(deployment);
    const machine = deployment.topology.get(first);
    const start = performance.now();
    await machine.ip("link set eth0 down");
    await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    const afterMs = performance.now() - start;
    report("page from another gateway after one's machine died", afterMs);
    assert(afterMs < PROMISED_MS + NOISE_MS, `back after ${afterMs} ms`);
    assertEquals(await carrier(deployment), other(first));
    await machine.ip("link set eth0 up", ...whatTheLinkTook(first));
  });
}

async function loseRelays(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("a relay that was killed", async () => {
    await deployment.topology.blockDirect();
    await deployment.resetClient();
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    const first = await relayOnTheWay(deployment);
    const start = performance.now();
    await kill(deployment, first);
    await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    report("page through another relay after one was killed", performance.now() - start);
    assertEquals(await relayOnTheWay(deployment), first === "relay" ? "relay-2" : "relay");
    await download(deployment, ADDRESS.web[0], { bytes: 1_000_000 });
  });

  await t.step("all relays, until one is back", async () => {
    const last = await relayOnTheWay(deployment);
    await kill(deployment, last);
    const { ok } = await deployment.topology.fetchPage("client", ADDRESS.web[0], NO_PAGE_MS);
    assert(!ok, "a page without any way");
    await deployment.startReady(last);
    const afterMs = await untilPage(deployment, ADDRESS.web[0], ICE_TIMEOUT_MS);
    report("page after all relays were lost and one came back", afterMs);
  });
}

/** Which gateway a page comes through, by the address that the web server sees. */
async function carrier(deployment: Deployment): Promise<Gateway> {
  const { body } = await readPage(deployment, ADDRESS.web[0]);
  assertMatch(body, /^Hello 10\.20\.0\.[12],/);
  return body.includes("10.20.0.1,") ? "gateway" : "gateway-2";
}

/** What the kernel drops with a link: routes, and all of IPv6. */
function whatTheLinkTook(name: Gateway): string[] {
  const isFirst = name === "gateway";
  const v6 = isFirst ? ADDRESS.gatewayLan[1] : ADDRESS.gateway2[1];
  return [
    `addr add ${v6}/64 dev eth0 nodad`,
    `route add default via ${isFirst ? "192.168.2.1" : "192.0.2.9"}`,
    `route add default via ${isFirst ? "fd00:b::1" : "2001:db8:e::1"}`,
  ];
}

function other(gateway: Gateway): Gateway {
  return gateway === "gateway" ? "gateway-2" : "gateway";
}

async function relayOnTheWay(deployment: Deployment): Promise<Relay> {
  const { path } = await deployment.untilPath("relayed");
  const ends = JSON.stringify(path);
  const relays = ADDRESS.relay.some((address) =>
    ends.includes(`${address}]`) ||
    ends.includes(`${address}:`)
  );
  return relays ? "relay" : "relay-2";
}
