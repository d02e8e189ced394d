import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import type { CommandResult } from "@firezone/tools/netns";
import { ADDRESS } from "@firezone/tools/topology";
import { NotifyListener } from "../../core/os/linux/testing/notify_listener.ts";
import { requires } from "../requirements.ts";
import { inScene } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft");
const root = new URL("../../", import.meta.url).pathname;
const PAGE_MS = 10_000;

/** Takes all capabilities but one away, so that being root means nothing any more. */
const ONLY_NET_ADMIN = ["setpriv", "--bounding-set", "-all,+net_admin", "--"];

Deno.test("CAP_NET_ADMIN is all that client and gateway need", needs, async (t) => {
  await inScene({ prefix: "fzt", isEmpty: true }, (deployment) => runUnprivileged(t, deployment));
});

Deno.test("what operators ask of running programs", needs, async (t) => {
  await inScene({ prefix: "fzt", isEmpty: true }, (deployment) => askPrograms(t, deployment));
});

async function runUnprivileged(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology } = deployment;
  await deployment.startReady("portal");
  await deployment.startReady("relay");
  for (const name of ["gateway", "client"] as const) {
    await deployment.startReady(name, { wrapper: ONLY_NET_ADMIN, args: ["--log-level", "trace"] });
  }

  await t.step("they have no other", async () => {
    for (const name of ["gateway", "client"] as const) {
      const status = await Deno.readTextFile(`/proc/${deployment.process(name).pid}/status`);
      assertMatch(status, /^CapEff:\t0000000000001000$/m, name);
    }
  });

  await t.step("the tunnel carries what it should", async () => {
    for (const address of ADDRESS.web) {
      const page = await topology.fetchPage("client", address, PAGE_MS);
      assert(page.ok, JSON.stringify(page));
    }
  });

  await t.step("their logs hold no secret, whatever the level", async () => {
    const config = await Deno.readTextFile(`${deployment.folder}/portal.jsonc`);
    const tokens = [...config.matchAll(/"((?:client|gateway|relay)-\w+)"/g)].map(([, it]) => it!);
    assertEquals(tokens.length, 3);
    for (const name of ["client", "gateway"] as const) {
      const log = await Deno.readTextFile(`${deployment.folder}/${name}.log`);
      assertMatch(log, /DEBUG/);
      for (const token of tokens) assertEquals(log.includes(token), false, name);
      // Keys and TURN passwords in base64, passwords of ICE.
      assertEquals(/[A-Za-z0-9+/]{43}|\b[a-z2-7]{22}\b/.exec(log)?.[0], undefined, name);
    }
  });
}

async function askPrograms(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology, folder } = deployment;
  for (const name of ["portal", "relay"] as const) await deployment.startReady(name);
  await deployment.startReady("gateway", {
    args: [
      "--log-dir",
      `${folder}/logs`,
      "--log-format",
      "json",
      "--validate-checksums",
      "--flow-logs",
      "--log-level",
      "info,flow_logs=off",
    ],
  });
  await deployment.startReady("client", { args: ["--metrics", "stdout"] });
  assert((await topology.fetchPage("client", ADDRESS.web[0], PAGE_MS)).ok);

  const ask = async (name: "client" | "gateway", ...args: string[]): Promise<CommandResult> =>
    await topology.get(name).run([
      ...[Deno.execPath(), "run", "-A", `${root}${name}/main.ts`, "status"],
      ...["--status-socket", `${folder}/${name}.sock`, ...args],
    ], { env: { NO_COLOR: "1" } });

  await t.step("status shows tables", async () => {
    const client = await ask("client");
    assertEquals(client.code, 0, client.stderr);
    assertMatch(client.stdout, /^firezone-headless-client: connected to ws:\/\/192\.0\.2\.6:8080 /);
    assertMatch(client.stdout, /^wiki +cidr +10\.20\.0\.80\/32 +online /m);
    assertMatch(client.stdout, /^\S+ +connected +(direct|relayed \(.*\)) .* ms .* ago .*\d %$/m);
    const gateway = await ask("gateway");
    assertMatch(gateway.stdout, /^wiki +cidr +10\.20\.0\.80\/32 +1$/m);
    assertMatch(gateway.stdout, /^CLIENT /m);
  });

  await t.step("status --json has everything", async () => {
    for (const name of ["client", "gateway"] as const) {
      const { stdout } = await ask(name, "--json");
      const { portal, version, connections, resources } = JSON.parse(stdout);
      assertEquals(portal, "connected");
      assertMatch(version, /^\d+\.\d+\.\d+$/);
      assert(resources.length > 0);
      const [{ path, rttMs, lastHandshakeMs, rxBytes, rxPackets, rxLost }] = connections;
      assert(path.local !== "" && path.remote !== "" && rttMs >= 0 && lastHandshakeMs >= 0);
      assert(rxBytes > 0 && rxPackets > 0 && rxLost >= 0);
    }
  });

  await t.step("status of a program that does not run is one line", async () => {
    const { code, stdout, stderr } = await ask("client", "--status-socket", `${folder}/nowhere`);
    assertEquals([code, stdout, stderr.trimEnd().includes("\n")], [1, "", false]);
    assertMatch(
      stderr,
      /^Cannot ask .*\/nowhere: no firezone-headless-client is running there/,
    );
  });

  await t.step("the log directory holds what stderr does, as JSON", async () => {
    const written = await Deno.readTextFile(`${folder}/logs/latest`);
    const messages = written.trimEnd().split("\n").map((line) => JSON.parse(line).message);
    for (const message of ["Tunnel ready", "Data plane is running"]) {
      assert(messages.includes(message), written);
    }
    assertEquals(messages.includes("A packet has a wrong checksum"), false);
  });

  await t.step("flow logs have a line per flow that is over", async () => {
    const written = await Deno.readTextFile(`${folder}/logs/latest`);
    const [flow] = written.trimEnd().split("\n").map((line) => JSON.parse(line))
      .filter(({ target }) => target === "flow_logs");
    const { role, protocol, inner_dst_ip, inner_dst_port, reason, rx_bytes } = flow.fields;
    assertEquals([role, protocol, inner_dst_ip, inner_dst_port, reason], [
      ...["responder", "tcp", ADDRESS.web[0], 80, "finished"],
    ]);
    assert(rx_bytes > 100);
  });

  await t.step("metrics are printed, and once more at the end", async () => {
    const client = deployment.process("client");
    client.signal("SIGINT");
    assertEquals((await client.ended).code, 0);
    const text = client.lines.join("\n");
    assertStringIncludes(text, 'service_name="firezone-headless-client"');
    assertMatch(text, /^connections\{path_kind="(direct|relayed)"\} 1$/m);
  });

  await t.step("the service manager hears when the client is ready, lives and ends", async () => {
    const path = `${folder}/notify`;
    using manager = new NotifyListener(path);
    const env = { NOTIFY_SOCKET: path, WATCHDOG_USEC: "200000" };
    const client = await deployment.startReady("client", { env });
    const heard = manager.take();
    while (heard.filter((said) => said === "WATCHDOG=1").length < 2) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      heard.push(...manager.take());
      assertEquals(client.status, undefined);
    }
    client.signal("SIGTERM");
    assertEquals((await client.ended).code, 0);
    heard.push(...manager.take());
    assertEquals([heard[0], heard.at(-1)], ["READY=1", "STOPPING=1"]);
  });

  await t.step("--exit ends the client once the tunnel is configured", async () => {
    const client = deployment.start("client", { args: ["--exit"] });
    assertEquals((await client.ended).code, 0, client.lines.join("\n"));
    assertMatch(client.lines.join("\n"), /Tunnel ready/);
  });
}
