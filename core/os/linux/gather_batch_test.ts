import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { GatherBatch } from "./gather_batch.ts";
import { MAX_SEGMENTS, MAX_SEND_BYTES } from "./udp_constants.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "GatherBatch admits only what the kernel can cut apart again",
  ...onLinux,
  fn() {
    const part = fc.record({
      length: fc.oneof(fc.nat(3), fc.nat(1500), fc.nat(65_507)),
      prefixed: fc.boolean(),
    });
    fc.assert(fc.property(fc.array(part, { maxLength: 200 }), (parts) => {
      const batch = new GatherBatch(new Uint8Array(65_536));
      const taken: number[] = [];
      for (const { length, prefixed } of parts) {
        const size = prefixed ? length + 4 : length;
        if (prefixed ? batch.addPrefixed(1, 0, length) : batch.add(0, length)) taken.push(size);
        else {
          assert(taken.length > 0, "an empty batch admits anything");
          break;
        }
      }
      assertEquals(batch.count, taken.length);
      assertEquals(batch.bytes, taken.reduce((sum, n) => sum + n, 0));
      assert(taken.length <= MAX_SEGMENTS);
      assert(taken.length < 2 || batch.bytes <= MAX_SEND_BYTES);
      assertEquals(taken.slice(0, -1).every((n) => n === batch.segmentSize), true);
      assert(taken.length === 0 || taken.at(-1)! <= batch.segmentSize);
      assert(taken.length < 2 || taken.at(-1)! > 0, "an empty segment would vanish");
    }));
  },
});

Deno.test({
  name: "GatherBatch copies what it would have sent, from any datagram on",
  ...onLinux,
  fn() {
    const part = fc.record({ offset: fc.nat(1000), prefixed: fc.boolean() });
    const buffer = Uint8Array.from({ length: 1100 }, (_, i) => i * 7);
    fc.assert(fc.property(fc.array(part, { maxLength: 30 }), fc.nat(30), (parts, skip) => {
      // As a part of a larger buffer, as receive slots may be.
      const whole = new Uint8Array(1200);
      whole.set(buffer, 100);
      const batch = new GatherBatch(whole.subarray(100));
      const expected: number[] = [];
      for (const [i, { offset, prefixed }] of parts.entries()) {
        if (prefixed) {
          batch.addPrefixed(0x4000_0000 + i, offset, 46);
          expected.push(0x40, 0, 0, i, ...buffer.subarray(offset, offset + 46));
        } else {
          batch.add(offset, 50);
          expected.push(...buffer.subarray(offset, offset + 50));
        }
      }
      const from = Math.min(skip, parts.length) * 50;
      assertEquals([...batch.copy(from)], expected.slice(from));
    }));
  },
});
