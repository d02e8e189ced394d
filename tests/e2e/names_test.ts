import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deployment } from "@firezone/tools/deployment";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { PrivateEtc } from "./private_etc.ts";
import { assertLeftNothing, inScene, kill, stop, until } from "./scene.ts";
import { takeSnapshot } from "./snapshot.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "unshare", "curl");
const needsPing = requires("ping");

const WIKI = "wiki.example.test";
const PAYROLL = "payroll.test";
const PUBLIC = "public.test";
const PUBLIC_ADDRESS = "203.0.113.99";
const PROXY_V4 = /^NOERROR: 100\.(9[6-9]|1[01]\d|12[0-7])\.\S+$/;
const PROXY_V6 = /^NOERROR: fd00:2021:1111:8000:\S+$/;

/** What the names are in the private network, which the client cannot ask. */
const PRIVATE_NAMES = {
  [WIKI]: { A: [ADDRESS.web[0]], AAAA: [ADDRESS.web[1]], TXT: ["asked at the site"] },
  [PAYROLL]: { A: [ADDRESS.payroll[0]], AAAA: [ADDRESS.payroll[1]] },
};

/** What the client's own name server knows. */
const PUBLIC_NAMES = {
  [PUBLIC]: { A: [PUBLIC_ADDRESS] },
  "long.test": { A: Array.from({ length: 60 }, (_, i) => `192.0.2.${i + 1}`) },
};

const CLIENT_RESOLV_CONF = `# This is the user's own; two lines end without a reason.   
nameserver ${ADDRESS.portal[0]}
nameserver ${ADDRESS.portal[1]}

search office.test\t
options timeout:5 attempts:1`;

const FIRST_LINE = "# BEGIN Firezone DNS configuration";

Deno.test("names from end to end", needs, async (t) => {
  await inScene({ prefix: "fze-dns", isEmpty: true }, (deployment) => useNames(t, deployment));
});

async function useNames(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { topology, folder } = deployment;
  const clientEtc = new PrivateEtc(`${folder}/client-etc`, CLIENT_RESOLV_CONF);
  const gatewayEtc = new PrivateEtc(`${folder}/gateway-etc`, `nameserver ${ADDRESS.web[0]}\n`);
  // The backup stays: it is the last resort of whoever finds the file broken.
  const snapshot = async () => {
    const lines = await takeSnapshot(topology.get("client"), { resolvConf: clientEtc.path });
    return lines.filter((line) => !line.includes("resolv.conf.before-firezone "));
  };
  const before = await snapshot();
  await topology.startNameServer("web", PRIVATE_NAMES, [ADDRESS.web[0]]);
  const publicServer = await topology.startNameServer("portal", PUBLIC_NAMES, ADDRESS.portal);

  const site = { sites: ["office"] };
  await deployment.writeConfig({
    ...deployment.config(),
    resources: [
      { name: "names", type: "dns", address: "*.example.test", ...site },
      { name: "payroll", type: "dns", address: PAYROLL, ...site },
    ],
    policies: [{ accounts: ["laptop"], resources: ["*"] }],
  });
  const sentinels = () => clientEtc.resolvConf.match(/(?<=^nameserver )\S+/gm) ?? [];
  const startClient = async (method = "etc-resolv-conf") => {
    await deployment.startReady("client", {
      args: ["--dns-control", method],
      wrapper: clientEtc.wrapper,
    });
    if (method === "disabled") return;
    await until("resolv.conf is changed", () => clientEtc.resolvConf.startsWith(FIRST_LINE));
    await until(
      "the client answers",
      async () =>
        await topology.askName("client", "udp", sentinels()[0]!, "localhost", "A") !== "silence",
    );
  };
  await deployment.startReady("portal");
  await deployment.startReady("relay");
  await deployment.startReady("gateway", { wrapper: gatewayEtc.wrapper });
  await startClient();

  const onClient = async (...command: string[]) =>
    await topology.get("client").run([...clientEtc.wrapper, ...command]);
  const read = async (name: string, ...args: string[]) => {
    const { code, stdout, stderr } = await onClient(
      ...["curl", "-sS", "--max-time", "10", ...args, `http://${name}/`],
    );
    assertEquals(code, 0, `${name} ${args}: ${stderr}`);
    return stdout;
  };

  await t.step("the client puts its own servers into resolv.conf, and nothing else", () => {
    const lines = clientEtc.resolvConf.split("\n");
    assertEquals(lines[0], FIRST_LINE);
    assertEquals(sentinels().length, 2);
    assertMatch(sentinels()[0]!, /^100\.100\.111\./);
    assert(lines.includes("options timeout:5 attempts:1"), clientEtc.resolvConf);
  });

  await t.step("pages by name, over IPv4 and IPv6", async () => {
    assertMatch(await read(WIKI, "-4"), /^Hello 10\.20\.0\.1,/);
    assertMatch(await read(WIKI, "-6"), /^Hello fd00:20::1,/);
  });

  await t.step("a second resource at the same time", async () => {
    const pages = await Promise.all([WIKI, PAYROLL, WIKI, PAYROLL].map((name) => read(name)));
    for (const [i, page] of pages.entries()) {
      assertMatch(page, i % 2 === 0 ? /^Hello (10\.2|fd00:2)0:?/ : /^Hello (10\.3|fd00:3)0:?/);
    }
  });

  await t.step("queries over UDP and TCP at each of the servers", async () => {
    for (const server of sentinels()) {
      for (const transport of ["udp", "tcp"] as const) {
        const ask = (name: string, type: string) =>
          topology.askName("client", transport, server, name, type);
        assertMatch(await ask(WIKI, "A"), PROXY_V4);
        assertMatch(await ask(WIKI, "AAAA"), PROXY_V6);
        assertEquals(await ask(PUBLIC, "A"), `NOERROR: ${PUBLIC_ADDRESS}`);
        assertMatch(await ask("nobody.test", "A"), /^NXDOMAIN/);
      }
    }
  });

  await t.step("the site's own name server is asked for other types", async () => {
    for (const transport of ["udp", "tcp"] as const) {
      const answer = await topology.askName("client", transport, sentinels()[0]!, WIKI, "TXT");
      assertEquals(answer, "NOERROR: asked at the site");
    }
  });

  await t.step("an answer that is too long for UDP comes over TCP", async () => {
    const ask = (transport: "udp" | "tcp") =>
      topology.askName("client", transport, sentinels()[0]!, "long.test", "A");
    assertMatch(await ask("udp"), /\(truncated\)$/);
    assertEquals((await ask("tcp")).split(",").length, 60);
    assertMatch((await onClient("getent", "ahostsv4", "long.test")).stdout, /^192\.0\.2\.60 /m);
  });

  await t.step({
    ...needsPing,
    name: "a name can be pinged",
    fn: async () => {
      for (const family of ["-4", "-6"]) {
        const { code, stdout, stderr } = await onClient(
          ...["ping", family, "-n", "-c", "2", "-i", "0.2", "-W", "3", WIKI],
        );
        assertEquals(code, 0, stdout + stderr);
      }
    },
  });

  await t.step("names do without the portal", async () => {
    await stop(deployment, "portal");
    await deployment.untilStatus("client", ({ portal }) => portal === "connecting");
    for (const transport of ["udp", "tcp"] as const) {
      const ask = (name: string) =>
        topology.askName("client", transport, sentinels()[0]!, name, "A");
      assertMatch(await ask(WIKI), PROXY_V4);
      assertEquals(await ask(PUBLIC), `NOERROR: ${PUBLIC_ADDRESS}`);
    }
    assertMatch(await read(WIKI), /private web server/);
    await deployment.startReady("portal");
    for (const name of ["client", "gateway", "relay"] as const) await deployment.untilReady(name);
  });

  await t.step("resources do without the system's name server", async () => {
    await publicServer.stop();
    assertMatch(await read(WIKI), /private web server/);
    assertMatch(await read(PAYROLL), /private web server/);
    const [server] = sentinels();
    assertMatch(await topology.askName("client", "udp", server!, "other.test", "A"), /^SERVFAIL/);
  });

  await t.step("resolv.conf comes back when the client ends", async () => {
    await stop(deployment, "client");
    assertEquals(clientEtc.resolvConf, CLIENT_RESOLV_CONF);
    assertLeftNothing(before, await snapshot());
  });

  await t.step("names have the same addresses after a restart, also after kill -9", async () => {
    const addresses: string[] = [];
    for (let i = 0; i < 2; i++) {
      await startClient();
      addresses.push(await topology.askName("client", "udp", sentinels()[0]!, WIKI, "A"));
      assertMatch(await read(WIKI), /private web server/);
      await kill(deployment, "client");
      assertEquals(clientEtc.resolvConf.split("\n")[0], FIRST_LINE);
    }
    assertMatch(addresses[0]!, PROXY_V4);
    assertEquals(addresses[0], addresses[1]);
  });

  await t.step("what was killed is put back by a start that leaves DNS alone", async () => {
    await startClient("disabled");
    assertEquals(clientEtc.resolvConf, CLIENT_RESOLV_CONF);
    await stop(deployment, "client");
    assertEquals(clientEtc.resolvConf, CLIENT_RESOLV_CONF);
    assertLeftNothing(before, await snapshot());
  });
}
