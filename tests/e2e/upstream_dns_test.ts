import { assertEquals, assertMatch } from "@std/assert";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { PrivateEtc } from "./private_etc.ts";
import { inScene, until } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "unshare", "curl");

const WIKI = "wiki.example.test";
/** Known in the private network alone, and no resource. */
const HIDDEN = "hidden.private";
const PRIVATE_NAMES = {
  [WIKI]: { A: [ADDRESS.web[0]], AAAA: [ADDRESS.web[1]] },
  [HIDDEN]: { A: ["10.20.0.77"] },
};
const PUBLIC = "public.test";
const PUBLIC_NAMES = { [PUBLIC]: { A: ["203.0.113.99"] } };
const RESOLV_CONF = `nameserver ${ADDRESS.portal[0]}\nsearch office.test\n`;

Deno.test("the portal's name server in a resource, and its search domain", needs, async (t) => {
  await inScene({ prefix: "fze-up", isEmpty: true }, async (deployment) => {
    const { topology, folder } = deployment;
    const clientEtc = new PrivateEtc(`${folder}/client-etc`, RESOLV_CONF);
    const gatewayEtc = new PrivateEtc(`${folder}/gateway-etc`, `nameserver ${ADDRESS.web[0]}\n`);
    await topology.startNameServer("web", PRIVATE_NAMES, [ADDRESS.web[0]]);
    await topology.startNameServer("portal", PUBLIC_NAMES, [ADDRESS.portal[0]]);
    const config = {
      ...deployment.config(),
      resources: [
        { name: "names", type: "dns", address: "*.example.test", sites: ["office"] },
        { name: "network", type: "cidr", address: "10.20.0.0/24", sites: ["office"] },
      ],
      policies: [{ accounts: ["laptop"], resources: ["*"] }],
    };
    await deployment.writeConfig(config);
    await deployment.startReady("portal");
    await deployment.startReady("relay");
    await deployment.startReady("gateway", { wrapper: gatewayEtc.wrapper });
    await deployment.startReady("client", {
      args: ["--dns-control", "etc-resolv-conf"],
      wrapper: clientEtc.wrapper,
    });
    const sentinels = () => clientEtc.resolvConf.match(/(?<=^nameserver )100\.\S+/gm) ?? [];
    const ask = (transport: "udp" | "tcp", name: string) =>
      topology.askName("client", transport, sentinels()[0]!, name, "A");
    const untilAsked = (what: string, answer: string) =>
      until(what, async () => await ask("udp", what) === answer);

    await t.step("before, the system's own server is asked", async () => {
      await until("resolv.conf is changed", () => sentinels().length === 1);
      await untilAsked(PUBLIC, "NOERROR: 203.0.113.99");
      assertMatch(await ask("udp", HIDDEN), /^NXDOMAIN/);
    });

    const former = sentinels();
    await deployment.writeConfig({
      ...config,
      dns: { upstream: [ADDRESS.web[0]], search_domain: "example.test" },
    });

    await t.step("a server of the portal is asked through the tunnel, by UDP and TCP", async () => {
      await until("another sentinel", () => sentinels()[0] !== former[0]);
      await untilAsked(HIDDEN, "NOERROR: 10.20.0.77");
      assertEquals(await ask("tcp", HIDDEN), "NOERROR: 10.20.0.77");
      assertMatch(await ask("udp", PUBLIC), /^NXDOMAIN/);
    });

    await t.step("short names are looked for in the portal's search domain", async () => {
      await until("the search domain", () => /^search example\.test /m.test(clientEtc.resolvConf));
      const { code, stdout, stderr } = await topology.get("client")
        .run([...clientEtc.wrapper, "curl", "-sS", "-m", "10", "http://wiki/"]);
      assertEquals(code, 0, stderr);
      assertMatch(stdout, /private web server/);
    });

    await t.step(
      "when the portal takes it back, the system's own server is asked again",
      async () => {
        await deployment.writeConfig(config);
        await until("no search domain", () => !clientEtc.resolvConf.includes("example.test"));
        await untilAsked(PUBLIC, "NOERROR: 203.0.113.99");
      },
    );
  });
});
