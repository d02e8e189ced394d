import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { GatherBatch, SendResult } from "@firezone/core/os/linux";
import { BufferedSenders, type SendingSocket } from "./buffered_sender.ts";

const PEER = socketAddress("192.0.2.9:7000");

Deno.test("BufferedSender keeps what a full socket did not take and sends it first, in order", () => {
  const senders = new BufferedSenders();
  const socket = new FakeSocket();
  const sender = senders.open(socket, undefined, 1 << 20);
  send(sender, [1]);
  assertEquals([socket.taken, senders.isBlocked], [[1], false]);
  socket.room = 2;
  send(sender, [2, 3, 4]);
  send(sender, [5]);
  assertEquals([socket.taken, senders.isBlocked], [[1, 2, 3], true]);
  senders.retry();
  assertEquals([socket.taken, senders.isBlocked], [[1, 2, 3], true]);
  socket.room = 1;
  senders.retry();
  assertEquals([socket.taken, senders.isBlocked], [[1, 2, 3, 4], true]);
  socket.room = Infinity;
  senders.retry();
  assertEquals([socket.taken, senders.isBlocked], [[1, 2, 3, 4, 5], false]);
  assertEquals(senders.counters, { refused: 0, queueFull: 0 });
});

Deno.test("A full BufferedSender does not hold up the others", () => {
  const senders = new BufferedSenders();
  const [full, free] = [new FakeSocket(), new FakeSocket()];
  const [first, second] = [
    senders.open(full, undefined, 1000),
    senders.open(free, undefined, 1000),
  ];
  full.room = 0;
  send(first, [1]);
  send(second, [2]);
  senders.retry();
  assertEquals([full.taken, free.taken, senders.isBlocked], [[], [2], true]);
});

Deno.test("BufferedSender drops and counts what exceeds its bound, oldest first", () => {
  const senders = new BufferedSenders();
  const socket = new FakeSocket();
  const sender = senders.open(socket, undefined, 3);
  socket.room = 0;
  for (const n of [1, 2, 3, 4, 5]) send(sender, [n]);
  assertEquals(senders.counters.queueFull, 2);
  socket.room = Infinity;
  senders.retry();
  assertEquals(socket.taken, [3, 4, 5]);
});

Deno.test("All BufferedSenders together have a bound, whatever each may keep", () => {
  const senders = new BufferedSenders();
  const big = new Uint8Array(60_000);
  let count = 0;
  while (senders.counters.queueFull === 0) {
    const socket = new FakeSocket();
    socket.room = 0;
    senders.open(socket, undefined, 1 << 30).send(PEER, big);
    count++;
  }
  assert(count > 100 && count < 2000, `${count} datagrams`);
});

Deno.test("BufferedSender counts what is refused and goes on, also from its queue", () => {
  const senders = new BufferedSenders();
  const socket = new FakeSocket();
  const sender = senders.open(socket, undefined, 1000);
  socket.refuses = true;
  send(sender, [1, 2]);
  assertEquals(senders.counters.refused, 2);
  socket.refuses = false;
  socket.room = 0;
  send(sender, [3]);
  socket.refuses = true;
  senders.retry();
  assertEquals([senders.counters.refused, senders.isBlocked], [3, false]);
});

Deno.test("An empty datagram that finds a full socket is dropped, not kept", () => {
  const senders = new BufferedSenders();
  const socket = new FakeSocket();
  const sender = senders.open(socket, undefined, 1000);
  socket.room = 0;
  sender.send(PEER, new Uint8Array(0));
  assertEquals([senders.counters.queueFull, senders.isBlocked], [1, false]);
});

Deno.test("A closed BufferedSender holds nothing and is not tried again", () => {
  const senders = new BufferedSenders();
  const socket = new FakeSocket();
  const sender = senders.open(socket, undefined, 1000);
  socket.room = 0;
  send(sender, [1, 2]);
  sender.close();
  assert(!senders.isBlocked);
  socket.room = Infinity;
  senders.retry();
  assertEquals(socket.taken, []);
});

Deno.test("Whatever room a socket has when, nothing is lost, doubled or overtaken within bounds", () => {
  const step = fc.oneof(
    fc.record({ send: fc.integer({ min: 1, max: 5 }) }),
    fc.record({ room: fc.nat(7) }),
  );
  fc.assert(fc.property(fc.array(step), (steps) => {
    const senders = new BufferedSenders();
    const socket = new FakeSocket();
    const sender = senders.open(socket, undefined, 1 << 20);
    let next = 0;
    for (const s of steps) {
      if ("send" in s) send(sender, Array.from({ length: s.send }, () => next++ & 0xff));
      else {
        socket.room = s.room;
        senders.retry();
      }
    }
    socket.room = Infinity;
    senders.retry();
    assertEquals(socket.taken, Array.from({ length: next }, (_, i) => i & 0xff));
    assert(!senders.isBlocked);
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

  sendGathered(
    source: SocketAddress | undefined,
    destination: SocketAddress,
    batch: GatherBatch,
  ): SendResult {
    return this.send(source, destination, batch.copy(0), 0, batch.bytes);
  }
}

/** Sends datagrams of one byte each, all at once; a single one as it is. */
function send(sender: ReturnType<BufferedSenders["open"]>, bytes: readonly number[]): void {
  const buf = new Uint8Array([99, ...bytes, 99]);
  if (bytes.length === 1) sender.send(PEER, buf.subarray(1, 2));
  else {
    const batch = new GatherBatch(buf);
    for (const i of bytes.keys()) batch.add(1 + i, 1);
    sender.sendGathered(PEER, batch, 0);
  }
  // It is the caller's again.
  buf.fill(98);
}
