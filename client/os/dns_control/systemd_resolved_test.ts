import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { ip } from "@firezone/core/ip";
import { logger, setUpLogging } from "@firezone/core/telemetry";
import fc from "fast-check";
import { requires } from "../../../tests/requirements.ts";
import { RunningResolved } from "../../../tests/systemd_resolved.ts";
import { type DnsControl, dnsControl } from "./mod.ts";
import { FIRST_LINE, ResolvConfFile } from "./resolv_conf_file.ts";
import { parseResolvectlDns, SystemdResolved } from "./systemd_resolved.ts";

const SENTINELS = [ip("100.100.111.1"), ip("fd00:2021:1111:8000:100:100:111:1")];

Deno.test("parseResolvectlDns reads servers by interface, and passes over what cannot be asked", () => {
  const text = [
    "Global: 10.255.255.53 192.0.2.7#dns.example",
    "Link 2 (eth0): 192.168.7.1 fe80::1%eth0 [2001:db8::2]:5353#x",
    "               192.168.7.1:53 2001:db8::1 192.168.7.3:5353 fe80::2",
    "Link 3 (odd (name)):",
    "Link 5 (tun-firezone): 100.100.111.1",
    "nonsense 1.2.3 ::g",
  ].join("\n");
  assertEquals(
    parseResolvectlDns(text).map(({ interfaceName, server }) => [interfaceName, server.text]),
    [
      [undefined, "10.255.255.53"],
      [undefined, "192.0.2.7"],
      ["eth0", "192.168.7.1"],
      ["eth0", "fe80::1%eth0"],
      ["eth0", "192.168.7.1"],
      ["eth0", "2001:db8::1"],
      ["eth0", "fe80::2%eth0"],
      ["tun-firezone", "100.100.111.1"],
    ],
  );
  fc.assert(fc.property(fc.string(), (text) => void parseResolvectlDns(text)));
});

Deno.test("systemd-resolved asks the sentinels for all names, and puts the link back", async () => {
  await withFake(async (fake) => {
    await fake.control.recover();
    fake.set("dns", "Global:\nLink 2 (eth0): 192.0.2.1 192.0.2.2\nLink 3 (wlan0): 192.0.2.1\n");
    assertEquals((await fake.control.systemServers()).map(String), ["192.0.2.1", "192.0.2.2"]);
    const domains = ["db.example.com", "example.com", "wiki.test", "example.com", "a.wiki.test"];
    await fake.control.setServers("tun-firezone", SENTINELS, "corp.example", domains);
    fake.set("dns", "Link 2 (eth0): 192.0.2.1\nLink 9 (tun-firezone): 192.0.2.99 100.100.111.1\n");
    assertEquals((await fake.control.systemServers()).map(String), ["192.0.2.1"]);
    await fake.control.flush();
    await fake.control.revert();
    await fake.control.revert();
    assertEquals(fake.calls(), [
      "dns",
      "dns tun-firezone 100.100.111.1 fd00:2021:1111:8000:100:100:111:1",
      "domain tun-firezone ~. corp.example ~example.com ~wiki.test",
      "llmnr tun-firezone resolve",
      "mdns tun-firezone false",
      "dnssec tun-firezone false",
      "dnsovertls tun-firezone false",
      "flush-caches",
      "dns",
      "flush-caches",
      "revert tun-firezone",
    ]);
  });
});

Deno.test("calls that overlap are worked on in order", async () => {
  await withFake(async (fake) => {
    await Promise.all([
      fake.control.setServers("tun-firezone", SENTINELS.slice(0, 1)),
      fake.control.setServers("tun-firezone", SENTINELS.slice(1)),
      fake.control.setServers("tun-firezone", []),
    ]);
    const order = fake.calls().filter((call) => /^(dns|revert) /.test(call));
    assertEquals(order, [
      "dns tun-firezone 100.100.111.1",
      "dns tun-firezone fd00:2021:1111:8000:100:100:111:1",
      "revert tun-firezone",
    ]);
  });
});

Deno.test("a resolved without DNSSEC or TLS is no obstacle", async () => {
  await withFake(async (fake) => {
    for (const verb of ["dnssec", "dnsovertls", "flush-caches"]) fake.set(`refuse-${verb}`, "");
    await fake.control.setServers("tun-firezone", SENTINELS);
    await fake.control.flush();
    assertEquals(fake.calls().length, 8);
  });
});

Deno.test("without systemd-resolved the message names the alternative", async () => {
  await withFake(async (fake) => {
    const refused = async (control: DnsControl = fake.control) => {
      const { message } = await assertRejects(() => control.systemServers(), ConfigError);
      assertEquals(message.includes("\n"), false);
      assertStringIncludes(message, "choose --dns-control etc-resolv-conf or disabled");
      return message;
    };
    fake.set("down", "Failed to get global data:\nCould not activate remote peer.");
    assertStringIncludes(await refused(), "systemd-resolved does not answer");
    await assertRejects(() => fake.control.setServers("tun-firezone", SENTINELS), ConfigError);
    // What only tidies up does not mind.
    await fake.control.flush();
    await fake.control.revert();

    const absent = dnsControl("systemd-resolved", { resolvectl: "/nowhere/resolvectl" });
    assertStringIncludes(await refused(absent), "is not installed");
  });
});

Deno.test("a resolvectl that hangs is given up", async () => {
  await withFake(async (fake) => {
    fake.set("hang", "");
    await assertRejects(() => fake.control.systemServers(), ConfigError, "does not answer");
  }, { timeoutMs: 50 });
});

Deno.test("a check asks systemd-resolved and changes nothing, here or there", async () => {
  await withFake(async (fake) => {
    Deno.writeTextFileSync(fake.resolvConfPath, "nameserver 127.0.0.53\n");
    const before = folderOf(fake.resolvConfPath);
    await fake.control.check();
    assertEquals(fake.calls(), ["dns"]);
    fake.set("down", "Failed to get global data: Connection refused");
    await assertRejects(() => fake.control.check(), ConfigError, "does not answer");
    assertEquals(folderOf(fake.resolvConfPath), before);
    // What was left behind with another method is put back by every start, if it can be.
    Deno.writeTextFileSync(fake.resolvConfPath, `${FIRST_LINE}\n`);
    await assertRejects(() => fake.control.check(), ConfigError, "before-firezone is gone");
  });
});

Deno.test("a check says where systemd-resolved asks others whether to obey, or is not asked", async () => {
  const said = async (uid: number, resolvConf: string) => {
    const lines: string[] = [];
    await withFake(async (fake) => {
      Deno.writeTextFileSync(fake.resolvConfPath, resolvConf);
      setUpLogging({ filter: "warn", write: (line) => lines.push(line) });
      await fake.control.check();
      setUpLogging({ filter: "off" });
    }, { uid });
    return lines.map((line) => /polkit|link the file/.exec(line)?.[0]);
  };
  assertEquals(await said(0, "nameserver 127.0.0.53\n"), []);
  assertEquals(await said(1000, "nameserver 127.0.0.53\n"), ["polkit"]);
  assertEquals(await said(0, "nameserver 192.0.2.1\n"), ["link the file"]);
});

Deno.test("an interface that is gone is named", async () => {
  await withFake(async (fake) => {
    fake.set("down", 'Failed to resolve interface "tun-firezone": No such device');
    const { message } = await assertRejects(
      () => fake.control.setServers("tun-firezone", SENTINELS),
      ConfigError,
    );
    assertStringIncludes(message, 'Failed to resolve interface "tun-firezone": No such device');
    assertEquals(message.includes("etc-resolv-conf"), false);
  });
});

Deno.test("a resolv.conf that goes past systemd-resolved is warned of, once", async () => {
  const cases: [(path: string) => void, number][] = [
    [(path) => Deno.writeTextFileSync(path, "nameserver 192.0.2.1\n"), 1],
    [(path) => Deno.writeTextFileSync(path, "nameserver 127.0.0.53\n"), 0],
    [(path) => Deno.symlinkSync("../run/systemd/resolve/stub-resolv.conf", path), 0],
    [() => {}, 0],
  ];
  for (const [prepare, expected] of cases) {
    await withFake(async (fake) => {
      prepare(fake.resolvConfPath);
      const lines: string[] = [];
      setUpLogging({ filter: "warn", write: (line) => lines.push(line) });
      await fake.control.setServers("tun-firezone", SENTINELS);
      await fake.control.setServers("tun-firezone", SENTINELS);
      setUpLogging({ filter: "off" });
      assertEquals(lines.length, expected);
    });
  }
});

Deno.test({
  name: "the real systemd-resolved does what it is told",
  ...requires("linux", "root", "namespaces", "ip", "unshare", "dbus-daemon", "systemd-resolved"),
  async fn() {
    await using resolved = await RunningResolved.start({ setUp: LINKS });
    const control = new SystemdResolved({
      file: new ResolvConfFile("/nowhere/resolv.conf"),
      log: logger("test"),
      resolvectl: `${resolved.folder}/resolvectl`,
    });
    resolved.run("dns", "eth0", "192.0.2.1", "2001:db8::1");
    const servers = async () => (await control.systemServers()).map(String);
    const before = await servers();
    assert(before.includes("192.0.2.1") && before.includes("2001:db8::1"));

    const domains = Array.from({ length: 300 }, (_, i) => `n${i}.test`);
    await control.setServers("tun-firezone", SENTINELS, "corp.example", domains);
    await control.check();
    const check = async () => {
      assertEquals(await servers(), before);
      const status = resolved.run("status", "tun-firezone");
      assertStringIncludes(status, "100.100.111.1 fd00:2021:1111:8000:100:100:111:1");
      assertMatch(status, /\+DefaultRoute .*-mDNS -DNSOverTLS\s+DNSSEC=no/);
      assertStringIncludes(resolved.run("llmnr", "tun-firezone"), "resolve");
      assertStringIncludes(resolved.run("domain", "tun-firezone"), "~. corp.example ~n0.test");
    };
    await check();
    await resolved.restart();
    await check();
    await control.flush();
    await control.setServers("tun-firezone", SENTINELS.slice(0, 1));
    assertEquals(/fd00|corp/.test(resolved.run("status", "tun-firezone")), false);
    await control.revert();
    assertEquals(/100\.100|~\./.test(resolved.run("status", "tun-firezone")), false);
    await assertRejects(() => control.setServers("tun-gone", SENTINELS), ConfigError, "tun-gone");
  },
});

const LINKS = `
ip link set lo up
for name in eth0 tun-firezone; do
  ip link add "$name" type veth peer name "$name-p"
  ip link set "$name" up
  ip link set "$name-p" up
done
ip address add 192.0.2.2/24 dev eth0
ip address add 100.64.0.1/32 dev tun-firezone
`;

interface Fake {
  readonly control: SystemdResolved;
  readonly resolvConfPath: string;
  /** What it was asked so far, options left out. */
  calls(): string[];
  /** `dns`: what `dns` prints; `down`: why everything fails; `hang`; `refuse-<verb>`. */
  set(name: string, text: string): void;
}

const FAKE = `#!/bin/sh
cd "$(dirname "$0")"
while [ "\${1#--}" != "$1" ]; do shift; done
echo "$*" >> calls
[ -e hang ] && exec sleep 60
[ -e down ] && { cat down >&2; exit 1; }
[ -e "refuse-$1" ] && { echo "Unknown command verb $1." >&2; exit 1; }
[ "$*" = dns ] && cat dns
exit 0
`;

async function withFake(
  test: (fake: Fake) => Promise<void>,
  { timeoutMs = 30_000, uid = 0 } = {},
): Promise<void> {
  const directory = await Deno.makeTempDir();
  const resolvConfPath = `${directory}/resolv.conf`;
  const resolvectl = `${directory}/resolvectl`;
  Deno.writeTextFileSync(resolvectl, FAKE, { mode: 0o755 });
  Deno.writeTextFileSync(`${directory}/dns`, "");
  try {
    await test({
      control: new SystemdResolved({
        file: new ResolvConfFile(resolvConfPath),
        log: logger("test"),
        resolvectl,
        timeoutMs,
        uid,
      }),
      resolvConfPath,
      calls: () => Deno.readTextFileSync(`${directory}/calls`).trim().split("\n"),
      set: (name, text) => Deno.writeTextFileSync(`${directory}/${name}`, text),
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Everything in the folder of a file but what the fake wrote down. */
function folderOf(path: string): string[] {
  const folder = path.slice(0, path.lastIndexOf("/"));
  return Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name !== "calls" && name !== "down").sort();
}
