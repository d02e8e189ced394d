import { assertEquals, assertThrows } from "@std/assert";
import { socketAddress } from "../ip/address.ts";
import { TransmitQueue } from "./transmit_queue.ts";

const TO = socketAddress("203.0.113.1:1");
const FROM = socketAddress("203.0.113.2:2");

Deno.test("TransmitQueue hands out what was committed and pushed, in order", () => {
  const queue = new TransmitQueue();
  const at = queue.reserve(FROM, TO, 10);
  queue.buffer.set([1, 2, 3], at);
  queue.commit(3);
  queue.push({ source: undefined, destination: FROM, payload: new Uint8Array([4]) });
  assertEquals(queue.length, 2);
  assertEquals(queue.pollTransmit(), {
    source: FROM,
    destination: TO,
    payload: new Uint8Array([1, 2, 3]),
  });
  assertEquals(queue.pollTransmit()?.payload, new Uint8Array([4]));
  assertEquals(queue.pollTransmit(), undefined);
});

Deno.test("TransmitQueue drops a reservation that the next one replaces", () => {
  const queue = new TransmitQueue();
  queue.reserve(FROM, TO, 10);
  queue.buffer.set([7], queue.reserve(FROM, TO, 1));
  queue.commit(1);
  assertEquals(queue.length, 1);
});

Deno.test("TransmitQueue refuses to commit what was not reserved", () => {
  const queue = new TransmitQueue();
  assertThrows(() => queue.commit(1), Error, "Cannot commit");
  queue.reserve(FROM, TO, 2);
  assertThrows(() => queue.commit(3), Error, "Cannot commit");
  queue.commit(2);
  assertThrows(() => queue.commit(1), Error, "Cannot commit");
  assertThrows(() => queue.reserve(FROM, TO, 65_537), RangeError);
});
