import { assert, assertEquals, assertThrows } from "@std/assert";
import { hex } from "../../bytes/mod.ts";
import type { AeadKey } from "../../crypto/mod.ts";
import { ip, packetMemory, SocketAddress } from "../../ip/mod.ts";
import { type ReceiveSlots, UdpSocket } from "../../os/linux/mod.ts";
import { seededRandom, testAead } from "../../testing/mod.ts";
import type { Millis } from "../../units.ts";
import { WireGuardNode, type WireGuardResult, WireGuardTunnel } from "../../wireguard/mod.ts";
import { SendBatch } from "../send_batch.ts";
import { CipherMemory, RECEIVE_SIZE } from "./cipher_memory.ts";
import { CipherPool } from "./cipher_pool.ts";
import { CipherThread } from "./cipher_thread.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };
const LOOPBACK = ip("127.0.0.1");
const PACKET = 1280;
const SEALED = PACKET + 32;
const INDEX = 0x8000_0001;
const KEY = new Uint8Array(32).fill(7);
const NOW = 1000 as Millis;

/** A pool whose threads do their jobs when the test says so. */
class Bench implements Disposable {
  readonly aead = testAead();
  readonly memory: CipherMemory;
  readonly pool: CipherPool;
  readonly threads: readonly CipherThread[];
  readonly socket: UdpSocket;
  readonly far = UdpSocket.open({ family: 4, address: LOOPBACK, port: 0, ...BUFFERS });
  readonly batch: SendBatch;
  readonly plain = packetMemory(65_536);

  constructor(threads = 2, memory = CipherMemory.create(threads)) {
    this.memory = memory;
    this.pool = new CipherPool(this.memory, this.aead);
    this.threads = Array.from(
      { length: threads },
      (_, i) => new CipherThread(this.memory, i, this.aead),
    );
    const { slots } = this.pool;
    this.socket = UdpSocket.open({ family: 4, port: 0, slots: slots[0], ...BUFFERS });
    this.pool.setSockets(this.socket.fd, undefined);
    this.batch = new SendBatch(this.socket, { sender: this.pool });
    seededRandom(5)(65_536).forEach((byte, i) => this.plain[i] = byte);
  }

  /** Writes a data message as `Session` does. */
  commit(key: AeadKey, counter: number, length = PACKET, padding = 0): void {
    const { batch } = this;
    const to = this.far.bound;
    const at = batch.reserve(undefined, to, length + padding + 32);
    writeHeader(batch.buffer, at, counter);
    key.seal(counter, this.plain, counter, counter + length, batch.buffer, at + 16, padding);
    batch.commit(length + padding + 32);
  }

  /** Lets the threads do all there is, turn by turn. */
  work(): void {
    for (let isBusy = true; isBusy;) {
      isBusy = false;
      for (const thread of this.threads) if (thread.step()) isBusy = true;
    }
  }

  /** Datagrams that came out at the far end. */
  arrived(): Uint8Array[] {
    const datagrams: Uint8Array[] = [];
    for (let n; (n = this.far.receive()) > 0;) {
      for (let m = 0; m < n; m++) datagrams.push(...cut(this.far, m));
    }
    return datagrams;
  }

  [Symbol.dispose](): void {
    this.socket.close();
    this.far.close();
  }
}

const BUFFERS = { receiveBuffer: 8 << 20, sendBuffer: 8 << 20 };

function cut(socket: UdpSocket, m: number): Uint8Array[] {
  const [start, end] = [socket.start(m), socket.start(m) + socket.length(m)];
  const step = socket.segmentSize(m);
  const datagrams: Uint8Array[] = [];
  for (let at = start; at < end; at += step) {
    datagrams.push(socket.buffer.slice(at, Math.min(at + step, end)));
  }
  return datagrams;
}

function writeHeader(buf: Uint8Array, at: number, counter: number): void {
  const view = new DataView(buf.buffer, buf.byteOffset + at, 16);
  view.setUint32(0, 4, true);
  view.setUint32(4, INDEX, true);
  view.setUint32(8, counter, true);
  view.setUint32(12, 0);
}

Deno.test({
  name: "CipherPool: threads seal and send lanes in the order in which they were filled",
  ...onLinux,
  fn() {
    using bench = new Bench(3);
    const key = bench.pool.key(KEY);
    const reference = bench.aead.key(KEY);
    const count = 49 * 5 + 13;
    for (let counter = 0; counter < count; counter++) bench.commit(key, counter);
    bench.batch.flush();
    assertEquals(bench.arrived().length, 0, "nothing is sent before a thread does it");
    bench.work();
    const arrived = bench.arrived();
    assertEquals(arrived.length, count);
    const opened = new Uint8Array(PACKET);
    for (const [counter, datagram] of arrived.entries()) {
      assertEquals(new DataView(datagram.buffer).getUint32(8, true), counter);
      assert(reference.open(counter, datagram, 16, datagram.length, opened, 0));
      assertEquals(opened, bench.plain.slice(counter, counter + PACKET));
    }
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: a lane is found although threads finish while the loop looks for one",
  ...onLinux,
  fn() {
    for (const threads of [1, 2, 3]) {
      using bench = new Bench(threads);
      const { memory, pool } = bench;
      const key = pool.key(KEY);
      for (let counter = 0; counter < 49 * 8 + 1; counter++) bench.commit(key, counter);
      // Whenever the loop asks what there is to do, everything is done before it gets the answer.
      const undisturbed = new CipherMemory(memory.buffer);
      memory.done = (thread) => undisturbed.done(thread);
      let isWorking = false;
      memory.submitted = (thread) => {
        if (!isWorking) {
          isWorking = true;
          bench.work();
          isWorking = false;
        }
        return undisturbed.submitted(thread);
      };
      pool.takeLane();
      key.dispose();
    }
  },
});

Deno.test({
  name: "CipherPool: a small burst is sent at once, but not before what threads still have",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const key = bench.pool.key(KEY);
    for (let counter = 0; counter < 3; counter++) bench.commit(key, counter);
    bench.batch.flush();
    assertEquals(bench.arrived().length, 3);
    for (let counter = 3; counter < 30; counter++) bench.commit(key, counter);
    bench.batch.flush();
    bench.commit(key, 30);
    bench.batch.flush();
    assertEquals(bench.arrived().length, 0);
    bench.work();
    const counters = bench.arrived().map((d) => new DataView(d.buffer).getUint32(8, true));
    assertEquals(counters, Array.from({ length: 28 }, (_, i) => 3 + i));
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: padding is zero, and a reservation that is not committed leaves nothing",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const key = bench.pool.key(KEY);
    const { batch } = bench;
    for (let counter = 0; counter < 20; counter++) {
      batch.buffer.fill(0xee, batch.reserve(undefined, bench.far.bound, SEALED + 15));
      const at = batch.reserve(undefined, bench.far.bound, SEALED);
      key.seal(999, bench.plain, 0, PACKET, batch.buffer, at + 16);
      bench.commit(key, counter, 1273, 7);
    }
    batch.flush();
    bench.work();
    const arrived = bench.arrived();
    assertEquals(arrived.length, 20);
    const opened = new Uint8Array(1280);
    for (const [counter, datagram] of arrived.entries()) {
      assert(bench.aead.key(KEY).open(counter, datagram, 16, datagram.length, opened, 0));
      assertEquals(opened.slice(0, 1273), bench.plain.slice(counter, counter + 1273));
      assertEquals(opened.slice(1273), new Uint8Array(7));
    }
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: a key that is forgotten still seals what was to be sealed with it",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const key = bench.pool.key(KEY);
    for (let counter = 0; counter < 20; counter++) bench.commit(key, counter);
    key.dispose();
    key.dispose();
    bench.batch.flush();
    bench.work();
    const opened = new Uint8Array(PACKET);
    for (const [counter, datagram] of bench.arrived().entries()) {
      assert(bench.aead.key(KEY).open(counter, datagram, 16, datagram.length, opened, 0));
    }
    const at = hex(new Uint8Array(bench.memory.buffer.slice(0)));
    assert(!at.includes(hex(KEY)), "the key is still in shared memory");
  },
});

/** Sends datagrams to the pool's socket in one message, receives them, and has threads open them. */
function receive(bench: Bench, datagrams: readonly Uint8Array[]): number[] {
  const { socket, pool } = bench;
  const slots = pool.slots[1];
  const places = receiveInto(bench, slots, datagrams);
  if (pool.beginOpening(slots, socket, 1)) {
    bench.work();
    pool.finishOpening(slots);
  }
  return places;
}

function receiveInto(
  bench: Bench,
  slots: ReceiveSlots,
  datagrams: readonly Uint8Array[],
): number[] {
  const length = datagrams[0]!.length;
  const all = new Uint8Array(datagrams.length * length);
  for (const [i, datagram] of datagrams.entries()) all.set(datagram, i * length);
  const to = new SocketAddress(LOOPBACK, bench.socket.localPort);
  bench.far.send(undefined, to, all, 0, all.length, length, 0);
  const { socket } = bench;
  socket.use(slots);
  assertEquals(socket.receive(), 1, "loopback keeps a GSO send together");
  return datagrams.map((_, i) => socket.start(0) + i * length);
}

function dataMessage(bench: Bench, counter: number): Uint8Array {
  const message = new Uint8Array(SEALED);
  writeHeader(message, 0, counter);
  bench.aead.key(KEY).seal(counter, bench.plain, counter, counter + PACKET, message, 16);
  return message;
}

Deno.test({
  name: "CipherPool: threads open what they have the key for, and mark what is forged",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const key = bench.pool.key(KEY, INDEX);
    const messages = Array.from({ length: 20 }, (_, i) => dataMessage(bench, i));
    messages[3]![200]! ^= 1;
    new DataView(messages[4]!.buffer).setUint32(4, 77, true); // of nobody
    const places = receive(bench, messages);
    const { buffer } = bench.socket;
    const opened = packetMemory(65_536);
    for (const [counter, at] of places.entries()) {
      const isOpen = key.open(counter, buffer, at + 16, at + SEALED, opened, 0);
      assertEquals(isOpen, counter !== 3, `message ${counter}`);
      if (!isOpen) continue;
      assertEquals(opened.slice(0, PACKET), bench.plain.slice(counter, counter + PACKET));
      // All but the one that names nobody was opened in place before.
      const inPlace = buffer.slice(at + 16, at + 16 + PACKET);
      assertEquals(
        hex(inPlace) === hex(opened.slice(0, PACKET)),
        counter !== 4,
        `message ${counter}`,
      );
    }
    bench.pool.endOpening();
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: messages are taken while threads still open those that came after them",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const { pool, socket } = bench;
    const key = pool.key(KEY, INDEX);
    const [first, second] = pool.slots;
    const messages = Array.from({ length: 40 }, (_, i) => dataMessage(bench, i));
    const places = receiveInto(bench, first, messages.slice(0, 20));
    assert(pool.beginOpening(first, socket, 1));
    bench.work();
    places.push(...receiveInto(bench, second, messages.slice(20)));
    assert(pool.beginOpening(second, socket, 1));
    const opened = packetMemory(65_536);
    const open = (counter: number) => {
      const at = places[counter]!;
      return key.open(counter, socket.buffer, at + 16, at + SEALED, opened, 0);
    };
    bench.memory.stop(); // so that it throws instead of waiting
    pool.finishOpening(first);
    for (let counter = 0; counter < 20; counter++) assert(open(counter), `message ${counter}`);
    assertThrows(() => pool.finishOpening(second), Error, "ended");
    bench.work();
    pool.finishOpening(second);
    for (let counter = 20; counter < 40; counter++) assert(open(counter), `message ${counter}`);
    pool.endOpening();
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: nothing waits for ever because a count has gone round",
  ...onLinux,
  fn() {
    const memory = CipherMemory.create(2);
    const start = -0x8000_0000;
    for (const thread of [0, 1]) {
      memory.words[memory.submitted(thread)] = memory.words[memory.done(thread)] = start;
    }
    memory.words[memory.turn] = start;
    using bench = new Bench(2, memory);
    const { pool, socket } = bench;
    const key = pool.key(KEY, INDEX);
    // Only one of the threads has ever had something to open.
    const messages = Array.from({ length: 20 }, (_, i) => dataMessage(bench, i));
    receiveInto(bench, pool.slots[0], messages);
    assert(pool.beginOpening(pool.slots[0], socket, 1));
    bench.work();
    memory.stop(); // so that it throws instead of waiting
    pool.finishOpening(pool.slots[0]);
    pool.endOpening();
    for (let counter = 0; counter < 49 * 20; counter++) {
      bench.commit(key, counter);
      bench.work();
    }
    bench.batch.flush();
    bench.work();
    assertEquals(bench.arrived().length, 49 * 20);
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: what was opened with one key does not open with another of the same index",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const key = bench.pool.key(KEY, INDEX);
    const places = receive(bench, Array.from({ length: 20 }, (_, i) => dataMessage(bench, i)));
    const other = bench.pool.key(KEY, INDEX);
    const { buffer } = bench.socket;
    const opened = packetMemory(65_536);
    assert(!other.open(0, buffer, places[0]! + 16, places[0]! + SEALED, opened, 0));
    assert(key.open(0, buffer, places[0]! + 16, places[0]! + SEALED, opened, 0));
    bench.pool.endOpening();
    assert(!key.open(1, buffer, places[1]! + 16, places[1]! + SEALED, opened, 0));
    key.dispose();
    other.dispose();
  },
});

Deno.test({
  name: "CipherPool: sessions accept nothing twice, also when threads have opened it",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const node = (seed: number, aead = bench.aead) =>
      new WireGuardNode({
        privateKey: seededRandom(seed)(32),
        aead,
        random: seededRandom(seed + 1),
        unixMillisAtZero: 0,
      });
    const [near, far] = [node(1, bench.pool), node(9)];
    const tunnel = (own: WireGuardNode, other: WireGuardNode, initiates: boolean) =>
      new WireGuardTunnel({ node: own, remotePublicKey: other.publicKey, initiates, now: NOW });
    const [a, b] = [tunnel(near, far, true), tunnel(far, near, false)];
    const out: WireGuardResult = { code: "dropped", length: 0 };
    const plain = packetMemory(65_536);
    a.initiate(NOW, true);
    const initiation = a.pollTransmit()!;
    far.identifyInitiation(NOW, bench.far.bound, initiation, 0, initiation.length);
    b.handle(NOW, initiation, 0, initiation.length, plain, 0, out);
    const response = b.pollTransmit()!;
    a.handle(NOW, response, 0, response.length, plain, 0, out);
    const keepalive = a.pollTransmit()!;
    b.handle(NOW, keepalive, 0, keepalive.length, plain, 0, out);
    assertEquals(out.code, "keepalive");

    const messages = Array.from({ length: 16 }, () => {
      const message = new Uint8Array(SEALED);
      assertEquals(b.seal(NOW, bench.plain, 0, PACKET, message, 0), SEALED);
      return message;
    });
    const order = [0, 1, 1, 2, 5, 3, 0, 4, 5, 6, 7, 8, 9, 10, 15, 11, 12, 15, 13];
    const places = receive(bench, order.map((i) => messages[i]!));
    const codes = places.map((at) => {
      a.handle(NOW, bench.socket.buffer, at, at + SEALED, plain, 0, out);
      return out.code === "data" ? "data" : out.reason;
    });
    bench.pool.endOpening();
    const expected = order.map((i, n) => order.indexOf(i) === n ? "data" : "replayed");
    assertEquals(codes, expected);
    a.dispose();
    b.dispose();
  },
});

Deno.test({
  name: "CipherPool: threads leave alone what is no data, whatever its lengths",
  ...onLinux,
  fn() {
    using bench = new Bench(1);
    const key = bench.pool.key(KEY, INDEX);
    const random = seededRandom(3);
    for (let length = 1; length < 120; length += 7) {
      const datagrams = Array.from({ length: 30 }, (_, i) => {
        const bytes = random(length).slice();
        // As ChannelData, as data messages, as anything.
        if (i % 3 === 0) bytes.set([0x40 | i & 0xf, 0, i, length - 4].slice(0, length));
        if (i % 3 === 1) bytes.set([4, 0, 0, 0, 1, 0, 0, 0x80].slice(0, length));
        return bytes;
      });
      const places = receive(bench, datagrams);
      for (const [i, at] of places.entries()) {
        const after = bench.socket.buffer.slice(at, at + length);
        if (i % 3 !== 1) assertEquals(after, datagrams[i]);
        else assert(!key.open(0, bench.socket.buffer, at + 16, at + length, bench.plain, 0));
      }
      bench.pool.endOpening();
    }
    assert(RECEIVE_SIZE >= bench.socket.buffer.length);
    key.dispose();
  },
});

Deno.test({
  name: "CipherPool: a lane keeps its source address and its ECN mark, over IPv6 as well",
  ...onLinux,
  fn() {
    using bench = new Bench();
    const far6 = UdpSocket.open({ family: 6, address: ip("::1"), port: 0, ...BUFFERS });
    const near6 = UdpSocket.open({ family: 6, port: 0, ...BUFFERS });
    bench.pool.setSockets(bench.socket.fd, near6.fd);
    const key = bench.pool.key(KEY);
    const cases = [
      { to: bench.far, from: new SocketAddress(ip("127.9.8.7"), 1) },
      { to: far6, from: new SocketAddress(ip("::1"), 1) },
    ];
    for (const { to, from } of cases) {
      for (let counter = 0; counter < 20; counter++) {
        const at = bench.batch.reserve(from, to.bound, SEALED, 2);
        writeHeader(bench.batch.buffer, at, counter);
        key.seal(counter, bench.plain, 0, PACKET, bench.batch.buffer, at + 16);
        bench.batch.commit(SEALED);
      }
    }
    bench.batch.flush();
    bench.work();
    for (const { to, from } of cases) {
      let datagrams = 0;
      for (let n; (n = to.receive()) > 0;) {
        for (let m = 0; m < n; m++) {
          assertEquals([to.from(m).ip.text, to.ecn(m)], [from.ip.text, 2]);
          datagrams += cut(to, m).length;
        }
      }
      assertEquals(datagrams, 20);
    }
    key.dispose();
    far6.close();
    near6.close();
  },
});
