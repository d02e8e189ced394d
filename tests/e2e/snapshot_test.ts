import { assertEquals, assertMatch } from "@std/assert";
import { type Namespace, Namespaces } from "@firezone/tools/netns";
import { requires } from "../requirements.ts";
import { difference, takeSnapshot } from "./snapshot.ts";

const needs = requires("linux", "root", "namespaces", "ip", "nft");
const TABLE = 0x2021fd00;

/** What a program could leave behind: how, and what the snapshot says of it. */
const LEFTOVERS: Readonly<Record<string, readonly [command: string, line: RegExp]>> = {
  "a link": ["ip tuntap add tun-firezone mode tun", /^\+ link: tun-firezone$/m],
  "an address": ["ip addr add 100.64.0.9/32 dev lo", /^\+ address: .*100\.64\.0\.9/m],
  "a route in a table of its own": [
    `ip route add 10.20.0.0/24 dev lo table ${TABLE}`,
    new RegExp(`^\\+ route: 10\\.20\\.0\\.0/24 .*table ${TABLE}`, "m"),
  ],
  "an IPv6 route": [
    `ip route add fd00:20::/64 dev lo table ${TABLE}`,
    new RegExp(`^\\+ route6: fd00:20::/64 .*table ${TABLE}`, "m"),
  ],
  "a rule": [
    `ip rule add not fwmark 0xfd002021 lookup ${TABLE}`,
    new RegExp(`^\\+ rule: .*lookup ${TABLE}`, "m"),
  ],
  "an IPv6 rule": [
    `ip -6 rule add not fwmark 0xfd002021 lookup ${TABLE}`,
    new RegExp(`^\\+ rule6: .*lookup ${TABLE}`, "m"),
  ],
  "a table of the packet filter": [
    "nft add table inet firezone-gateway",
    /^\+ nft: table inet firezone-gateway/m,
  ],
  "forwarding switched on": [
    "echo 1 > /proc/sys/net/ipv4/ip_forward",
    /^\+ sysctl: ipv4\/ip_forward:1$/m,
  ],
  "a line in resolv.conf": [
    'echo "nameserver 100.100.111.1" >> "$RESOLV_CONF"',
    /^\+ resolver: resolv\.conf .*100\.100\.111\.1/m,
  ],
  "another mode of resolv.conf": [
    'chmod 600 "$RESOLV_CONF"',
    /^\+ resolver: resolv\.conf 600 /m,
  ],
  "a backup of resolv.conf": [
    'cp "$RESOLV_CONF" "$RESOLV_CONF.before"',
    /^\+ resolver: resolv\.conf\.before /m,
  ],
};

Deno.test("takeSnapshot shows whatever a program may leave behind", needs, async (t) => {
  const folder = await Deno.makeTempDir();
  const resolvConf = `${folder}/resolv.conf`;
  for (const [title, [command, line]] of Object.entries(LEFTOVERS)) {
    await t.step(title, async () => {
      await Deno.writeTextFile(resolvConf, "nameserver 192.0.2.1\n");
      await Deno.chmod(resolvConf, 0o644);
      await using net = await Namespaces.create("fzs", ["host"]);
      const host = net.get("host");
      const before = await takeSnapshot(host, { resolvConf });
      assertEquals(await changesSince(host, before, resolvConf), "");
      await sabotage(host, command, resolvConf);
      assertMatch(await changesSince(host, before, resolvConf), line);
    });
  }
  await t.step("a process", async () => {
    await using net = await Namespaces.create("fzs", ["host"]);
    const host = net.get("host");
    const before = await takeSnapshot(host, { resolvConf });
    const left = host.spawn("left behind", ["sh", "-c", "echo started; exec sleep 600"]);
    await left.waitForLine(/started/, 10_000);
    assertMatch(await changesSince(host, before, resolvConf), /^\+ process: .*sleep 600/m);
  });
  await t.step("a process that outlives its parent", async () => {
    await using net = await Namespaces.create("fzs", ["host"]);
    const parent = net.get("host").spawn("parent", [
      ...["sh", "-c", "sleep 600 >/dev/null 2>&1 & trap 'exit 0' TERM; echo started; wait"],
    ]);
    await parent.waitForLine(/started/, 10_000);
    await parent.stop();
    assertEquals(parent.survivors.length, 1);
  });
  await Deno.remove(folder, { recursive: true });
});

async function changesSince(
  host: Namespace,
  before: readonly string[],
  resolvConf: string,
): Promise<string> {
  return difference(before, await takeSnapshot(host, { resolvConf })).join("\n");
}

async function sabotage(host: Namespace, command: string, resolvConf: string): Promise<void> {
  const { code, stderr } = await host.run(["sh", "-ec", command], {
    env: { RESOLV_CONF: resolvConf },
  });
  assertEquals(code, 0, stderr);
}
