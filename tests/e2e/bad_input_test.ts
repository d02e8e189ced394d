import { assert, assertEquals, assertMatch } from "@std/assert";
import { API_URL, type Deployment, type ProgramName } from "@firezone/tools/deployment";
import { type Process, runCommand } from "@firezone/tools/netns";
import { ADDRESS } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import { PrivateEtc } from "./private_etc.ts";
import { inScene, readPage } from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft");
const ALL: readonly ProgramName[] = ["portal", "relay", "gateway", "client"];
const END_MS = 10_000;

/** Puts an empty file over every libcrypto that the dynamic linker knows. */
const HIDE_LIBCRYPTO = "for f in $(/sbin/ldconfig -p | sed -n 's/.*=> //p' | grep /libcrypto)\n" +
  "do mount --bind /dev/null $f; done";

/** A line of the log, as against a message to the operator. */
const LOG_LINE = /^\d{4}-\d\d-\d\dT\S+ +(TRACE|DEBUG|INFO|WARN|ERROR) /;

const makeFifo = (path: string) => mustRun("mkfifo", path);

/** What may be where a token should be. */
const TOKEN_FILES: Readonly<Record<string, (path: string, token: string) => Promise<void>>> = {
  "for others to read": (path, token) => Deno.writeTextFile(path, token, { mode: 0o644 }),
  "for others to write": async (path, token) => {
    await Deno.writeTextFile(path, token);
    await Deno.chmod(path, 0o622);
  },
  "of somebody else": async (path, token) => {
    await Deno.writeTextFile(path, token, { mode: 0o600 });
    await Deno.chown(path, 12_345, 12_345);
  },
  empty: (path) => Deno.writeTextFile(path, " \n", { mode: 0o600 }),
  "too long": (path, token) => Deno.writeTextFile(path, token.repeat(10_000), { mode: 0o600 }),
  "with other bytes": (path, token) =>
    Deno.writeFile(path, new TextEncoder().encode(`${token}\0\u00ff`), { mode: 0o600 }),
  "of two lines": (path, token) =>
    Deno.writeTextFile(path, `${token}\n${token}\n`, { mode: 0o600 }),
  "a folder": (path) => Deno.mkdir(path),
  "a pipe": async (path) => {
    await makeFifo(path);
    await Deno.chmod(path, 0o600);
  },
  "a device without end": (path) => Deno.symlink("/dev/zero", path),
  "a link to nowhere": (path) => Deno.symlink("/nowhere/at/all", path),
};

/** What may be where a resolver's configuration should be, and cannot be changed in place. */
const RESOLV_CONFS: Readonly<Record<string, (path: string) => Promise<void>>> = {
  "a folder": (path) => Deno.mkdir(path),
  "a pipe": makeFifo,
  "a link to nowhere": (path) => Deno.symlink("/nowhere/at/all", path),
};

Deno.test("mistakes of an operator end a program with one line and status 1", needs, async (t) => {
  await inScene({ prefix: "fzt", isEmpty: true }, (deployment) => makeMistakes(t, deployment));
});

Deno.test("faults of the network and of others end nothing", needs, async (t) => {
  await inScene({ prefix: "fzt", isEmpty: true }, (deployment) => sufferFaults(t, deployment));
});

async function makeMistakes(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const { folder } = deployment;

  await t.step("an unknown flag", async () => {
    for (const name of ALL) {
      await assertRefused(deployment.start(name, { args: ["--no-such-flag"] }), /--no-such-flag/);
    }
  });

  await t.step("a value that makes no sense", async () => {
    const args = ["--api-url", "not a url"];
    for (const name of ["relay", "gateway", "client"] as const) {
      await assertRefused(deployment.start(name, { args }), /--api-url/);
    }
    const listen = ["--listen", "192.0.2.6:70000"];
    await assertRefused(deployment.start("portal", { args: listen }), /--listen/);
  });

  await t.step("no token", async () => {
    const env = { FIREZONE_TOKEN: "", FIREZONE_TOKEN_PATH: `${folder}/no-such-token` };
    for (const name of ["gateway", "client"] as const) {
      await assertRefused(deployment.start(name, { env }), /FIREZONE_TOKEN/);
    }
  });

  await t.step("a token file that cannot be one", async () => {
    const token = "some-token-that-is-long-enough";
    await Promise.all(
      Object.entries(TOKEN_FILES).map(async ([title, make]) => {
        const path = `${folder}/token-${title.replaceAll(" ", "-")}`;
        await make(path, token);
        const env = { FIREZONE_TOKEN: "", FIREZONE_TOKEN_PATH: path };
        const lines = await linesOfRefusal(deployment.start("client", { env }));
        assertEquals(lines.length, 1, `${title}: ${lines.join("\n")}`);
        assert(lines[0]!.includes(path), `${title}: ${lines[0]}`);
        assert(!lines[0]!.includes(token), "a token is never printed");
      }),
    );
  });

  await t.step("a configuration with mistakes, each listed with its place", async () => {
    await Deno.writeTextFile(
      `${folder}/broken.jsonc`,
      '{\n  "sites": [{ "name": 7 }],\n  "polices": []\n}\n',
    );
    const portal = deployment.start("portal", { args: ["--config", `${folder}/broken.jsonc`] });
    const lines = await linesOfRefusal(portal);
    assertMatch(lines.at(-1)!, /broken\.jsonc: .*mistakes/);
    assert(lines.some((line) => /broken\.jsonc:2:\d+: /.test(line)), lines.join("\n"));
    assert(lines.some((line) => /broken\.jsonc:3:\d+: /.test(line)), lines.join("\n"));
  });

  await t.step("no configuration, or something else", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(1000));
    await Deno.writeFile(`${folder}/bytes.jsonc`, bytes, { mode: 0o600 });
    await Deno.writeTextFile(`${folder}/empty.jsonc`, "", { mode: 0o600 });
    await Deno.writeTextFile(`${folder}/deep.jsonc`, "[".repeat(200_000), { mode: 0o600 });
    await Deno.mkdir(`${folder}/folder.jsonc`);
    await makeFifo(`${folder}/fifo.jsonc`);
    const names = ["nowhere", "bytes", "empty", "deep", "folder", "fifo"];
    await Promise.all(names.map(async (name) => {
      const path = `${folder}/${name}.jsonc`;
      const lines = await linesOfRefusal(deployment.start("portal", { args: ["--config", path] }));
      for (const line of lines) {
        assert(line.includes(path) && line.length < 500, `${name}: ${line}`);
      }
    }));
  });

  await t.step("a resolv.conf that cannot be one", async () => {
    for (const [title, make] of Object.entries(RESOLV_CONFS)) {
      const etc = new PrivateEtc(`${folder}/etc-${title.replaceAll(" ", "-")}`, "");
      await Deno.remove(etc.path);
      await make(etc.path);
      const before = await Deno.lstat(etc.path);
      const args = ["--dns-control", "etc-resolv-conf"];
      const client = deployment.start("client", { args, wrapper: etc.wrapper });
      await assertRefused(client, /resolv\.conf.*--dns-control/);
      assertEquals((await Deno.lstat(etc.path)).ino, before.ino);
    }
  });

  await t.step("a TCP port in use", async () => {
    const first = await deployment.startReady("portal");
    const args = ["--database", `${folder}/other.db`];
    await assertRefused(deployment.start("portal", { args }), /192\.0\.2\.6:8080/);
    await first.stop();
  });

  await t.step("a UDP port in use", async () => {
    const holder = await holdUdpPort(deployment, "relay", ADDRESS.relay[0], 3478);
    await assertRefused(deployment.start("relay"), /3478/);
    await holder.stop();
  });

  await t.step("a status socket in use", async () => {
    await deployment.startReady("portal");
    const client = await deployment.startReady("client").catch((error) => {
      throw new Error(`${error.message}: ${deployment.process("client").lines.join("\n")}`);
    });
    await assertRefused(deployment.start("client"), /client\.sock/);
    await client.stop();
  });

  await t.step("a token that the portal does not know", async () => {
    const env = { FIREZONE_TOKEN: "not-a-token-that-anybody-gave-out" };
    for (const name of ["relay", "gateway", "client"] as const) {
      const lines = await linesOfRefusal(deployment.start(name, { env }));
      assertMatch(lines.at(-1)!, /token|401/i);
      assert(!lines.join().includes(env.FIREZONE_TOKEN), "a token is never printed");
    }
  });

  await t.step("no /dev/net/tun", async () => {
    for (const name of ["gateway", "client"] as const) {
      const process = startWithout(deployment, name, "mount -t tmpfs -o ro tmpfs /dev/net");
      await assertRefused(process, /\/dev\/net\/tun/);
    }
  });

  await t.step("a cipher that does not exist, or not here", async () => {
    for (const name of ["gateway", "client"] as const) {
      const unknown = deployment.start(name, { args: ["--crypto", "rot13"] });
      await assertRefused(unknown, /--crypto.*rot13.*ipsec-mb.*libcrypto.*node.*noble/);
      const env = { FIREZONE_CRYPTO: "libcrypto" };
      const process = startWithout(deployment, name, HIDE_LIBCRYPTO, "", env);
      await assertRefused(process, /--crypto libcrypto: it cannot be loaded/);
    }
  });

  await t.step("no permission to configure the network", async () => {
    for (const name of ["gateway", "client"] as const) {
      const process = startWithout(deployment, name, "", "setpriv --bounding-set -net_admin --");
      const lines = await linesOfRefusal(process);
      assertMatch(lines.at(-1)!, /CAP_NET_ADMIN|root/);
    }
  });
}

async function sufferFaults(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  await t.step("programs wait for a portal that is not there", async () => {
    for (const name of ["relay", "gateway", "client"] as const) deployment.start(name);
    for (const name of ["gateway", "client"] as const) {
      await deployment.untilStatus(name, (status) => status.portal === "connecting");
    }
    await deployment.startReady("portal");
    for (const name of ["relay", "gateway", "client"] as const) await deployment.untilReady(name);
    await readPage(deployment, ADDRESS.web[0]);
  });

  await t.step("a tunnel works on while the portal is away, and after its return", async () => {
    await deployment.process("portal").stop();
    await deployment.untilStatus("client", (status) => status.portal === "connecting");
    await readPage(deployment, ADDRESS.web[0]);
    await deployment.startReady("portal");
    for (const name of ["relay", "gateway", "client"] as const) await deployment.untilReady(name);
    await readPage(deployment, ADDRESS.web[1]);
  });

  await t.step("a broken configuration leaves the last valid one in force", async () => {
    const portal = deployment.process("portal");
    const since = portal.lineCount;
    await Deno.writeTextFile(`${deployment.folder}/portal.jsonc`, '{ "sites": [');
    await portal.waitForLine(/last valid one stays in force/, END_MS, since);
    assertEquals(portal.status, undefined);
    await readPage(deployment, ADDRESS.web[0]);
  });

  await t.step("a data-plane port in use is replaced by another", async () => {
    await deployment.writeConfig(deployment.config());
    await deployment.process("client").stop();
    const holders = [
      await holdUdpPort(deployment, "client", "0.0.0.0", 52625),
      await holdUdpPort(deployment, "client", "::", 52625),
    ];
    await deployment.startReady("client");
    await readPage(deployment, ADDRESS.web[0]);
    for (const holder of holders) await holder.stop();
  });
}

/** Fails unless the program says one line that matches, beside its log, and ends with status 1. */
async function assertRefused(process: Process, pattern: RegExp): Promise<void> {
  const lines = await linesOfRefusal(process);
  assertEquals(lines.length, 1, `expected one line:\n${lines.join("\n")}`);
  assertMatch(lines[0]!, pattern);
}

/** What a program that ends with status 1 says beside its log. */
async function linesOfRefusal(process: Process): Promise<string[]> {
  const timer = setTimeout(() => process.kill(), END_MS);
  const { code, signal } = await process.ended;
  clearTimeout(timer);
  const said = process.lines.join("\n");
  assertEquals([code, signal], [1, null], `${process.name} ended otherwise; it said:\n${said}`);
  assert(!/^\s+at /m.test(said), `a stack in:\n${said}`);
  return process.lines.filter((line) => !LOG_LINE.test(line) && line !== "");
}

/** Starts a program after a change to its view of the file system, or with fewer privileges. */
function startWithout(
  deployment: Deployment,
  name: "gateway" | "client",
  change: string,
  wrapper = "",
  env: Record<string, string> = {},
): Process {
  const root = new URL("../../", import.meta.url).pathname;
  const script = `${change === "" ? ":" : change} && exec ${wrapper} "$@"`;
  return deployment.topology.get(name).spawn(name, [
    ...["unshare", "--mount", "sh", "-c", script, "sh"],
    ...[Deno.execPath(), "run", "-A", `${root}${name}/main.ts`],
    ...["--api-url", API_URL, "--firezone-id", `bad-${name}`],
    ...["--status-socket", `${deployment.folder}/bad-${name}.sock`],
    ...(name === "client" ? ["--dns-control", "disabled"] : []),
  ], { env: { FIREZONE_TOKEN: "some-token-that-is-long-enough", NO_COLOR: "1", ...env } });
}

async function holdUdpPort(
  deployment: Deployment,
  name: ProgramName,
  address: string,
  port: number,
): Promise<Process> {
  const script = new URL("../../tools/netns/udp_probe.ts", import.meta.url).pathname;
  const command = [Deno.execPath(), "run", "-A", script, "echo", address, `${port}`];
  const process = deployment.topology.get(name).spawn("holder", command);
  await process.waitForLine(/^listening$/, END_MS);
  return process;
}

async function mustRun(...command: string[]): Promise<void> {
  const { code, stderr } = await runCommand(command);
  assertEquals(code, 0, stderr);
}
