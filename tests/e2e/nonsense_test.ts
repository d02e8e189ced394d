import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deployment, ProgramName } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { PrivateEtc } from "./private_etc.ts";
import { download, inScene, readPage, stop, until } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "unshare", "curl");
const TUNNELS = ["client", "gateway"] as const;

/** More than any program of this kind needs for some connections, less than what a leak soon has. */
const MAX_GROWTH_BYTES = 150e6;
const START_MS = 10_000;

/** Of the nonsense portal; a visitor comes again after ever longer pauses. */
const NONSENSE_PORTAL_MS = 60_000;
const ACTS = 3;

/** A resolver takes what it can of it: a server, a search domain, an option. */
const ODD_RESOLV_CONF = Uint8Array.from([
  ...new TextEncoder().encode(
    "\uFEFF# bytes of all kinds \r\nnameserver\nnameserver 300.1.1.1\nnameserver 127.0.0.1#53\n" +
      `nameserver\t${ADDRESS.portal[0]}\r\n  nameserver ::gg\nsearch ${"x".repeat(5_000)}\n` +
      `options ${"ndots:15 ".repeat(500)}\n;\n\0\0\n`,
  ),
  ...[0xff, 0xfe, 0x80, 0x0d, 0x0a, 0x0d],
]);

Deno.test("nonsense at every door ends nothing and stops nothing", needs, async (t) => {
  await inScene({ prefix: "fzn", isEmpty: true }, (deployment) => sayNonsense(t, deployment));
});

async function sayNonsense(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology, folder } = deployment;
  const clientEtc = new PrivateEtc(`${folder}/client-etc`, "");
  Deno.writeFileSync(clientEtc.path, ODD_RESOLV_CONF);
  const gatewayEtc = new PrivateEtc(`${folder}/gateway-etc`, `nameserver ${ADDRESS.web[0]}\n`);
  await startNonsense(deployment, "web", "nonsense_name_server.ts", ADDRESS.web[0]);
  await startNonsense(deployment, "portal", "nonsense_name_server.ts", ADDRESS.portal[0]);
  const config = deployment.config();
  const names = { name: "names", type: "dns", address: "*.example.test", sites: ["office"] };
  await deployment.writeConfig({
    ...config,
    resources: [...config.resources as unknown[], names],
    policies: [{ accounts: ["laptop"], resources: ["wiki", "wiki over IPv6", "names"] }],
  });
  for (const name of ["portal", "relay"] as const) await deployment.startReady(name);
  await deployment.startReady("gateway", { wrapper: gatewayEtc.wrapper });
  await deployment.startReady("client", {
    args: ["--dns-control", "etc-resolv-conf"],
    wrapper: clientEtc.wrapper,
  });
  const sentinels = () => clientEtc.resolvConf.match(/(?<=^nameserver )\S+/gm) ?? [];
  await until("the client answers", () => /^100\.100\.111\./.test(sentinels()[0] ?? ""));
  await readPage(deployment, ADDRESS.web[0]);
  const memory = TUNNELS.map((name) => residentBytes(deployment, name));

  /** All still run, have not fallen back on a stack trace, and carry what they should. */
  const assertUnharmed = async () => {
    for (const name of ["client", "gateway", "relay"] as const) {
      const process = deployment.process(name);
      assertEquals(process.status, undefined, process.lines.slice(-5).join("\n"));
      assert(!process.lines.some((line) => /^\s+at /.test(line)), process.lines.join("\n"));
    }
    for (const address of ADDRESS.web) await readPage(deployment, address);
  };

  await t.step("packets in both TUN devices", async () => {
    const [client, gateway] = await Promise.all(TUNNELS.map((name) => deployment.status(name)));
    const own = [client!.ipv4!, client!.ipv6!];
    const strange = [gateway!.ipv4!, gateway!.ipv6!];
    const [web4, web6] = ADDRESS.web;
    const ways: [ProgramName, string[]][] = [
      ["client", [own[0]!, web4, own[1]!, web6]],
      ["client", [strange[0]!, web4, strange[1]!, web6]],
      ["client", [own[0]!, sentinels()[0]!, own[1]!, strange[1]!]],
      ["gateway", [web4, own[0]!, web6, own[1]!]],
      ["gateway", [own[0]!, strange[0]!, own[1]!, strange[1]!]],
    ];
    for (const [name, addresses] of ways) {
      const said = await runNonsense(
        deployment,
        name,
        "tun_packets.ts",
        "tun-firezone",
        ...addresses,
      );
      assert(Number(said) > 1_000, `the kernel took ${said} packets`);
    }
    await assertUnharmed();
  });

  await t.step("datagrams on their UDP ports and the relay's", async () => {
    const targets = [
      ...ADDRESS.relay.map((address) => ["internet", address, "3478"] as const),
      ...ADDRESS.clientLan.map((address) => ["nat-a", address, "52625"] as const),
      ...ADDRESS.gatewayLan.map((address) => ["nat-b", address, "52625"] as const),
    ];
    await Promise.all(targets.map(async ([from, address, port]) => {
      await runNonsense(deployment, from, "udp_probe.ts", "babble", address, port);
    }));
    await assertUnharmed();
  });

  await t.step("whatever is said to their TCP ports and Unix sockets", async () => {
    const targets: [ProgramName, string[]][] = [
      ["portal", [ADDRESS.portal[0], "8080"]],
      ["relay", ["127.0.0.1", "8080"]],
      ["gateway", ["127.0.0.1", "8080"]],
      ["gateway", [`${folder}/gateway.sock`]],
      ["client", [`${folder}/client.sock`]],
    ];
    for (const [name, where] of targets) {
      const taken = await runNonsense(deployment, name, "stream_probe.ts", "babble", ...where);
      assertEquals(taken, "60", `${name} ${where}`);
    }
    await assertUnharmed();
  });

  await t.step("answers of name servers", async () => {
    const ask = async (transport: "udp" | "tcp", name: string, type: string) =>
      await topology.askName("client", transport, sentinels()[0]!, name, type);
    for (const transport of ["udp", "tcp"] as const) {
      const names = Array.from({ length: 9 }, (_, i) => `${transport}${i}.test`);
      const answers = await Promise.all([
        ...names.map((name) => ask(transport, name, "A")),
        ask(transport, "wiki.example.test", "TXT"),
      ]);
      for (const answer of answers) assertMatch(answer, /^(SERVFAIL|NOERROR)\b/);
    }
    // The name itself is answered; what is sent to it waits for an address that does not come.
    assertMatch(await ask("udp", "wiki.example.test", "A"), /^NOERROR: 100\./);
    const { code } = await topology.get("client").run([
      ...clientEtc.wrapper,
      ...["curl", "-sS", "--max-time", "2", "http://wiki.example.test/"],
    ]);
    assert(code !== 0);
    await assertUnharmed();
  });

  await t.step("a portal", async () => {
    await stop(deployment, "portal");
    const portal = await startNonsense(
      deployment,
      "portal",
      "nonsense_portal.ts",
      ...[ADDRESS.portal[0], "8080"],
    );
    for (const path of TUNNELS) {
      await portal.waitForLine(new RegExp(`^act ${ACTS} /${path}$`), NONSENSE_PORTAL_MS);
    }
    await portal.stop();
    for (const name of TUNNELS) {
      const log = Deno.readTextFileSync(`${folder}/${name}.log`);
      assertMatch(log, /Cannot read a message of the portal event=init reason="payload: expected/);
      assertMatch(log, /broke the WebSocket protocol: a message is too long/);
    }
    await assertUnharmed();
    await deployment.startReady("portal");
    for (const name of TUNNELS) {
      await deployment.untilStatus(
        name,
        ({ portal }) => portal === "connected",
        NONSENSE_PORTAL_MS,
      );
    }
    await assertUnharmed();
  });

  await t.step("nobody has grown much by it, and a file still arrives whole", async () => {
    await download(deployment, ADDRESS.web[0]);
    for (const [i, name] of TUNNELS.entries()) {
      const growth = residentBytes(deployment, name) - memory[i]!;
      console.log(`    measured: ${name} grew by ${Math.round(growth / 1e6)} MB`);
      assert(growth < MAX_GROWTH_BYTES, `${name} has grown by ${growth} bytes`);
    }
  });

  await t.step("an odd resolv.conf comes back byte by byte", async () => {
    await stop(deployment, "client");
    assertEquals(Deno.readFileSync(clientEtc.path), ODD_RESOLV_CONF);
  });
}

function scriptCommand(script: string, args: readonly string[]): string[] {
  const path = new URL(`../../tools/netns/${script}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "-A", path, ...args];
}

async function startNonsense(
  deployment: Deployment,
  name: string,
  script: string,
  ...args: string[]
) {
  const process = deployment.topology.get(name).spawn(script, scriptCommand(script, args));
  await process.waitForLine(/^listening$/, START_MS);
  return process;
}

async function runNonsense(
  deployment: Deployment,
  name: string,
  script: string,
  ...args: string[]
): Promise<string> {
  const { code, stdout, stderr } = await deployment.topology.get(name)
    .run(scriptCommand(script, args));
  assertEquals(code, 0, stderr);
  return stdout.trim();
}

function residentBytes(deployment: Deployment, name: ProgramName): number {
  const status = Deno.readTextFileSync(`/proc/${deployment.process(name).pid}/status`);
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)![1]) * 1024;
}
