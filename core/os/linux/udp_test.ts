import { assert, assertEquals, assertThrows } from "@std/assert";
import { ip, SocketAddress, socketAddress } from "../../ip/address.ts";
import { Epoll } from "./epoll.ts";
import { OsError } from "./errno.ts";
import { GatherBatch } from "./gather_batch.ts";
import { UdpSocket } from "./udp.ts";
import { SendResult } from "./udp_sender.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

for (const family of [4, 6] as const) {
  const address = ip(family === 4 ? "127.0.0.1" : "::1");

  Deno.test({
    name: `UdpSocket carries a GSO send into a GRO receive over IPv${family}`,
    ...onLinux,
    fn() {
      using a = UdpSocket.open({ family, address, port: 0 });
      using b = UdpSocket.open({ family, port: 0 });
      const to = new SocketAddress(address, b.localPort);
      const data = pattern(40 * 1000 + 300);
      assertEquals(a.send(undefined, to, data, 0, data.length, 1000, 2), SendResult.Sent);
      const got = receiveAll(b, data.length);
      assertEquals(got.bytes, data);
      assertEquals(got.lengths.slice(0, 40), new Array(40).fill(1000));
      assertEquals(got.lengths[40], 300);
      assertEquals(got.from, a.bound.key);
      assertEquals(got.local, to.key);
      assertEquals(got.ecn, 2);
      assert(got.messages < 41, `41 datagrams came in ${got.messages} messages: no GRO`);
      assertEquals(a.sendCounters.datagrams, 41);
      assertEquals(a.sendCounters.calls, 1);
      assertEquals(b.receiveCounters.datagrams, 41);
    },
  });

  Deno.test({
    name: `UdpSocket sends from the address it is told to over IPv${family}`,
    ...onLinux,
    fn() {
      using a = UdpSocket.open({ family, port: 0 });
      using b = UdpSocket.open({ family, address, port: 0 });
      // All of 127/8 is local; IPv6 has one loopback address.
      const source = socketAddress(family === 4 ? "127.9.8.7:1" : "[::1]:1");
      a.send(source, b.bound, pattern(64), 4, 20, 0, 0);
      const got = receiveAll(b, 20);
      assertEquals(got.from, new SocketAddress(source.ip, a.localPort).key);
      assertEquals(got.bytes, pattern(64).subarray(4, 24));
    },
  });
}

Deno.test({
  name: "UdpSocket that was not asked to does not look where a message came to",
  ...onLinux,
  fn() {
    using a = UdpSocket.open({ family: 4, port: 0 });
    using b = UdpSocket.open({ family: 4, port: 0, localAddresses: false });
    a.send(undefined, new SocketAddress(ip("127.0.0.1"), b.localPort), pattern(9), 0, 9, 0, 1);
    const got = receiveAll(b, 9);
    assertEquals([got.local, got.ecn], [b.bound.key, 1]);
  },
});

Deno.test({
  name: "UdpSocket sends a gathered batch with bytes skipped and with prefixes",
  ...onLinux,
  fn() {
    using a = UdpSocket.open({ family: 4, address: ip("127.0.0.1"), port: 0 });
    using b = UdpSocket.open({ family: 4, address: ip("127.0.0.1"), port: 0 });
    const data = pattern(10 * 104);
    const batch = new GatherBatch(data);
    for (let i = 0; i < 10; i++) assert(batch.add(i * 104 + 4, 100));
    assertEquals(a.sendGathered(undefined, b.bound, batch, 0), SendResult.Sent);
    assertEquals(a.sendCounters.calls, 1);
    const plain = receiveAll(b, 1000);
    assertEquals(plain.lengths, new Array(10).fill(100));
    for (let i = 0; i < 10; i++) {
      assertEquals(
        plain.bytes.subarray(i * 100, i * 100 + 100),
        data.subarray(i * 104 + 4, i * 104 + 104),
      );
    }
    batch.clear();
    for (let i = 0; i < 3; i++) assert(batch.addPrefixed(0x40010064, i * 100, 100));
    assert(batch.addPrefixed(0x40010032, 300, 50));
    assert(!batch.add(0, 104), "a shorter datagram ends a batch");
    assertEquals(a.sendGathered(undefined, b.bound, batch, 0), SendResult.Sent);
    const framed = receiveAll(b, 3 * 104 + 54);
    assertEquals(framed.lengths, [104, 104, 104, 54]);
    assertEquals([...framed.bytes.subarray(104, 108)], [0x40, 0x01, 0x00, 0x64]);
    assertEquals(framed.bytes.subarray(108, 208), data.subarray(100, 200));
    assertEquals([...framed.bytes.subarray(312, 316)], [0x40, 0x01, 0x00, 0x32]);
  },
});

Deno.test({
  name: "UdpSocket names the port that is taken",
  ...onLinux,
  fn() {
    using a = UdpSocket.open({ family: 4, port: 0 });
    const error = assertThrows(
      () => UdpSocket.open({ family: 4, port: a.localPort }),
      OsError,
    );
    assertEquals(error.code, "EADDRINUSE");
    assertEquals(
      error.message,
      `bind UDP 0.0.0.0:${a.localPort}: address already in use (EADDRINUSE)`,
    );
  },
});

/** Bytes that tell where they come from. */
function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
}

/** Receives until `length` bytes came. */
function receiveAll(socket: UdpSocket, length: number) {
  using epoll = new Epoll();
  epoll.add(socket.fd, 0, { readable: true });
  const bytes = new Uint8Array(length);
  const lengths: number[] = [];
  let [at, messages, from, local, ecn] = [0, 0, "", "", 0];
  while (at < length) {
    assert(epoll.wait(2000) > 0, `nothing more came after ${at} of ${length} bytes`);
    const n = socket.receive();
    messages += n;
    for (let i = 0; i < n; i++) {
      const start = socket.start(i);
      bytes.set(socket.buffer.subarray(start, start + socket.length(i)), at);
      at += socket.length(i);
      for (let o = 0; o < socket.length(i); o += socket.segmentSize(i)) {
        lengths.push(Math.min(socket.segmentSize(i), socket.length(i) - o));
      }
      [from, local, ecn] = [socket.from(i).key, socket.local(i).key, socket.ecn(i)];
    }
  }
  return { bytes, lengths, messages, from, local, ecn };
}
