import { assert, assertEquals, assertThrows } from "@std/assert";
import { ip, IpAddress, SocketAddress, socketAddress } from "../../ip/address.ts";
import { requires } from "../../../tests/requirements.ts";
import { Epoll } from "./epoll.ts";
import { OsError } from "./errno.ts";
import { GatherBatch } from "./gather_batch.ts";
import { connect, TestNetns } from "./testing/netns.ts";
import { UdpSocket } from "./udp.ts";
import { SendResult } from "./udp_sender.ts";

const IN_NAMESPACES = requires("linux", "root", "namespaces", "ip");
const LOOPBACK = ip("127.0.0.1");

Deno.test({
  name: "UdpSocket repeats a GSO send datagram by datagram when segments exceed the path's MTU",
  ...IN_NAMESPACES,
  fn() {
    using ns = new TestNetns("mtu");
    ns.ip("link", "set", "lo", "mtu", "1280");
    using a = ns.enter(() => UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 }));
    using b = ns.enter(() => UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 }));
    const data = new Uint8Array(5 * 1400 + 100).map((_, i) => i);
    assertEquals(a.send(undefined, b.bound, data, 0, data.length, 1400, 0), SendResult.Sent);
    assertEquals(lengthsReceived(b), [1400, 1400, 1400, 1400, 1400, 100]);
    const batch = new GatherBatch(data);
    for (let i = 0; i < 3; i++) batch.addPrefixed(7, i * 1400, 1396);
    assertEquals(a.sendGathered(undefined, b.bound, batch, 0), SendResult.Sent);
    assertEquals(lengthsReceived(b), [1400, 1400, 1400]);
    assertEquals(a.sendCounters.segmentationRefused, 2);
    assertEquals(a.sendCounters.datagrams, 9);
    assert(a.sendCounters.refused.size === 0);
  },
});

Deno.test({
  name: "UdpSocket refuses what cannot be routed or is too long, and counts it by reason",
  ...IN_NAMESPACES,
  fn() {
    using ns = new TestNetns("route");
    using a = ns.enter(() => UdpSocket.open({ family: 4, port: 0 }));
    const data = new Uint8Array(70_000);
    const nowhere = socketAddress("192.0.2.1:9");
    assertEquals(a.send(undefined, nowhere, data, 0, 3000, 1000, 0), SendResult.Refused);
    assertEquals(a.accepted, 3000);
    assertEquals(a.send(undefined, nowhere, data, 0, 66_000, 0, 0), SendResult.Refused);
    const otherFamily = socketAddress("[::1]:9");
    assertEquals(a.send(undefined, otherFamily, data, 0, 10, 0, 0), SendResult.Refused);
    const foreign = socketAddress("198.51.100.1:1");
    const here = new SocketAddress(LOOPBACK, a.localPort);
    assertEquals(a.send(foreign, here, data, 0, 10, 0, 0), SendResult.Refused);
    assertEquals([...a.sendCounters.refused], [
      ["ENETUNREACH", 4],
      ["EMSGSIZE", 1],
      ["EAFNOSUPPORT", 1],
    ]);
    assertEquals(a.send(undefined, here, data, 0, 10, 0, 0), SendResult.Sent, "and goes on");
  },
});

Deno.test({
  name: "UdpSocket says how much of a send was taken when its queue is full",
  ...IN_NAMESPACES,
  fn() {
    using ns = new TestNetns("full");
    using peer = new TestNetns("peer");
    connect(
      { ns, name: "eth", addresses: ["10.9.0.1/24"] },
      { ns: peer, name: "eth", addresses: [] },
    );
    using socket = ns.enter(() => UdpSocket.open({ family: 4, port: 0, sendBuffer: 16_384 }));
    const to = socketAddress("10.9.0.2:9");
    const data = new Uint8Array(1000);
    // Nobody answers for that address yet, so datagrams wait and stay charged to the socket.
    let taken = 0;
    while (
      taken < 500 && socket.send(undefined, to, data, 0, data.length, 0, 0) === SendResult.Sent
    ) taken++;
    assert(taken > 0 && taken < 500, `${taken} datagrams were taken`);
    assertEquals(socket.accepted, 0);
    assertEquals(socket.sendCounters.wouldBlock, 1);
    using epoll = new Epoll();
    epoll.add(socket.fd, 0, { writable: true });
    assertEquals(epoll.wait(0), 0);
    peer.ip("address", "add", "10.9.0.2/24", "dev", "eth");
    assertEquals(epoll.wait(5000), 1);
    assert(epoll.isWritable(0));
    assertEquals(socket.send(undefined, to, data, 0, data.length, 0, 0), SendResult.Sent);
  },
});

Deno.test({
  name: "UdpSocket marks what it sends",
  ...IN_NAMESPACES,
  fn() {
    using ns = new TestNetns("mark");
    ns.ip("rule", "add", "fwmark", "0xfd002021", "prohibit");
    using plain = ns.enter(() => UdpSocket.open({ family: 4, port: 0 }));
    using marked = ns.enter(() => UdpSocket.open({ family: 4, port: 0, mark: 0xfd002021 }));
    ns.ip("route", "add", "192.0.2.0/24", "dev", "lo");
    const to = socketAddress("192.0.2.1:9");
    assertEquals(plain.send(undefined, to, new Uint8Array(9), 0, 9, 0, 0), SendResult.Sent);
    assertEquals(marked.send(undefined, to, new Uint8Array(9), 0, 9, 0, 0), SendResult.Refused);
    assertEquals([...marked.sendCounters.refused.keys()], ["EACCES"]);
  },
});

Deno.test({
  name: "UdpSocket shares a port when asked to, and has the queues it was promised",
  ...requires("linux"),
  fn() {
    using a = UdpSocket.open({ family: 6, port: 0, reusePort: true, receiveBuffer: 1 << 20 });
    using b = UdpSocket.open({ family: 6, port: a.localPort, reusePort: true });
    using v4 = UdpSocket.open({ family: 4, port: a.localPort });
    assertEquals(
      [b.localPort, v4.localPort],
      [a.localPort, a.localPort],
      "IPv6 sockets are v6-only",
    );
    const absent = new IpAddress(Uint8Array.of(192, 0, 2, 1));
    const error = assertThrows(
      () => UdpSocket.open({ family: 4, address: absent, port: 0 }),
      OsError,
    );
    assertEquals(error.code, "EADDRNOTAVAIL");
    assertThrows(() => UdpSocket.open({ family: 6, address: absent, port: 0 }), RangeError);
  },
});

Deno.test({
  name: "UdpSocket sends and receives without an object per datagram",
  ...requires("linux"),
  fn() {
    using a = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 });
    using b = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 });
    const data = new Uint8Array(65_536);
    const batch = new GatherBatch(data);
    const round = () => {
      for (let i = 0; i < 200; i++) {
        a.send(a.bound, b.bound, data, 0, 10_000, 1000, 1);
        batch.clear();
        for (let k = 0; k < 10; k++) batch.addPrefixed(k, k * 104, 100);
        a.sendGathered(undefined, b.bound, batch, 0);
        for (let n = b.receive(); n > 0; n = b.receive()) b.from(0);
      }
    };
    for (let i = 0; i < 20; i++) round();
    const growth = Array.from({ length: 15 }, () => {
      const before = Deno.memoryUsage().heapUsed;
      round();
      return Deno.memoryUsage().heapUsed - before;
    }).sort((x, y) => x - y);
    // 4000 datagrams; a total that outgrows a small integer costs 16 bytes per system call.
    assert(growth[7]! < 4000 * 8, `median growth of ${growth[7]} bytes in 4000 datagrams`);
  },
});

Deno.test({
  name: "UdpSocket survives the garbage collector while the kernel holds its addresses",
  ...requires("linux"),
  fn() {
    using a = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 });
    using b = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0 });
    for (let i = 0; i < 5000; i++) {
      // Fresh small and large buffers each time, and litter for the collector.
      const data = new Uint8Array(i % 2 === 0 ? 20 : 3000).fill(i & 0xff);
      a.send(undefined, b.bound, data, 0, data.length, 0, 0);
      if (i % 50 === 0) Array.from({ length: 2000 }, (_, k) => new Uint8Array(64).fill(k));
      const n = b.receive();
      for (let m = 0; m < n; m++) {
        assertEquals(b.length(m), data.length);
        const start = b.start(m);
        for (let k = 0; k < data.length; k += 7) assertEquals(b.buffer[start + k], i & 0xff);
      }
    }
    assertEquals(b.receiveCounters.datagrams, 5000);
  },
});

/** Lengths of the datagrams that wait. */
function lengthsReceived(socket: UdpSocket): number[] {
  const lengths: number[] = [];
  for (let n = socket.receive(); n > 0; n = socket.receive()) {
    for (let i = 0; i < n; i++) {
      for (let at = 0; at < socket.length(i); at += socket.segmentSize(i)) {
        lengths.push(Math.min(socket.segmentSize(i), socket.length(i) - at));
      }
    }
  }
  return lengths;
}
