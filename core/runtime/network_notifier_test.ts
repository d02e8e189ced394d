import { assertEquals } from "@std/assert";
import { requires } from "../../tests/requirements.ts";
import { ip, prefix } from "../ip/mod.ts";
import { TunDevice } from "../os/linux/mod.ts";
import { connect, TestNetns } from "../os/linux/testing/netns.ts";
import { TestBus } from "./testing/bus.ts";
import { NetworkNotifier } from "./network_notifier.ts";
import { TUNNEL_TABLES, TunnelInterface } from "./tunnel_interface.ts";

const NEEDS = requires("linux", "root", "namespaces", "tun", "ip");
/** Longer than a change waits to be told. */
const SETTLED_MS = 800;

/** A machine with two cables, of which `wifi` is not in use yet. */
class Machine {
  readonly ns = new TestNetns("nn");
  readonly #router = new TestNetns("nn-router");
  readonly events: string[] = [];
  readonly #tun: TunDevice;
  readonly device: TunnelInterface;
  readonly notifier: NetworkNotifier;
  #wake = () => {};

  constructor(watchedFiles: readonly string[] = [], busSocket = "/nowhere/bus") {
    // Otherwise link-local addresses become usable, and are told of, some time later.
    this.ns.exec("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    for (const [name, net] of [["lan", "7"], ["wifi", "8"]] as const) {
      const end = (host: string) => [`192.168.${net}.${host}/24`, `2001:db8:${net}::${host}/64`];
      connect({ ns: this.ns, name, addresses: end("2") }, {
        ns: this.#router,
        name,
        addresses: end("1"),
      });
    }
    this.ns.ip("route", "add", "default", "via", "192.168.7.1");
    this.ns.ip("route", "add", "default", "via", "2001:db8:7::1");
    this.#tun = this.ns.enter(() => TunDevice.open("tun-test"));
    this.device = this.ns.enter(() => TunnelInterface.attach("tun-test"));
    const saw = (event: string) => {
      this.events.push(event);
      this.#wake();
    };
    this.notifier = this.ns.enter(() =>
      new NetworkNotifier({
        onNetworkChange: (reason) => saw(reason),
        onRoutesChange: () => saw("routes"),
        onDnsChange: () => saw("dns"),
        ignoreInterface: "tun-test",
        ignoreTables: TUNNEL_TABLES,
        watchedFiles,
        busSocket,
        tickMs: 20,
      })
    );
  }

  /** Waits for an event, at most for some seconds, and forgets it with those before. */
  async next(event: string): Promise<boolean> {
    const deadline = performance.now() + 8_000;
    while (!this.events.includes(event) && performance.now() < deadline) {
      const timer = setTimeout(() => this.#wake(), deadline - performance.now());
      await new Promise<void>((resolve) => this.#wake = resolve);
      clearTimeout(timer);
    }
    return this.events.splice(0).includes(event);
  }

  /** What is told until everything has settled. */
  async settle(): Promise<string[]> {
    await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
    return this.events.splice(0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.notifier.close();
    this.device.close();
    this.#tun.close();
    this.ns[Symbol.dispose]();
    this.#router[Symbol.dispose]();
  }
}

Deno.test({
  name: "NetworkNotifier tells of another default route, and nothing of what others do",
  ...NEEDS,
  async fn() {
    await using machine = new Machine();
    const { ns, device } = machine;
    await machine.settle();

    // Our own addresses and routes, also one that takes everything.
    device.setAddresses(ip("100.64.0.1"), ip("fd00:2021:1111::1"));
    device.setRoutes([prefix("10.0.0.0/8"), prefix("0.0.0.0/0"), prefix("::/0")]);
    assertEquals(await machine.settle(), []);

    // A container's network; an address that lives longer; a route to somewhere.
    ns.ip("link", "add", "c0", "type", "veth", "peer", "name", "c1");
    ns.ip("address", "add", "172.17.0.1/16", "dev", "c0");
    ns.ip("link", "set", "c0", "up");
    ns.ip(
      "address",
      "change",
      "192.168.7.2/24",
      "dev",
      "lan",
      "valid_lft",
      "3600",
      "preferred_lft",
      "1800",
    );
    ns.ip("route", "add", "10.9.0.0/16", "via", "192.168.7.1");
    assertEquals([...new Set(await machine.settle())], ["routes"]);

    ns.ip("route", "replace", "default", "via", "192.168.8.1");
    assertEquals(await machine.next("roamed"), true);
    ns.ip("-6", "route", "replace", "default", "via", "2001:db8:8::1");
    assertEquals(await machine.next("roamed"), true);

    // Away, and back as it was.
    ns.ip("route", "del", "default");
    ns.ip("-6", "route", "del", "default");
    assertEquals([...new Set(await machine.settle())], ["routes"]);
    ns.ip("-6", "route", "add", "default", "via", "2001:db8:8::1");
    ns.ip("route", "add", "default", "via", "192.168.8.1");
    assertEquals([...new Set(await machine.settle())], ["routes"]);

    ns.ip("link", "set", "wifi", "down");
    ns.ip("route", "add", "default", "via", "192.168.7.1");
    assertEquals(await machine.next("roamed"), true);
  },
});

Deno.test({
  name: "NetworkNotifier tells when a watched file says something else",
  ...NEEDS,
  async fn() {
    const path = await Deno.makeTempFile();
    {
      await using machine = new Machine([path, "/nowhere/resolv.conf"]);
      Deno.writeTextFileSync(path, "nameserver 192.0.2.1\n");
      assertEquals(await machine.next("dns"), true);
      Deno.removeSync(path);
      assertEquals(await machine.next("dns"), true);
      assertEquals(machine.events, []);
    }
  },
});

Deno.test({
  name:
    "NetworkNotifier believes NetworkManager that a network is another, though it looks the same",
  ...requires("linux", "root", "namespaces", "tun", "ip", "dbus-daemon"),
  async fn() {
    await using bus = await TestBus.start();
    using service = await bus.service(
      "org.freedesktop.NetworkManager",
      "/org/freedesktop/NetworkManager",
    );
    await using machine = new Machine([], bus.socket);
    let hasRoamed = false;
    for (let i = 0; i < 20 && !hasRoamed; i++) {
      await service.change("PrimaryConnection");
      hasRoamed = (await machine.settle()).includes("roamed");
    }
    assertEquals(hasRoamed, true);
  },
});

Deno.test({
  name: "NetworkNotifier tells nothing once it is closed",
  ...NEEDS,
  async fn() {
    await using machine = new Machine();
    machine.ns.ip("route", "replace", "default", "via", "192.168.8.1");
    await machine.notifier.close();
    await machine.notifier.close();
    machine.ns.ip("route", "replace", "default", "via", "192.168.7.1");
    assertEquals(await machine.settle(), []);
  },
});
