import { assertEquals, assertMatch } from "@std/assert";
import { Deployment, type StartChanges } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { RunningResolved } from "../systemd_resolved.ts";
import { PrivateEtc } from "./private_etc.ts";
import { until } from "./scene.ts";
import { takeSnapshot } from "./snapshot.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "unshare", "curl");
const needsResolved = requires("dbus-daemon", "systemd-resolved");
const END_MS = 10_000;
const REFUSED_MS = 30_000;

const WIKI = "wiki.example.test";
/** For names without dots systemd-resolved asks its neighbours, not DNS servers. */
const SHORT = "payroll";
const WEB = { A: [ADDRESS.web[0]], AAAA: [ADDRESS.web[1]] };
const PRIVATE_NAMES = { [WIKI]: WEB, [SHORT]: WEB };
const PUBLIC = "public.example";
const PUBLIC_ADDRESS = "203.0.113.99";
const PUBLIC_NAMES = { [PUBLIC]: { A: [PUBLIC_ADDRESS] } };

Deno.test({
  name: "names by way of systemd-resolved",
  ignore: needs.ignore || needsResolved.ignore,
  async fn(t) {
    await using deployment = await Deployment.create({ prefix: "fze-sdr" });
    const { topology, folder } = deployment;
    const gatewayEtc = new PrivateEtc(`${folder}/gateway-etc`, `nameserver ${ADDRESS.web[0]}\n`);
    const clientEtc = new PrivateEtc(`${folder}/client-etc`, "");
    Deno.removeSync(`${clientEtc.folder}/resolv.conf`);
    Deno.mkdirSync(`${clientEtc.folder}/systemd`);
    Deno.writeTextFileSync(`${clientEtc.folder}/systemd/resolved.conf`, "[Resolve]\nLLMNR=yes\n");
    Deno.symlinkSync("/run/systemd/resolve/stub-resolv.conf", `${clientEtc.folder}/resolv.conf`);
    await topology.startNameServer("web", PRIVATE_NAMES, [ADDRESS.web[0]]);
    await topology.startNameServer("portal", PUBLIC_NAMES, ADDRESS.portal);
    await deployment.writeConfig({
      ...deployment.config(),
      resources: [
        { name: "names", type: "dns", address: "*.example.test", sites: ["office"] },
        { name: "payroll", type: "dns", address: SHORT, sites: ["office"] },
      ],
      policies: [{ accounts: ["laptop"], resources: ["*"] }],
    });
    await deployment.startReady("portal");
    await deployment.startReady("relay");
    await deployment.startReady("gateway", { wrapper: gatewayEtc.wrapper });

    const client = topology.get("client");
    await using resolved = await RunningResolved.start({
      enter: client.enter([]),
      etc: clientEtc.folder,
    });
    resolved.run("dns", "eth0", ADDRESS.portal[0]);
    // As many networks have it: names below it would be asked there alone.
    resolved.run("domain", "eth0", "~example.test");
    resolved.run("default-route", "eth0", "true");
    const settings = () => resolved.run("dns") + resolved.run("domain");
    const before = { snapshot: await takeSnapshot(client), settings: settings() };
    const start: StartChanges = {
      args: ["--dns-control", "systemd-resolved", "--state-dir", `${folder}/client-state`],
      wrapper: resolved.wrapper,
      env: { PATH: `${resolved.folder}:${Deno.env.get("PATH")}` },
    };
    const startClient = async () => {
      await deployment.startReady("client", start);
      const isControlled = () => /tun-firezone.* ~example\.test/.test(resolved.run("domain"));
      await until("systemd-resolved is told", isControlled);
    };
    const run = async (...command: string[]) => {
      const { code, stdout, stderr } = await client.run([...resolved.wrapper, ...command]);
      assertEquals(code, 0, `${command}: ${stderr}`);
      return stdout;
    };
    const checkNames = async () => {
      for (const name of [WIKI, SHORT]) {
        assertMatch(await run("curl", "-sS", "-m", "10", `http://${name}/`), /private web server/);
      }
      assertMatch(await run("getent", "ahostsv4", PUBLIC), new RegExp(`^${PUBLIC_ADDRESS} `));
    };
    const checkGone = async () => {
      const hasLink = () => resolved.run("domain").includes("(tun-firezone)");
      await until("systemd-resolved has noticed", () => !hasLink());
      assertMatch(await run("getent", "ahostsv4", PUBLIC), new RegExp(`^${PUBLIC_ADDRESS} `));
      assertEquals((await client.run([...resolved.wrapper, "getent", "hosts", WIKI])).code, 2);
    };

    await t.step("pages by name, and other names of the system's own server", async () => {
      await startClient();
      await checkNames();
    });

    await t.step("also after systemd-resolved was started again", async () => {
      await resolved.restart();
      await checkNames();
    });

    await t.step("nothing is left when the client was killed, and it can start again", async () => {
      deployment.process("client").kill();
      await deployment.process("client").ended;
      await checkGone();
      await startClient();
      await checkNames();
    });

    await t.step("nothing is left when the client ends", async () => {
      assertEquals((await deployment.process("client").stop(END_MS)).code, 0);
      await checkGone();
      assertEquals(settings(), before.settings);
      assertEquals(await takeSnapshot(client), before.snapshot);
    });
  },
});

/** What a client says that cannot start, checked or not: one line, and nothing is changed. */
async function refusal(
  prefix: string,
  method: string,
  wrapper: (deployment: Deployment) => string[],
): Promise<string> {
  await using deployment = await Deployment.create({ prefix });
  const before = await takeSnapshot(deployment.topology.get("client"));
  const command = wrapper(deployment);
  const complaints: string[] = [];
  for (const more of [["--check"], []]) {
    const client = deployment.start("client", {
      args: ["--dns-control", method, "--state-dir", `${deployment.folder}/state`, ...more],
      wrapper: command,
    });
    const timer = setTimeout(() => client.kill(), REFUSED_MS);
    const { code } = await client.ended;
    clearTimeout(timer);
    assertEquals(code, 1, client.lines.join("\n"));
    const said = client.lines.filter((line) => !/^\d{4}-\d\d-\d\dT/.test(line) && line !== "");
    assertEquals(said.length, 1, client.lines.join("\n"));
    assertEquals(await takeSnapshot(deployment.topology.get("client")), before);
    complaints.push(said[0]!);
  }
  // The system's own words, at the end, depend on how it was asked.
  const [checked, started] = complaints.map((line) => line.split(";")[0]);
  assertEquals(checked, started);
  return complaints.at(-1)!;
}

Deno.test("where systemd-resolved does not run, one line says so", needs, async () => {
  const said = await refusal(
    "fze-nor",
    "systemd-resolved",
    () => ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"],
  );
  assertMatch(said, /systemd-resolved.*--dns-control etc-resolv-conf/);
});

Deno.test("where resolv.conf cannot be written, one line says so", needs, async () => {
  for (const what of ["/etc/resolv.conf", "/etc"]) {
    const said = await refusal("fze-ror", "etc-resolv-conf", ({ folder }) => {
      const { wrapper } = new PrivateEtc(`${folder}/etc`, "nameserver 192.0.2.1\n");
      const script =
        `mount --bind ${what} ${what} && mount -o remount,bind,ro ${what} && exec "$@"`;
      return [...wrapper, "sh", "-c", script, "sh"];
    });
    assertMatch(said, /resolv\.conf: .*writable; .*--dns-control systemd-resolved.*Read-only/);
  }
});
