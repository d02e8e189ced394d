import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { SendResult } from "@firezone/core/os/linux";
import { Outlets, type SendingSocket } from "./outlet.ts";

const PEER = socketAddress("192.0.2.9:7000");

Deno.test("Outlet keeps what a full socket did not take and sends it first, in order", () => {
  const outlets = new Outlets();
  const socket = new FakeSocket();
  const outlet = outlets.open(socket, 1 << 20);
  send(outlet, [1]);
  assertEquals([socket.taken, outlets.isBlocked], [[1], false]);
  socket.room = 2;
  send(outlet, [2, 3, 4]);
  send(outlet, [5]);
  assertEquals([socket.taken, outlets.isBlocked], [[1, 2, 3], true]);
  outlets.retry();
  assertEquals([socket.taken, outlets.isBlocked], [[1, 2, 3], true]);
  socket.room = 1;
  outlets.retry();
  assertEquals([socket.taken, outlets.isBlocked], [[1, 2, 3, 4], true]);
  socket.room = Infinity;
  outlets.retry();
  assertEquals([socket.taken, outlets.isBlocked], [[1, 2, 3, 4, 5], false]);
  assertEquals(outlets.counters, { refused: 0, queueFull: 0 });
});

Deno.test("A full Outlet does not hold up the others", () => {
  const outlets = new Outlets();
  const [full, free] = [new FakeSocket(), new FakeSocket()];
  const [first, second] = [outlets.open(full, 1000), outlets.open(free, 1000)];
  full.room = 0;
  send(first, [1]);
  send(second, [2]);
  outlets.retry();
  assertEquals([full.taken, free.taken, outlets.isBlocked], [[], [2], true]);
});

Deno.test("Outlet drops and counts what exceeds its bound, oldest first", () => {
  const outlets = new Outlets();
  const socket = new FakeSocket();
  const outlet = outlets.open(socket, 3);
  socket.room = 0;
  for (const n of [1, 2, 3, 4, 5]) send(outlet, [n]);
  assertEquals(outlets.counters.queueFull, 2);
  socket.room = Infinity;
  outlets.retry();
  assertEquals(socket.taken, [3, 4, 5]);
});

Deno.test("All Outlets together have a bound, whatever each may keep", () => {
  const outlets = new Outlets();
  const big = new Uint8Array(60_000);
  let count = 0;
  while (outlets.counters.queueFull === 0) {
    const socket = new FakeSocket();
    socket.room = 0;
    outlets.open(socket, 1 << 30).send(undefined, PEER, big, 0, big.length, 0, 0);
    count++;
  }
  assert(count > 100 && count < 2000, `${count} datagrams`);
});

Deno.test("Outlet counts what is refused and goes on, also from its queue", () => {
  const outlets = new Outlets();
  const socket = new FakeSocket();
  const outlet = outlets.open(socket, 1000);
  socket.refuses = true;
  send(outlet, [1, 2]);
  assertEquals(outlets.counters.refused, 2);
  socket.refuses = false;
  socket.room = 0;
  send(outlet, [3]);
  socket.refuses = true;
  outlets.retry();
  assertEquals([outlets.counters.refused, outlets.isBlocked], [3, false]);
});

Deno.test("An empty datagram that finds a full socket is dropped, not kept", () => {
  const outlets = new Outlets();
  const socket = new FakeSocket();
  const outlet = outlets.open(socket, 1000);
  socket.room = 0;
  outlet.send(undefined, PEER, new Uint8Array(1), 0, 0, 0, 0);
  assertEquals([outlets.counters.queueFull, outlets.isBlocked], [1, false]);
});

Deno.test("A closed Outlet holds nothing and is not tried again", () => {
  const outlets = new Outlets();
  const socket = new FakeSocket();
  const outlet = outlets.open(socket, 1000);
  socket.room = 0;
  send(outlet, [1, 2]);
  outlet.close();
  assert(!outlets.isBlocked);
  socket.room = Infinity;
  outlets.retry();
  assertEquals(socket.taken, []);
});

Deno.test("Whatever room a socket has when, nothing is lost, doubled or overtaken within bounds", () => {
  const step = fc.oneof(
    fc.record({ send: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ room: fc.nat(7) }),
  );
  fc.assert(fc.property(fc.array(step), (steps) => {
    const outlets = new Outlets();
    const socket = new FakeSocket();
    const outlet = outlets.open(socket, 1 << 20);
    let next = 0;
    for (const s of steps) {
      if ("send" in s) send(outlet, Array.from({ length: s.send }, () => next++ & 0xff));
      else {
        socket.room = s.room;
        outlets.retry();
      }
    }
    socket.room = Infinity;
    outlets.retry();
    assertEquals(socket.taken, Array.from({ length: next }, (_, i) => i & 0xff));
    assert(!outlets.isBlocked);
  }));
});

/** Takes datagrams of one byte each as long as it has room. */
class FakeSocket implements SendingSocket {
  accepted = 0;
  room = Infinity;
  refuses = false;
  readonly taken: number[] = [];

  send(
    _source: SocketAddress | undefined,
    _destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
  ): SendResult {
    if (this.refuses) return SendResult.Refused;
    const n = Math.min(length, this.room);
    this.taken.push(...buf.subarray(start, start + n));
    this.room -= n;
    this.accepted = n;
    return n === length && this.room >= 0 && (length > 0 || this.room > 0)
      ? SendResult.Sent
      : this.taken.length % 2 === 0
      ? SendResult.WouldBlock
      : SendResult.NoBuffers;
  }
}

/** Sends datagrams of one byte each, all at once. */
function send(outlet: ReturnType<Outlets["open"]>, bytes: readonly number[]): void {
  const buf = new Uint8Array([99, ...bytes, 99]);
  outlet.send(undefined, PEER, buf, 1, bytes.length, bytes.length > 1 ? 1 : 0, 0);
}
