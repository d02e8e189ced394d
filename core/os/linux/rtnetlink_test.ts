import { assert, assertEquals, assertThrows } from "@std/assert";
import { ip, prefix } from "../../ip/address.ts";
import { requires } from "../../../tests/requirements.ts";
import { OsError } from "./errno.ts";
import { NetworkChanges } from "./network_changes.ts";
import { Rtnetlink } from "./rtnetlink.ts";
import type { Rule } from "./rtnetlink_codec.ts";
import { TestNetns } from "./testing/netns.ts";
import { TunDevice } from "./tun.ts";

const NEEDS = requires("linux", "root", "namespaces", "tun", "ip");
const TABLE = 0x2021fd00;

Deno.test({
  name: "Rtnetlink configures a TUN device the way the tunnel needs it",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("rt");
    using tun = ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    const changes = { mtu: 1280, transmitQueueLength: 10_000, noLinkLocalAddress: true, up: true };
    assertEquals(netlink.changeLink(index, changes), "done");
    assertEquals(tun.name, "osl-tun");
    const link = netlink.link("osl-tun")!;
    assertEquals([link.mtu, link.isUp, link.isLoopback], [1280, true, false]);
    assert(/qlen 10000/.test(ns.ip("link", "show", "osl-tun")));
    assertEquals(netlink.addresses(index), [], "no link-local address");

    for (const [address, length] of [["100.64.0.1", 32], ["fd00:2021:1111::1", 128]] as const) {
      assertEquals(netlink.addAddress(index, ip(address), length), "done");
      assertEquals(netlink.addAddress(index, ip(address), length), "exists");
    }
    assertEquals(
      netlink.addresses(index).map((a) => [a.ip.text, a.prefixLength, a.isGlobal, a.isTransient]),
      [["100.64.0.1", 32, true, false], ["fd00:2021:1111::1", 128, true, false]],
    );
    assertEquals(netlink.removeAddress(index, ip("100.64.0.1"), 32), "done");
    assertEquals(netlink.removeAddress(index, ip("100.64.0.1"), 32), "absent");
    assertEquals(netlink.removeAddress(index, ip("fd00::99"), 128), "absent");
  },
});

Deno.test({
  name: "Rtnetlink adds, lists, removes and flushes routes of a table",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("rt");
    using _tun = ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    netlink.changeLink(index, { up: true });
    for (const family of [4, 6] as const) {
      const texts = family === 4
        ? ["0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32"]
        : ["::/0", "2001:db8::/32", "fd00::1/128"];
      const routes = texts.map((text) => ({
        destination: prefix(text),
        table: TABLE,
        interfaceIndex: index,
      }));
      assertEquals(netlink.routes(family, TABLE), [], "a table that never was is empty");
      for (const route of routes) assertEquals(netlink.addRoute(route), "done");
      for (const route of routes) assertEquals(netlink.addRoute(route), "exists");
      const listed = netlink.routes(family, TABLE);
      assertEquals(listed.map((r) => r.destination.text).sort(), texts.toSorted());
      assert(listed.every((r) => r.interfaceIndex === index && r.table === TABLE));
      assert(/proto static/.test(ns.ip(`-${family}`, "route", "show", "table", String(TABLE))));
      assertEquals(netlink.removeRoute(routes[0]!), "done");
      assertEquals(netlink.removeRoute(routes[0]!), "absent");
      assertEquals(netlink.flushRoutes(family, TABLE), 2);
      assertEquals(netlink.routes(family, TABLE), []);
    }
  },
});

Deno.test({
  name: "Rtnetlink adds an inverted fwmark rule that traffic obeys",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("rt");
    using _tun = ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    netlink.changeLink(index, { up: true });
    netlink.addRoute({ destination: prefix("10.0.0.0/8"), table: TABLE, interfaceIndex: index });
    for (const family of [4, 6] as const) {
      const rule: Rule = { family, priority: 100, table: TABLE, mark: 0xfd002021, inverted: true };
      assertEquals(netlink.addRule(rule), "done");
      assertEquals(netlink.addRule(rule), "exists");
      assertEquals(netlink.rules(family).find((r) => r.priority === 100), rule);
    }
    assert(/osl-tun/.test(ns.ip("route", "get", "10.1.2.3")));
    assertThrows(
      () => ns.ip("route", "get", "10.1.2.3", "mark", "0xfd002021"),
      Error,
      "unreachable",
    );
    for (const family of [4, 6] as const) {
      const rule: Rule = { family, priority: 100, table: TABLE, mark: 0xfd002021, inverted: true };
      assertEquals(netlink.removeRule(rule), "done");
      assertEquals(netlink.removeRule(rule), "absent");
    }
  },
});

Deno.test({
  name: "Rtnetlink reports an interface without IPv6 as unsupported, and errors by name",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("rt");
    using _tun = ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    ns.exec("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/osl-tun/disable_ipv6");
    assertEquals(netlink.addAddress(index, ip("fd00::1"), 128), "unsupported");
    assertEquals(netlink.link("absent"), undefined);
    const error = assertThrows(() => netlink.changeLink(4242, { up: true }), OsError);
    assertEquals([error.call, error.subject, error.code], [
      "netlink: change link",
      "4242",
      "ENODEV",
    ]);
  },
});

Deno.test({
  name: "NetworkChanges tells of links, addresses and routes",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("rt");
    using changes = ns.enter(() => new NetworkChanges());
    assertEquals(changes.take(), []);
    using _tun = ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    netlink.changeLink(index, { up: true });
    netlink.addAddress(index, ip("100.64.0.1"), 32);
    netlink.addRoute({ destination: prefix("10.0.0.0/8"), table: TABLE, interfaceIndex: index });
    const seen = changes.take();
    for (const kind of ["link", "address"] as const) {
      assert(seen.some((c) => c.kind === kind && c.interfaceIndex === index), kind);
    }
    assert(seen.some((c) => c.kind === "route" && c.table === TABLE && c.interfaceIndex === index));
    assertEquals(changes.take(), []);
  },
});
