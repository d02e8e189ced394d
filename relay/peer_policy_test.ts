import { assertEquals } from "@std/assert";
import { ip, type Prefix, prefix, socketAddress } from "@firezone/core/ip";
import { LOOPBACK, PeerPolicy, type PeerPolicyOptions, type PeerVerdict } from "./peer_policy.ts";

const ports = { lowest: 50_000, highest: 50_999 };
const publicAddresses = [ip("203.0.113.1"), ip("2001:db8::1")];

Deno.test("PeerPolicy keeps clients away from what trusts the relay's place", () => {
  const policy = new PeerPolicy({ publicAddresses, ports, ownAddresses: [ip("10.0.0.5")] });
  const cases: [string, PeerVerdict][] = [
    ["198.51.100.7:1", "outside"],
    ["10.0.0.6:22", "outside"],
    ["[2001:db8::2]:9", "outside"],
    ["203.0.113.1:50000", "own-allocation"],
    ["[2001:db8::1]:50999", "own-allocation"],
    ["203.0.113.1:3478", "denied"],
    ["203.0.113.1:51000", "denied"],
    ["10.0.0.5:50000", "denied"],
    ["127.0.0.1:50000", "denied"],
    ["127.8.8.8:53", "denied"],
    ["0.0.0.0:50000", "denied"],
    ["169.254.169.254:80", "denied"],
    ["224.0.0.251:5353", "denied"],
    ["255.255.255.255:9", "denied"],
    ["[::]:50000", "denied"],
    ["[::1]:50000", "denied"],
    ["[::127.0.0.1]:53", "denied"],
    ["[::ffff:127.0.0.1]:53", "denied"],
    ["[::ffff:10.0.0.5]:53", "denied"],
    ["[fe80::1]:9", "denied"],
    ["[ff02::1]:9", "denied"],
  ];
  for (const [peer, verdict] of cases) {
    assertEquals(policy.judge(socketAddress(peer)), verdict, peer);
  }
});

Deno.test("PeerPolicy lets the operator allow what it refuses", () => {
  const policy = new PeerPolicy({
    publicAddresses: [ip("127.0.0.1")],
    ports,
    ownAddresses: [ip("10.0.0.5")],
    allow: LOOPBACK,
  });
  for (const peer of ["127.0.0.1:9", "127.0.0.1:50000", "127.1.1.1:1", "[::1]:9"]) {
    assertEquals(policy.judge(socketAddress(peer)), "outside", peer);
  }
  assertEquals(policy.judge(socketAddress("10.0.0.5:50000")), "denied");
});

Deno.test("PeerPolicy lets the longest prefix decide, and of equals the denial", () => {
  const policy = new PeerPolicy({
    publicAddresses,
    ports,
    ownAddresses: [ip("10.0.0.5")],
    allow: ["10.0.0.0/8", "0.0.0.0/0", "169.254.1.0/24", "fd00:1::/32"].map(prefix),
    deny: ["10.0.0.0/8", "10.9.0.0/16", "198.51.100.0/24", "fd00::/8"].map(prefix),
  });
  const cases: [string, PeerVerdict][] = [
    ["10.1.1.1:1", "denied"],
    ["10.9.1.1:1", "denied"],
    ["198.51.100.7:1", "denied"],
    ["192.0.2.1:1", "outside"],
    ["127.0.0.1:1", "denied"],
    ["169.254.169.254:1", "denied"],
    ["169.254.1.1:1", "outside"],
    ["[fd00:2::1]:1", "denied"],
    ["[fd00:1::1]:1", "outside"],
    ["[2001:db8::2]:1", "outside"],
  ];
  for (const [peer, verdict] of cases) {
    assertEquals(policy.judge(socketAddress(peer)), verdict, peer);
  }
});

Deno.test("PeerPolicy opens our own addresses only to whom they are named", () => {
  const own = ip("10.0.0.5");
  const everything = ["0.0.0.0/0", "::/0"].map(prefix);
  const judge = (allow: readonly Prefix[], peer: string) =>
    new PeerPolicy({ publicAddresses, ports, ownAddresses: [own], allow })
      .judge(socketAddress(peer));
  assertEquals(judge(everything, "10.0.0.5:1"), "denied");
  assertEquals(judge(everything, "203.0.113.1:3478"), "denied");
  assertEquals(judge([prefix("10.0.0.5")], "10.0.0.5:1"), "outside");
});

Deno.test("PeerPolicy lets clients of one relay meet, whatever the lists say", () => {
  const [four] = publicAddresses;
  const lists = [
    {},
    { allow: [prefix("0.0.0.0/0")] },
    { allow: [prefix("203.0.113.1")] },
    { deny: [prefix("203.0.113.0/24")] },
    { deny: [prefix("203.0.113.1")] },
  ];
  const judge = (options: Partial<PeerPolicyOptions>) =>
    new PeerPolicy({ publicAddresses, ports, ...options }).judge(
      socketAddress("203.0.113.1:50000"),
    );
  for (const list of lists) assertEquals(judge(list), "own-allocation", "behind a 1:1 NAT");
  for (const list of lists) {
    const isNamed = list.allow?.[0]?.length === 32;
    assertEquals(judge({ ...list, ownAddresses: [four!] }), isNamed ? "outside" : "own-allocation");
  }
});
