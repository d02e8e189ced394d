import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { medianHeapGrowth } from "../testing/heap_growth.ts";
import {
  ChannelDataRef,
  FIRST_CHANNEL,
  LAST_CHANNEL,
  looksLikeChannelData,
  Parse,
  parseChannelData,
  toChannelNumber,
  writeChannelDataHeader,
} from "./channel_data.ts";

const channels = fc.integer({ min: FIRST_CHANNEL, max: LAST_CHANNEL }).map((n) =>
  toChannelNumber(n)!
);

Deno.test("parseChannelData undoes writeChannelDataHeader, with or without padding", () => {
  fc.assert(fc.property(
    channels,
    fc.uint8Array({ maxLength: 100 }),
    fc.nat(10),
    fc.nat(3),
    (channel, data, offset, padding) => {
      const buf = new Uint8Array(offset + 4 + data.length + padding);
      const start = writeChannelDataHeader(buf, offset, channel, data.length);
      buf.set(data, start);
      const out = new ChannelDataRef();
      assertEquals(parseChannelData(buf, offset, buf.length, out), Parse.Ok);
      assertEquals(out.channel, channel);
      assertEquals(buf.subarray(out.start, out.end), data);
      assert(looksLikeChannelData(buf, offset, buf.length));
    },
  ));
});

Deno.test("parseChannelData refuses without throwing and leaves the result alone", () => {
  const out = new ChannelDataRef();
  fc.assert(fc.property(fc.uint8Array({ maxLength: 12 }), fc.nat(12), (buf, start) => {
    Object.assign(out, { start: -1, end: -1 });
    if (parseChannelData(buf, start, buf.length, out) === Parse.Ok) {
      assert(out.start === start + 4 && out.start <= out.end && out.end <= buf.length);
    } else {
      assertEquals([out.start, out.end], [-1, -1]);
    }
  }));
});

Deno.test("parseChannelData names what is wrong", () => {
  const out = new ChannelDataRef();
  const cases: [number[], Parse][] = [
    [[], Parse.TooShort],
    [[0x40, 0, 0], Parse.TooShort],
    [[0x3f, 0xff, 0, 0], Parse.NotChannelNumber],
    [[0x50, 0, 0, 0], Parse.NotChannelNumber],
    [[0x40, 0, 0, 1], Parse.LengthPastEnd],
    [[0x4f, 0xff, 0, 0], Parse.Ok],
  ];
  for (const [bytes, code] of cases) {
    assertEquals(parseChannelData(new Uint8Array(bytes), 0, bytes.length, out), code);
  }
});

Deno.test("ChannelData framing allocates nothing", () => {
  const buf = new Uint8Array(1204);
  const out = new ChannelDataRef();
  const batch = () => {
    for (let i = 0; i < 1000; i++) {
      writeChannelDataHeader(buf, 0, FIRST_CHANNEL, 1200);
      parseChannelData(buf, 0, buf.length, out);
    }
  };
  const growth = medianHeapGrowth(batch, 4000);
  assert(growth < 4000, `grew by ${growth} bytes per 1000 messages`);
});
