import { assertEquals } from "@std/assert";
import { requires } from "../../tests/requirements.ts";
import { ip, prefix } from "../ip/mod.ts";
import { Rtnetlink, TunDevice } from "../os/linux/mod.ts";
import { TestNetns } from "../os/linux/testing/netns.ts";
import { FIREZONE_MARK } from "./data_plane.ts";
import { TUNNEL_TABLE, TunnelInterface } from "./tunnel_interface.ts";

const NEEDS = requires("linux", "root", "namespaces", "tun", "ip");

/** Everything that a tunnel changes, as text. */
function configuration(netlink: Rtnetlink): string[] {
  return ([4, 6] as const).flatMap((family) => [
    ...netlink.routes(family, TUNNEL_TABLE).map((route) => `route ${route.destination}`),
    ...netlink.rules(family)
      .filter((rule) => rule.table === TUNNEL_TABLE)
      .map((rule) => `rule ${family} ${rule.mark} ${rule.inverted}`),
  ]);
}

const RULES = [`rule 4 ${FIREZONE_MARK} true`, `rule 6 ${FIREZONE_MARK} true`];

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
