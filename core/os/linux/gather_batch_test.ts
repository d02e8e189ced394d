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
