import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { TunWrite } from "../os/linux/mod.ts";
import { TunWriter } from "./tun_writer.ts";

/** A device that takes a number of packets and is full then. */
class FakeTun {
  readonly taken: number[] = [];
  room = Infinity;

  write(buf: Uint8Array, start: number, length: number): TunWrite {
    if (buf[start] === 0xff) return TunWrite.Refused;
    if (this.room === 0) return TunWrite.WouldBlock;
    this.room--;
    assertEquals(length, 2);
    this.taken.push(buf[start + 1]!);
    return TunWrite.Written;
  }
}

function put(writer: TunWriter, number: number): void {
  const buf = new Uint8Array([9, 9, 0, number, 9]);
  writer.write(buf, 2, 2);
  buf.fill(0xaa); // it was only lent
}

Deno.test("TunWriter keeps what the device does not take, and everything after it, in order", () => {
  const tun = new FakeTun();
  const writer = new TunWriter(tun);
  tun.room = 1;
  for (let i = 0; i < 4; i++) put(writer, i);
  assertEquals([tun.taken, writer.isBlocked], [[0], true]);
  tun.room = 2;
  put(writer, 4); // must not overtake those that wait although there is room
  assertEquals(tun.taken, [0]);
  writer.retry();
  assertEquals([tun.taken, writer.isBlocked], [[0, 1, 2], true]);
  tun.room = Infinity;
  writer.retry();
  put(writer, 5);
  assertEquals([tun.taken, writer.isBlocked], [[0, 1, 2, 3, 4, 5], false]);
  assertEquals(writer.counters, { delayed: 4, lost: 0, refused: 0 });
});

Deno.test("TunWriter loses the newest when too much waits, and what the kernel refuses", () => {
  const tun = new FakeTun();
  const writer = new TunWriter(tun, 6);
  tun.room = 0;
  for (let i = 0; i < 5; i++) put(writer, i);
  tun.room = Infinity;
  writer.retry();
  writer.write(new Uint8Array([0xff, 0]), 0, 2);
  assertEquals(tun.taken, [0, 1, 2]);
  assertEquals(writer.counters, { delayed: 3, lost: 2, refused: 1 });
});

Deno.test("TunWriter never reorders, whenever there is room", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 100 }), (rooms) => {
      const tun = new FakeTun();
      const writer = new TunWriter(tun);
      rooms.forEach((room, i) => {
        tun.room = room;
        if (i % 3 === 0) writer.retry();
        put(writer, i);
      });
      tun.room = Infinity;
      writer.retry();
      assertEquals(tun.taken, rooms.map((_, i) => i));
    }),
  );
});
