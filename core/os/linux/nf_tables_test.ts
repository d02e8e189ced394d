import { assert, assertEquals } from "@std/assert";
import { ip, prefix, type SocketAddress, socketAddress } from "../../ip/address.ts";
import { requires } from "../../../tests/requirements.ts";
import { Epoll } from "./epoll.ts";
import { NfTables } from "./nf_tables.ts";
import { NfPriority, type NfTable } from "./nf_tables_codec.ts";
import { connect, TestNetns } from "./testing/netns.ts";
import { UdpSocket } from "./udp.ts";
import { SendResult } from "./udp_sender.ts";

const NEEDS = requires("linux", "root", "namespaces", "ip");

const GATEWAY: NfTable = {
  family: "inet",
  name: "osl-gateway",
  chains: [{
    name: "postrouting",
    type: "nat",
    hook: "postrouting",
    priority: NfPriority.sourceNat,
    rules: ["100.64.0.0/11", "fd00:2021:1111::/107"].map((range) => ({
      matches: [
        { tag: "source", prefix: prefix(range) },
        { tag: "output-interface", name: "tun-firezone", not: true },
      ],
      action: { tag: "masquerade" },
      comment: "hide clients",
    })),
  }],
};

/** A table that drops UDP between two addresses, and another that translates ports at random. */
const ROUTER: NfTable = {
  family: "inet",
  name: "osl-router",
  chains: [
    {
      name: "forward",
      type: "filter",
      hook: "forward",
      priority: NfPriority.filter,
      rules: [{
        matches: [
          { tag: "source", prefix: prefix("10.1.0.2") },
          { tag: "destination", prefix: prefix("10.2.0.2") },
          { tag: "protocol", protocol: "udp" },
          { tag: "destination-port", port: 5001 },
        ],
        action: { tag: "drop" },
      }],
    },
    {
      name: "postrouting",
      type: "nat",
      hook: "postrouting",
      priority: NfPriority.sourceNat,
      rules: [{
        matches: [{ tag: "output-interface", name: "outside" }],
        action: { tag: "masquerade", randomPorts: true },
      }],
    },
    {
      name: "prerouting",
      type: "nat",
      hook: "prerouting",
      priority: NfPriority.destinationNat,
      rules: [{
        matches: [
          { tag: "input-interface", name: "outside" },
          { tag: "protocol", protocol: "udp" },
          { tag: "destination-port", port: 7000 },
        ],
        action: { tag: "redirect-to", ip: ip("10.1.0.2"), port: 7001 },
      }],
    },
  ],
};

Deno.test({
  name: "NfTables writes tables that nft reads back",
  ...requires("linux", "root", "namespaces", "ip", "nft"),
  fn() {
    using ns = new TestNetns("nft");
    using nf = ns.enter(() => new NfTables());
    assertEquals(nf.tables(), []);
    assertEquals(nf.replaceTable(GATEWAY), false);
    assertEquals(nf.replaceTable(GATEWAY), false, "again, in its own place");
    nf.replaceTable(ROUTER);
    assertEquals(nf.tables(), [
      { family: "inet", name: "osl-gateway" },
      { family: "inet", name: "osl-router" },
    ]);
    assertEquals(
      ns.exec("nft", "list", "ruleset").replaceAll(/\s+/g, " ").trim(),
      `table inet osl-gateway {
        chain postrouting { type nat hook postrouting priority srcnat; policy accept;
          ip saddr 100.64.0.0/11 oifname != "tun-firezone" masquerade comment "hide clients"
          ip6 saddr fd00:2021:1111::/107 oifname != "tun-firezone" masquerade comment "hide clients"
        } }
      table inet osl-router {
        chain forward { type filter hook forward priority filter; policy accept;
          ip saddr 10.1.0.2 ip daddr 10.2.0.2 udp dport 5001 drop }
        chain postrouting { type nat hook postrouting priority srcnat; policy accept;
          oifname "outside" masquerade fully-random }
        chain prerouting { type nat hook prerouting priority dstnat; policy accept;
          iifname "outside" udp dport 7000 dnat ip to 10.1.0.2:7001 }
      }`.replaceAll(/\s+/g, " "),
    );
    assertEquals(nf.removeTable("inet", "osl-gateway"), "done");
    assertEquals(nf.removeTable("inet", "osl-gateway"), "absent");
    assertEquals(nf.tables(), [{ family: "inet", name: "osl-router" }]);
  },
});

Deno.test({
  name: "NfTables owns a table that goes with the connection, and takes over one left behind",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("nft");
    using observer = ns.enter(() => new NfTables());
    observer.replaceTable(GATEWAY); // as a killed process would leave it on an old kernel
    const nf = ns.enter(() => new NfTables());
    const isOwned = nf.replaceTable(GATEWAY, true);
    assertEquals(nf.replaceTable(GATEWAY, true), isOwned, "again, in its own place");
    assertEquals(observer.tables().length, 1);
    nf.close();
    assertEquals(observer.tables().length, isOwned ? 0 : 1);
  },
});

Deno.test({
  name: "NfTables masquerades, drops and redirects real datagrams",
  ...NEEDS,
  fn() {
    using inside = new TestNetns("in");
    using router = new TestNetns("nat");
    using outside = new TestNetns("out");
    connect(
      { ns: inside, name: "wan", addresses: ["10.1.0.2/24", "fd01::2/64"] },
      { ns: router, name: "inside", addresses: ["10.1.0.1/24", "fd01::1/64"] },
    );
    connect(
      { ns: router, name: "outside", addresses: ["10.2.0.1/24", "fd02::1/64"] },
      { ns: outside, name: "lan", addresses: ["10.2.0.2/24", "fd02::2/64"] },
    );
    inside.ip("route", "add", "default", "via", "10.1.0.1");
    inside.ip("route", "add", "default", "via", "fd01::1");
    router.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward");
    router.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    using nf = router.enter(() => new NfTables());
    nf.replaceTable(ROUTER);

    for (const family of [4, 6] as const) {
      const server = family === 4 ? "10.2.0.2" : "[fd02::2]";
      using client = inside.enter(() => UdpSocket.open({ family, port: 4000 }));
      using open = outside.enter(() => UdpSocket.open({ family, port: 5000 }));
      using blocked = outside.enter(() => UdpSocket.open({ family, port: 5001 }));
      send(client, socketAddress(`${server}:5001`));
      send(client, socketAddress(`${server}:5000`));
      const seen = next(open)!;
      assertEquals(seen.ip.text, family === 4 ? "10.2.0.1" : "fd02::1");
      // The answer finds its way back through the translation.
      send(open, seen);
      assertEquals(next(client)?.key, `${server}:5000`);
      // The rule is about IPv4 alone; what was sent first would have come by now.
      assertEquals(blocked.receive(), family === 4 ? 0 : 1);
    }

    using hidden = inside.enter(() => UdpSocket.open({ family: 4, port: 7001 }));
    using caller = outside.enter(() => UdpSocket.open({ family: 4, port: 7777 }));
    send(caller, socketAddress("10.2.0.1:7000"));
    assertEquals(next(hidden)?.key, "10.2.0.2:7777");
  },
});

function send(socket: UdpSocket, to: SocketAddress): void {
  const result = socket.send(undefined, to, new Uint8Array(100), 0, 100, 0, 0);
  assertEquals(result, SendResult.Sent);
}

/** Who sent the next datagram. */
function next(socket: UdpSocket): SocketAddress | undefined {
  using epoll = new Epoll();
  epoll.add(socket.fd, 0, { readable: true });
  assert(epoll.wait(3000) > 0, "nothing came");
  assertEquals(socket.receive(), 1);
  return socket.from(0);
}
