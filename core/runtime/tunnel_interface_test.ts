import { assertEquals } from "@std/assert";
import { requires } from "../../tests/requirements.ts";
import { ip, prefix, SocketAddress } from "../ip/mod.ts";
import { Rtnetlink, TunDevice } from "../os/linux/mod.ts";
import { connect, TestNetns } from "../os/linux/testing/netns.ts";
import { FIREZONE_MARK } from "./data_plane.ts";
import { LINK_TABLE, TUNNEL_TABLES, TunnelInterface } from "./tunnel_interface.ts";

const NEEDS = requires("linux", "root", "namespaces", "tun", "ip");

/** Everything that a tunnel changes, as text. */
function configuration(netlink: Rtnetlink): string[] {
  return ([4, 6] as const).flatMap((family) => [
    ...TUNNEL_TABLES.flatMap((table) => netlink.routes(family, table))
      .map((route) => `route ${route.destination}`),
    ...netlink.rules(family)
      .filter((rule) => TUNNEL_TABLES.includes(rule.table) || rule.destination !== undefined)
      .map((rule) =>
        rule.destination
          ? `rule ${rule.priority} to ${rule.destination}`
          : `rule ${family} ${rule.priority} ${rule.mark} ${rule.inverted}`
      ),
  ]);
}

const RULES = [4, 6].flatMap((family) =>
  [100, 200, 300].map((priority) => `rule ${family} ${priority} ${FIREZONE_MARK} true`)
);

/** The device that packets to these addresses go through; undefined where they get nowhere. */
function wayTo(ns: TestNetns, addresses: readonly string[], ...options: string[]) {
  return addresses.map((to) => {
    try {
      return / dev (\S+)/.exec(ns.ip("route", "get", to, ...options))?.[1];
    } catch {
      return undefined;
    }
  });
}

Deno.test({
  name: "TunnelInterface leads ranges into the device once it has addresses, and cleans up",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    using netlink = ns.enter(() => new Rtnetlink());
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    device.setRoutes([prefix("10.0.0.0/8"), prefix("2001:db8::/32")]);
    assertEquals(configuration(netlink), RULES);

    device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
    const sorted = () => configuration(netlink).sort();
    assertEquals(sorted(), ["route 10.0.0.0/8", "route 2001:db8::/32", ...RULES]);
    device.setRoutes([prefix("10.0.0.0/8"), prefix("10.1.0.0/16")]);
    assertEquals(sorted(), ["route 10.0.0.0/8", "route 10.1.0.0/16", ...RULES]);

    device.setAddresses(ip("100.64.0.2"), ip("fd00:2021:1111::2"));
    const { index } = netlink.link(tun.name)!;
    assertEquals(netlink.addresses(index).map((address) => address.ip.text), [
      "100.64.0.2",
      "fd00:2021:1111::2",
    ]);
    assertEquals(sorted(), ["route 10.0.0.0/8", "route 10.1.0.0/16", ...RULES]);

    device.close();
    assertEquals(configuration(netlink), []);
  },
});

Deno.test({
  name: "TunnelInterface takes over the rules that a killed process left behind",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using netlink = ns.enter(() => new Rtnetlink());
    {
      using tun = ns.enter(() => TunDevice.open("tun-test"));
      ns.enter(() => TunnelInterface.attach(tun.name));
      // No close: the process was killed, and its device is gone.
    }
    assertEquals(configuration(netlink), RULES);
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    assertEquals(configuration(netlink), RULES);
    device.close();
    assertEquals(configuration(netlink), []);
  },
});

Deno.test({
  name: "TunnelInterface never sends from service addresses, and delivers to them locally",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    // They come first and are nearer to the destinations than the tunnel's addresses.
    const services = [ip("100.100.111.1"), ip("fd00:2021:1111:8000:100:100:111:1")];
    device.setServiceAddresses(services);
    device.setRoutes([prefix("100.96.0.0/11"), prefix("fd00:2021:1111:8000::/107")]);
    const sources = () =>
      ["100.100.112.1", "fd00:2021:1111:8000::1"].map((to) =>
        / src (\S+)/.exec(ns.ip("route", "get", to))?.[1]
      );
    for (const [ipv4, ipv6] of [["100.64.0.1", "fd00:2021:1111::1"], ["100.64.0.2", "fd00::2"]]) {
      device.setAddresses(ip(ipv4!), ip(ipv6!));
      assertEquals(sources(), [ipv4, ipv6]);
    }
    for (const service of services) {
      assertEquals(ns.ip("route", "get", service.text).startsWith("local "), true);
    }
    device.setServiceAddresses([]);
    assertEquals(sources(), ["100.64.0.2", "fd00::2"]);
    using netlink = ns.enter(() => new Rtnetlink());
    const { index } = netlink.link(tun.name)!;
    assertEquals(netlink.addresses(index).map((address) => address.ip.text), [
      "100.64.0.2",
      "fd00::2",
    ]);
    device.close();
    assertEquals(configuration(netlink), []);
  },
});

Deno.test({
  name:
    "TunnelInterface leads everything into the device but the neighbours, unless they are resources",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using router = new TestNetns("ti-router");
    connect(
      { ns, name: "lan", addresses: ["192.168.7.2/24", "2001:db8:7::2/64"] },
      { ns: router, name: "lan", addresses: ["192.168.7.1/24", "2001:db8:7::1/64"] },
    );
    ns.ip("route", "add", "default", "via", "192.168.7.1");
    ns.ip("route", "add", "default", "via", "2001:db8:7::1");
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    using netlink = ns.enter(() => new Rtnetlink());
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
    const far = ["203.0.113.9", "2001:db8:9::9"];
    const near = ["192.168.7.9", "2001:db8:7::9"];
    const ways = () => [...wayTo(ns, far), ...wayTo(ns, near)];

    device.setRoutes([prefix("100.96.0.0/11")]);
    assertEquals(ways(), ["lan", "lan", "lan", "lan"]);
    assertEquals(netlink.routes(4, LINK_TABLE), [], "no copies while they are not needed");

    const everything = [prefix("0.0.0.0/0"), prefix("::/0")];
    device.setRoutes(everything);
    assertEquals(ways(), ["tun-test", "tun-test", "lan", "lan"]);
    // What carries our mark never sees the tunnel.
    assertEquals(wayTo(ns, far, "mark", `${FIREZONE_MARK}`), ["lan", "lan"]);

    device.setRoutes([...everything, prefix("192.168.7.9/32"), prefix("2001:db8:7::/64")]);
    assertEquals(ways(), ["tun-test", "tun-test", "tun-test", "tun-test"]);
    assertEquals(wayTo(ns, ["192.168.7.8"]), ["lan"]);

    device.setRoutes(everything);
    ns.ip("address", "add", "192.168.8.2/24", "dev", "lan");
    ns.ip("address", "del", "192.168.7.2/24", "dev", "lan");
    device.refreshLinkRoutes();
    assertEquals(wayTo(ns, ["192.168.8.9", "192.168.7.9"]), ["lan", "tun-test"]);
    ns.ip("link", "set", "lan", "down");
    device.refreshLinkRoutes();
    assertEquals(wayTo(ns, ["192.168.8.9", ...near]), ["tun-test", "tun-test", "tun-test"]);

    ns.ip("link", "set", "lan", "up");
    // The kernel says so a moment later.
    for (const start = performance.now(); performance.now() - start < 5000;) {
      if (netlink.link("lan")!.isRunning) break;
    }
    device.refreshLinkRoutes();
    assertEquals(wayTo(ns, ["192.168.8.9"]), ["lan"]);
    device.setRoutes([]);
    assertEquals(configuration(netlink), RULES);
    device.close();
    assertEquals(configuration(netlink), []);
  },
});

Deno.test({
  name: "TunnelInterface takes a default route without next hop for no neighbour",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using _ppp = ns.enter(() => TunDevice.open("ppp0"));
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    ns.ip("link", "set", "ppp0", "up");
    ns.ip("address", "add", "198.51.100.1", "peer", "198.51.100.2", "dev", "ppp0");
    ns.ip("route", "add", "default", "dev", "ppp0");
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
    assertEquals(wayTo(ns, ["203.0.113.9"]), ["ppp0"]);
    device.setRoutes([prefix("0.0.0.0/0")]);
    assertEquals(wayTo(ns, ["203.0.113.9", "198.51.100.2"]), ["tun-test", "ppp0"]);
    device.close();
    assertEquals(wayTo(ns, ["203.0.113.9"]), ["ppp0"]);
  },
});

Deno.test({
  name:
    "TunnelInterface keeps what may not be marked out of the tunnel, and forgets former addresses",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("ti");
    using router = new TestNetns("ti-router");
    connect(
      { ns, name: "lan", addresses: ["192.168.7.2/24", "2001:db8:7::2/64"] },
      { ns: router, name: "lan", addresses: ["192.168.7.1/24", "2001:db8:7::1/64"] },
    );
    ns.ip("route", "add", "default", "via", "192.168.7.1");
    ns.ip("route", "add", "default", "via", "2001:db8:7::1");
    using netlink = ns.enter(() => new Rtnetlink());
    {
      using tun = ns.enter(() => TunDevice.open("tun-test"));
      const device = ns.enter(() => TunnelInterface.attach(tun.name));
      device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
      device.setRoutes([prefix("0.0.0.0/0"), prefix("203.0.113.0/24"), prefix("2001:db8::/32")]);
      const portal = ["203.0.113.10", "2001:db8:9::10"];
      const https = (address: string) => new SocketAddress(ip(address), 443);
      const waysTo = (addresses: string[], port = 443, protocol = "tcp") =>
        wayTo(ns, addresses, "ipproto", protocol, "dport", `${port}`);
      assertEquals(waysTo(portal), ["tun-test", "tun-test"]);
      device.setBypass(portal.map(https));
      device.setBypass(portal.map(https));
      assertEquals(waysTo(portal), ["lan", "lan"]);
      assertEquals(waysTo(["203.0.113.11"]), ["tun-test"]);
      assertEquals(waysTo(portal, 80), ["tun-test", "tun-test"]);
      assertEquals(waysTo(portal, 443, "udp"), ["tun-test", "tun-test"]);
      device.setBypass([https("203.0.113.11")]);
      assertEquals(waysTo([...portal, "203.0.113.11"]), ["tun-test", "tun-test", "lan"]);
      // No close: the process was killed.
    }
    // An administrator's rule of the same priority is none of ours.
    ns.ip("rule", "add", "to", "192.0.2.1", "lookup", "main", "priority", "90");
    assertEquals(configuration(netlink).filter((line) => line.startsWith("route ")), [
      "route 192.168.7.0/24",
      "route 2001:db8:7::/64",
    ]);
    using tun = ns.enter(() => TunDevice.open("tun-test"));
    const device = ns.enter(() => TunnelInterface.attach(tun.name));
    const foreign = "rule 90 to 192.0.2.1/32";
    assertEquals(configuration(netlink), [foreign, ...RULES]);
    device.setBypass([new SocketAddress(ip("203.0.113.10"), 443)]);
    device.close();
    assertEquals(configuration(netlink), [foreign]);
  },
});
