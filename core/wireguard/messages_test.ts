import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  MessageType,
  messageType,
  peekReceiverIndex,
  readDataCounter,
  writeDataHeader,
} from "./messages.ts";

Deno.test("messageType and peekReceiverIndex take any bytes", () => {
  fc.assert(fc.property(
    fc.uint8Array({ maxLength: 200 }),
    fc.nat(5),
    fc.nat(30),
    (body, type, start) => {
      const buf = new Uint8Array([...new Uint8Array(start), type, 0, 0, 0, ...body]);
      for (const at of [start, 0]) {
        const found = messageType(buf, at, buf.length);
        const index = peekReceiverIndex(buf, at, buf.length);
        assertEquals(index === undefined, found === undefined || found === MessageType.Initiation);
      }
    },
  ));
});

Deno.test("messageType wants the exact length of control messages and at least an empty data message", () => {
  const lengths: [MessageType, number[]][] = [[1, [148]], [2, [92]], [3, [64]], [4, [
    32,
    33,
    1312,
  ]]];
  for (const [type, good] of lengths) {
    for (const length of [0, 3, 4, 31, 32, 33, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1312]) {
      const buf = new Uint8Array(length);
      if (length > 0) buf[0] = type;
      const isGood = good.includes(length) || type === 4 && length >= 32;
      assertEquals(messageType(buf, 0, length), isGood ? type : undefined, `${type} ${length}`);
    }
  }
  const reserved = new Uint8Array(148);
  reserved.set([1, 0, 0, 1]);
  assertEquals(messageType(reserved, 0, 148), undefined);
});

Deno.test("the header of data messages reads back, for all counters", () => {
  fc.assert(fc.property(
    fc.nat({ max: 2 ** 32 - 1 }),
    fc.maxSafeNat(),
    fc.nat(9),
    (index, counter, offset) => {
      const buf = new Uint8Array(offset + 32);
      writeDataHeader(buf, offset, index, counter);
      assertEquals(peekReceiverIndex(buf, offset, buf.length), index);
      assertEquals(readDataCounter(buf, offset), counter);
    },
  ));
  const far = new Uint8Array(32).fill(0xff);
  assert(readDataCounter(far, 0) >= 2 ** 53);
});
