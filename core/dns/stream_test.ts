import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { frameMessage, MessageReader } from "./stream.ts";

Deno.test("MessageReader yields what frameMessage framed, however the stream is cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 700 }), { maxLength: 8 });
  fc.assert(fc.property(messages, fc.array(fc.integer({ min: 1, max: 900 })), (messages, cuts) => {
    const stream = messages.flatMap((message) => [...frameMessage(message)]);
    const reader = new MessageReader();
    const got: Uint8Array[] = [];
    for (let at = 0, i = 0; at < stream.length; i++) {
      const end = at + (cuts[i] ?? stream.length);
      reader.push(new Uint8Array(stream.slice(at, end)));
      at = end;
      for (let message; (message = reader.poll()) !== undefined;) got.push(message);
    }
    assertEquals(got, messages);
  }));
});

Deno.test("frameMessage refuses what its length cannot say", () => {
  assertThrows(() => frameMessage(new Uint8Array(65_536)), RangeError);
});
