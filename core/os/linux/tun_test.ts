import { assert, assertEquals, assertThrows } from "@std/assert";
import { ip, SocketAddress } from "../../ip/address.ts";
import { requires } from "../../../tests/requirements.ts";
import { Epoll } from "./epoll.ts";
import { OsError } from "./errno.ts";
import { Rtnetlink } from "./rtnetlink.ts";
import { TestNetns } from "./testing/netns.ts";
import { TUN_READ_SIZE, TunDevice, TunWrite, VIRTIO_HEADER_SIZE } from "./tun.ts";
import { UdpSocket } from "./udp.ts";
import { SendResult } from "./udp_sender.ts";

const NEEDS = requires("linux", "root", "namespaces", "tun", "ip");
const MTU = 1280;

Deno.test({
  name: "TunDevice carries TCP super-packets between two namespaces",
  ...NEEDS,
  async fn() {
    using a = new Host("a", "10.9.0.1", "fd09::1");
    using b = new Host("b", "10.9.0.2", "fd09::2");
    for (const address of ["10.9.0.2", "fd09::2"]) {
      const sent = new Uint8Array(2_000_000).map((_, i) => i * 7 + (i >> 9));
      using listener = b.ns.enter(() => Deno.listen({ hostname: address, port: 8080 }));
      // Its socket would be opened later, in whatever namespace the thread is in then; hence a process.
      const fetching = new Deno.Command("ip", {
        args: ["netns", "exec", a.ns.name, Deno.execPath(), "eval", TCP_FETCH, address],
        stdout: "piped",
      }).output();
      let isDone = false;
      const serving = serve(listener, sent);
      const output = fetching.finally(() => isDone = true);
      while (!isDone) {
        const moved = shuttle(a, b) + shuttle(b, a);
        await new Promise((resolve) => setTimeout(resolve, moved > 0 ? 0 : 1));
      }
      await serving;
      const { stdout } = await output;
      assertEquals(new TextDecoder().decode(stdout), await digest(sent));
    }
    // About 1600 segments each way in time; the biggest reads carried dozens.
    assert(b.largest > 10 * MTU, `largest packet read: ${b.largest} bytes`);
    assertEquals(a.tun.counters.refused + b.tun.counters.refused, 0);
  },
});

Deno.test({
  name: "TunDevice carries UDP super-packets where the kernel has them",
  ...NEEDS,
  fn() {
    using a = new Host("a", "10.9.0.1", "fd09::1");
    using b = new Host("b", "10.9.0.2", "fd09::2");
    if (!a.tun.udpSegmentation) return; // before Linux 6.2
    for (const [family, to] of [[4, "10.9.0.2"], [6, "fd09::2"]] as const) {
      using sender = a.ns.enter(() => UdpSocket.open({ family, port: 0 }));
      using receiver = b.ns.enter(() => UdpSocket.open({ family, port: 0 }));
      const destination = new SocketAddress(ip(to), receiver.localPort);
      const data = new Uint8Array(20_000).fill(family);
      a.largest = 0;
      assertEquals(
        sender.send(undefined, destination, data, 0, data.length, 1000, 0),
        SendResult.Sent,
      );
      while (receiver.receiveCounters.bytes < data.length) {
        shuttle(a, b);
        receiver.receive();
      }
      assert(a.largest > data.length, `20 datagrams came in packets of up to ${a.largest} bytes`);
      assertEquals(receiver.receiveCounters.datagrams, 20);
      assert(receiver.receiveCounters.messages < 20, "glued again by the other kernel");
    }
  },
});

Deno.test({
  name: "TunDevice refuses nonsense and packets for an interface that is down, without throwing",
  ...NEEDS,
  fn() {
    using host = new Host("a", "10.9.0.1", "fd09::1");
    const packet = new Uint8Array(VIRTIO_HEADER_SIZE + 40);
    assertEquals(host.tun.write(packet, 0, packet.length), TunWrite.Refused, "version 0");
    packet[VIRTIO_HEADER_SIZE] = 0x45;
    packet[1] = 99; // no such gso_type
    assertEquals(host.tun.write(packet, 0, packet.length), TunWrite.Refused);
    packet[1] = 0;
    assertEquals(host.tun.write(packet, 0, 3), TunWrite.Refused, "shorter than its header");
    assertEquals(host.tun.write(packet, 0, packet.length), TunWrite.Written);
    host.ns.ip("link", "set", "osl-tun", "down");
    assertEquals(host.tun.write(packet, 0, packet.length), TunWrite.Refused);
    assertEquals(host.tun.read(host.buffer), 0, "a read from an interface that is down waits");
    assertEquals(host.tun.counters.refused, 4);
  },
});

Deno.test({
  name: "TunDevice says who has the interface, and goes with its descriptor",
  ...NEEDS,
  fn() {
    using ns = new TestNetns("tun");
    const first = ns.enter(() => TunDevice.open("osl-tun"));
    const error = assertThrows(() => ns.enter(() => TunDevice.open("osl-tun")), OsError);
    assertEquals(
      error.message,
      "ioctl TUNSETIFF osl-tun: already in use (EBUSY); another process has this interface: stop it first",
    );
    first.close();
    using numbered = ns.enter(() => TunDevice.open("osl%d"));
    assertEquals(numbered.name, "osl0");
    assert(!/osl-tun/.test(ns.ip("link")));
    for (const name of ["", "a/b", "sixteen-bytes-xx", "a b"]) {
      assertThrows(() => TunDevice.open(name), RangeError);
    }
  },
});

Deno.test({
  name: "TunDevice throws when the interface is deleted under it",
  ...NEEDS,
  fn() {
    using host = new Host("a", "10.9.0.1", "fd09::1");
    host.ns.ip("link", "delete", "osl-tun");
    assertThrows(() => host.tun.read(host.buffer), OsError, "read osl-tun");
  },
});

Deno.test({
  name: "TunDevice creates /dev/net/tun where it is absent",
  ...requires("linux", "root", "namespaces", "tun", "unshare"),
  fn() {
    const script = `
      import { TunDevice } from ${JSON.stringify(new URL("./tun.ts", import.meta.url).href)};
      console.log(TunDevice.open("osl-tun").name);
    `;
    const hidden = 'mount -t tmpfs none /dev/net && umask 022 && exec "$0" eval "$1"';
    const { stdout, stderr } = new Deno.Command("unshare", {
      args: ["--mount", "--net", "sh", "-c", hidden, Deno.execPath(), script],
    }).outputSync();
    assertEquals(new TextDecoder().decode(stdout), "osl-tun\n", new TextDecoder().decode(stderr));
  },
});

/** A namespace with a TUN device and addresses on it. */
class Host {
  readonly ns: TestNetns;
  readonly tun: TunDevice;
  readonly buffer = new Uint8Array(TUN_READ_SIZE);
  readonly epoll = new Epoll();
  /** Longest packet read, in bytes. */
  largest = 0;

  constructor(label: string, ipv4: string, ipv6: string) {
    this.ns = new TestNetns(label);
    this.tun = this.ns.enter(() => TunDevice.open("osl-tun"));
    using netlink = this.ns.enter(() => new Rtnetlink());
    const { index } = netlink.link("osl-tun")!;
    netlink.changeLink(index, { mtu: MTU, noLinkLocalAddress: true, up: true });
    netlink.addAddress(index, ip(ipv4), 24);
    netlink.addAddress(index, ip(ipv6), 64);
    this.epoll.add(this.tun.fd, 0, { readable: true });
  }

  [Symbol.dispose](): void {
    this.epoll.close();
    this.tun.close();
    this.ns[Symbol.dispose]();
  }
}

/** Moves what waits in one device into the other, as it is. */
function shuttle(from: Host, to: Host): number {
  let packets = 0;
  for (let n; (n = from.tun.read(from.buffer)) > 0; packets++) {
    from.largest = Math.max(from.largest, n);
    to.tun.write(from.buffer, 0, n);
  }
  return packets;
}

async function serve(listener: Deno.Listener, data: Uint8Array): Promise<void> {
  using connection = await listener.accept();
  for (let at = 0; at < data.length;) at += await connection.write(data.subarray(at));
}

async function digest(data: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}

/** Reads a TCP connection to its end and prints the SHA-256 of what came. */
const TCP_FETCH = `
  const connection = await Deno.connect({ hostname: Deno.args[0], port: 8080 });
  const bytes = await new Response(connection.readable).bytes();
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  await Deno.stdout.write(new TextEncoder().encode(hash));
`;
