import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { type SocketAddress, socketAddress } from "../ip/address.ts";
import { type DatagramSink, SendBatch, SinkResult } from "./send_batch.ts";

const A = socketAddress("192.0.2.1:1");
const B = socketAddress("192.0.2.2:2");
const C = socketAddress("[2001:db8::1]:3");

Deno.test("SendBatch sends what one destination gets in one send, with a shorter last segment", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  for (const length of [100, 100, 100, 40]) put(batch, A, length, length);
  assertEquals(sink.sends, []);
  batch.flush();
  assertEquals(sink.sends, [{ to: A.key, lengths: [100, 100, 100, 40] }]);
  batch.flush();
  assertEquals(sink.sends.length, 1, "nothing is left");
  assertEquals(batch.counters, { datagrams: 4, sends: 1, dropped: 0 });
});

Deno.test("SendBatch starts another send after a shorter datagram, and for a longer one", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  for (const length of [100, 50, 100, 200, 200]) put(batch, A, length, 0);
  batch.flush();
  assertEquals(sink.sends.map((s) => s.lengths), [[100, 50], [100], [200, 200]]);
});

Deno.test("SendBatch sends a single datagram without a segment size", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  put(batch, A, 100, 0);
  batch.flush();
  assertEquals(sink.segmentSizes, [0]);
});

Deno.test("SendBatch keeps within 64 segments and 65507 bytes", () => {
  for (const length of [10, 1316]) {
    const sink = new FakeSink();
    const batch = new SendBatch(sink);
    for (let i = 0; i < 200; i++) put(batch, A, length, 0);
    batch.flush();
    assertEquals(sink.sends.flatMap((s) => s.lengths).length, 200);
    for (const { lengths } of sink.sends) {
      assert(lengths.length <= 64 && lengths.length * length <= 65_507);
    }
    assertEquals(sink.sends[0]!.lengths.length, length === 10 ? 64 : 49);
  }
});

Deno.test("SendBatch collects for several destinations at once, and flushes the idlest for another", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink, { lanes: 2 });
  for (let i = 0; i < 3; i++) {
    put(batch, A, 100, 0);
    put(batch, B, 100, 0);
  }
  put(batch, C, 100, 0);
  assertEquals(sink.sends, [{ to: A.key, lengths: [100, 100, 100] }]);
  batch.flush();
  assertEquals(sink.sends.map((s) => s.to).toSorted(), [A.key, B.key, C.key].toSorted());
});

Deno.test("SendBatch does not mix sources or ECN marks in one send", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  const parts = [[A, 0], [A, 0], [B, 0], [A, 0], [A, 1], [undefined, 1]] as const;
  for (const [source, ecn] of parts) {
    batch.reserve(source, C, 10, ecn);
    batch.commit(10);
  }
  batch.flush();
  assertEquals(sink.sends.map((s) => s.lengths.length), [2, 1, 1, 1, 1]);
});

Deno.test("SendBatch forgets a reservation that is not committed, and takes less than reserved", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  batch.reserve(undefined, A, 500);
  batch.reserve(undefined, A, 500);
  batch.commit(0);
  put(batch, A, 100, 0);
  batch.reserve(undefined, A, 100);
  batch.commit(60);
  assertThrows(() => batch.commit(1), RangeError);
  assertThrows(() => batch.reserve(undefined, A, 65_508), RangeError);
  batch.flush();
  assertEquals(sink.sends.map((s) => s.lengths), [[100, 60]]);
});

Deno.test("SendBatch sends control datagrams in order with the packets of their destination", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  put(batch, A, 100, 1);
  batch.transmit({ source: undefined, destination: A, payload: new Uint8Array(100).fill(2) });
  batch.transmit({ source: undefined, destination: A, payload: new Uint8Array(148).fill(3) });
  put(batch, A, 100, 4);
  batch.flush();
  assertEquals(sink.received(A), [[100, 1], [100, 2], [148, 3], [100, 4]]);
});

Deno.test("SendBatch keeps what a full sink did not take, and everything behind it, in order", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  for (let i = 0; i < 5; i++) put(batch, A, 100, i);
  put(batch, C, 100, 9);
  sink.room = 3;
  batch.flush();
  assertEquals(sink.received(A).length, 3);
  assert(batch.isBlocked && batch.isFamilyBlocked(4));
  for (let i = 5; i < 8; i++) put(batch, A, 100, i);
  batch.flush();
  sink.room = 1;
  batch.flush();
  assertEquals(sink.received(A).length, 4);
  sink.room = Infinity;
  batch.flush();
  assertEquals(sink.received(A), Array.from({ length: 8 }, (_, i) => [100, i]));
  assertEquals(sink.received(C), [[100, 9]]);
  assert(!batch.isBlocked);
  assertEquals(batch.counters.dropped, 0);
});

Deno.test("SendBatch lets the other IP version pass a socket that is full", () => {
  const sink = new FakeSink();
  sink.fullFamilies.add(4);
  const batch = new SendBatch(sink);
  put(batch, A, 100, 1);
  put(batch, C, 100, 2);
  batch.flush();
  assertEquals(sink.received(C), [[100, 2]]);
  assert(batch.isFamilyBlocked(4) && !batch.isFamilyBlocked(6));
});

Deno.test("SendBatch drops the oldest past its bound, and counts them", () => {
  const sink = new FakeSink();
  sink.room = 0;
  const batch = new SendBatch(sink, { queueBytes: 1000 });
  for (let i = 0; i < 30; i++) {
    put(batch, A, 100, i);
    batch.flush();
  }
  assertEquals(batch.counters.dropped, 20);
  sink.room = Infinity;
  batch.flush();
  assertEquals(sink.received(A), Array.from({ length: 10 }, (_, i) => [100, 20 + i]));
});

Deno.test("SendBatch goes on after a datagram that the sink refuses", () => {
  const sink = new FakeSink();
  const batch = new SendBatch(sink);
  sink.isRefusing = true;
  put(batch, A, 100, 1);
  batch.flush();
  sink.isRefusing = false;
  put(batch, A, 100, 2);
  batch.flush();
  assertEquals(sink.received(A), [[100, 2]]);
  assert(!batch.isBlocked);
});

Deno.test("SendBatch delivers every datagram once and in order to each destination, however full the sink", () => {
  const step = fc.oneof(
    {
      weight: 10,
      arbitrary: fc.tuple(fc.constantFrom(A, B, C), fc.integer({ min: 1, max: 2000 })),
    },
    { weight: 2, arbitrary: fc.constant("flush" as const) },
    { weight: 2, arbitrary: fc.nat(70) },
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 300 }),
      fc.integer({ min: 1, max: 4 }),
      (steps, lanes) => {
        const sink = new FakeSink();
        const batch = new SendBatch(sink, { lanes });
        const expected = new Map([A, B, C].map((to) => [to.key, [] as [number, number][]]));
        let mark = 0;
        for (const step of steps) {
          if (step === "flush") batch.flush();
          else if (typeof step === "number") sink.room = step;
          else {
            const [to, length] = step;
            mark = (mark + 1) & 0xff;
            put(batch, to, length, mark);
            expected.get(to.key)!.push([length, mark]);
          }
        }
        sink.room = Infinity;
        batch.flush();
        for (const to of [A, B, C]) assertEquals(sink.received(to), expected.get(to.key)!);
      },
    ),
  );
});

/** Adds a datagram filled with `mark`. */
function put(batch: SendBatch, to: SocketAddress, length: number, mark: number): void {
  const at = batch.reserve(undefined, to, length);
  batch.buffer.fill(mark, at, at + length);
  batch.commit(length);
}

/** Takes `room` datagrams, then says that it is full. */
class FakeSink implements DatagramSink {
  accepted = 0;
  room = Infinity;
  isRefusing = false;
  readonly fullFamilies = new Set<number>();
  readonly sends: { to: string; lengths: number[] }[] = [];
  readonly segmentSizes: number[] = [];
  readonly #received = new Map<string, [number, number][]>();

  received(to: SocketAddress): [number, number][] {
    return this.#received.get(to.key) ?? [];
  }

  send(
    _source: SocketAddress | undefined,
    destination: SocketAddress,
    buf: Uint8Array,
    start: number,
    length: number,
    segmentSize: number,
    _ecn: number,
  ): SinkResult {
    this.accepted = 0;
    if (this.isRefusing) return SinkResult.Refused;
    const lengths: number[] = [];
    const size = segmentSize || length;
    const list = this.received(destination);
    this.#received.set(destination.key, list);
    this.segmentSizes.push(segmentSize);
    for (let at = 0; at < length; at += size) {
      if (this.room <= 0 || this.fullFamilies.has(destination.family)) break;
      this.room--;
      const n = Math.min(size, length - at);
      const marks = new Set(buf.subarray(start + at, start + at + n));
      assertEquals(marks.size, 1, "bytes of one datagram only");
      list.push([n, [...marks][0]!]);
      lengths.push(n);
      this.accepted += n;
    }
    if (lengths.length > 0) this.sends.push({ to: destination.key, lengths });
    return this.accepted < length ? SinkResult.WouldBlock : SinkResult.Sent;
  }
}
