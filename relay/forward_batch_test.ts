import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { type SocketAddress, socketAddress } from "@firezone/core/ip";
import { type GatherBatch, SendResult } from "@firezone/core/os/linux";
import { FIRST_CHANNEL } from "@firezone/core/turn";
import { ForwardBatch } from "./forward_batch.ts";
import { BufferedSenders } from "./buffered_sender.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };
const PEERS = Array.from({ length: 20 }, (_, i) => socketAddress(`192.0.2.9:${7000 + i}`));
const [A, B] = PEERS as [SocketAddress, SocketAddress];

Deno.test({
  name: "ForwardBatch sends what came for one destination at once, with and without a header",
  ...onLinux,
  fn() {
    const rig = new Rig();
    const [one, two] = [rig.socket(), rig.socket()];
    rig.batch.add(one, A, 0, 10, 13);
    rig.batch.addFramed(two, B, 2, FIRST_CHANNEL, 20, 22);
    rig.batch.add(one, A, 0, 30, 33);
    rig.batch.addFramed(two, B, 2, FIRST_CHANNEL, 40, 42);
    assertEquals(rig.sends, []);
    rig.batch.flush();
    assertEquals(rig.sends, [
      { socket: 0, to: A.key, ecn: 0, bytes: [10, 11, 12, 30, 31, 32], segment: 3 },
      {
        socket: 1,
        to: B.key,
        ecn: 2,
        bytes: [0x40, 0, 0, 2, 20, 21, 0x40, 0, 0, 2, 40, 41],
        segment: 6,
      },
    ]);
    rig.batch.flush();
    assertEquals(rig.sends.length, 2);
  },
});

Deno.test({
  name: "ForwardBatch keeps a destination's order, whatever lengths, marks and neighbours",
  ...onLinux,
  fn() {
    const packet = fc.record({
      to: fc.nat(PEERS.length - 1),
      socket: fc.nat(1),
      length: fc.oneof(fc.constant(9), fc.nat(12)),
      ecn: fc.oneof(fc.constant(0), fc.nat(3)),
      flush: fc.oneof(fc.constant(false), fc.boolean()),
    });
    fc.assert(fc.property(fc.array(packet, { maxLength: 200 }), (packets) => {
      const rig = new Rig();
      const sockets = [rig.socket(), rig.socket()];
      const expected = new Map<string, string[]>();
      for (const [i, { to, socket, length, ecn, flush }] of packets.entries()) {
        const start = i % 200;
        rig.batch.add(sockets[socket]!, PEERS[to]!, ecn, start, start + length);
        const bytes = Array.from({ length }, (_, k) => start + k);
        const way = `${socket} ${PEERS[to]!.key}`;
        expected.set(way, [...expected.get(way) ?? [], `${ecn}: ${bytes.join()}`]);
        if (flush) rig.batch.flush();
      }
      rig.batch.flush();
      const got = new Map<string, string[]>();
      for (const { socket, to, ecn, bytes, segment } of rig.sends) {
        const datagrams = got.get(`${socket} ${to}`) ?? [];
        for (let at = 0; at === 0 || at < bytes.length; at += Math.max(1, segment)) {
          datagrams.push(`${ecn}: ${bytes.slice(at, at + segment).join()}`);
        }
        got.set(`${socket} ${to}`, datagrams);
      }
      assertEquals([...got].sort(), [...expected].sort());
    }));
  },
});

Deno.test({
  name: "ForwardBatch allocates nothing",
  ...onLinux,
  fn() {
    const rig = new Rig();
    rig.isQuiet = true;
    const socket = rig.socket();
    const round = () => {
      for (let i = 0; i < 1000; i++) {
        rig.batch.add(socket, PEERS[i % 4]!, 0, 0, 9);
        rig.batch.addFramed(socket, PEERS[i % 4 + 4]!, 0, FIRST_CHANNEL, 0, 9);
        if (i % 30 === 0) rig.batch.flush();
      }
      rig.batch.flush();
    };
    for (let i = 0; i < 100; i++) round();
    const growth: number[] = [];
    for (let i = 0; i < 21; i++) {
      const before = Deno.memoryUsage().heapUsed;
      round();
      growth.push(Deno.memoryUsage().heapUsed - before);
    }
    growth.sort((a, b) => a - b);
    assert(growth[10]! < 8000, `grew by ${growth[10]} bytes per 2000 packets`);
  },
});

interface Send {
  readonly socket: number;
  readonly to: string;
  readonly ecn: number;
  readonly bytes: readonly number[];
  readonly segment: number;
}

/** A batch over a buffer in which each byte is its own offset, in front of sockets that take all. */
class Rig {
  readonly batch = new ForwardBatch(Uint8Array.from({ length: 256 }, (_, i) => i));
  readonly sends: Send[] = [];
  isQuiet = false;
  readonly #senders = new BufferedSenders();
  #sockets = 0;

  socket() {
    const socket = this.#sockets++;
    return this.#senders.open(
      {
        accepted: 0,
        send: () => SendResult.Refused,
        sendGathered: (_source, to, batch, ecn) => {
          if (!this.isQuiet) this.#note(socket, to, batch, ecn);
          return SendResult.Sent;
        },
      },
      undefined,
      1000,
    );
  }

  #note(socket: number, to: SocketAddress, batch: GatherBatch, ecn: number): void {
    const bytes = [...batch.copy(0)];
    this.sends.push({ socket, to: to.key, ecn, bytes, segment: batch.segmentSize });
  }
}
