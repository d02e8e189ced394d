import { assert, assertEquals } from "@std/assert";
import { base64, hex } from "@firezone/core/bytes";
import { x25519PrivateKey, x25519Public } from "@firezone/core/crypto";
import { requires } from "../requirements.ts";
import type { PeerOrders, PeerReport } from "./wireguard_peer.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "wg", "wireguard-go");
/** Of 1232 bytes and more of UDP payload each: a hundred megabytes go out and come back. */
const PACKETS = 82_000;
const MEGABYTES_100 = 100_000_000;

Deno.test(
  "wireguard: we initiate to wireguard-go, 100 MB each way over IPv4 and IPv6 across a rekey",
  needs,
  async () => {
    const report = await converse({ role: "initiator", packets: PACKETS, rekey: true });
    assertEquals(report.echoed, PACKETS);
    assert(report.payloadBytes >= MEGABYTES_100);
    assertEquals(report.events, ["handshake-completed", "handshake-completed"]);
    // New keys cost no packet; what is allowed here is for machines that stall.
    assert(report.resent < PACKETS / 100, `${report.resent} packets were sent again`);
    assert(report.theirTransfer.received >= MEGABYTES_100);
    assert(report.theirTransfer.sent >= MEGABYTES_100);
  },
);

Deno.test(
  "wireguard: we answer wireguard-go, 100 MB each way over IPv4 and IPv6 across a rekey",
  needs,
  async () => {
    const report = await converse({
      role: "responder",
      packets: PACKETS,
      rekey: true,
      loopback: "::1",
    });
    assertEquals(report.echoed, PACKETS);
    assert(report.payloadBytes >= MEGABYTES_100);
    assertEquals(report.events, ["handshake-completed", "handshake-completed"]);
  },
);

Deno.test("wireguard: wireguard-go understands our cookie reply", needs, async () => {
  const report = await converse({ role: "responder", packets: 10, handshakesPerSecond: 0 });
  assertEquals(report.echoed, 10);
  assertEquals(report.events, ["handshake-completed"]);
  assert(report.cookieReplies >= 1);
});

Deno.test(
  "wireguard: another preshared key than wireguard-go's gives no session",
  needs,
  async () => {
    const report = await converse({
      role: "initiator",
      packets: 1,
      ourPresharedKey: base64(new Uint8Array(32).fill(1)),
      patienceMs: 1000,
    });
    assertEquals(report.echoed, 0);
    assertEquals(report.events, ["handshake-failed"]);
  },
);

/** Runs wireguard-go and our side in a namespace of their own and returns what came of it. */
async function converse(orders: Partial<PeerOrders>): Promise<PeerReport> {
  const name = `wgt-${hex(random(4))}`;
  await run("ip", "netns", "add", name);
  const inside = (...command: string[]) => run("ip", "netns", "exec", name, ...command);
  let wireguardGo: Deno.ChildProcess | undefined;
  try {
    await inside("ip", "link", "set", "lo", "up");
    wireguardGo = new Deno.Command("ip", {
      args: ["netns", "exec", name, "wireguard-go", "--foreground", name],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    await appears(`/var/run/wireguard/${name}.sock`);
    await inside("ip", "addr", "add", "10.231.0.1/24", "dev", name);
    await inside("ip", "addr", "add", "fd00:231::1/64", "dev", name, "nodad");
    await inside("ip", "link", "set", name, "mtu", "1280", "up");
    const theirPrivate = x25519PrivateKey(random);
    const presharedKey = base64(random(32));
    const all: PeerOrders = {
      role: "initiator",
      interface: name,
      theirPrivateKey: base64(theirPrivate),
      theirPublicKey: base64(x25519Public(theirPrivate)),
      theirPresharedKey: presharedKey,
      ourPresharedKey: presharedKey,
      loopback: "127.0.0.1",
      inner: {
        ours4: "10.231.0.2",
        theirs4: "10.231.0.1",
        ours6: "fd00:231::2",
        theirs6: "fd00:231::1",
      },
      packets: 1,
      rekey: false,
      patienceMs: 10_000,
      ...orders,
    };
    const script = new URL("wireguard_peer.ts", import.meta.url).pathname;
    const report = await inside(Deno.execPath(), "run", "-A", script, JSON.stringify(all));
    return JSON.parse(report);
  } finally {
    if (wireguardGo !== undefined) {
      wireguardGo.kill("SIGTERM");
      await wireguardGo.status;
    }
    await run("ip", "netns", "delete", name);
  }
}

/** Runs a command to its end; returns what it printed. */
async function run(command: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${command} ${args.join(" ")} failed: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** Waits for a file that another process makes. */
async function appears(path: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    try {
      await Deno.stat(path);
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error(`${path} does not appear: wireguard-go did not start`);
}

function random(length: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(length));
}
