import { assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import {
  attributeNumber,
  attributeText,
  NetlinkWriter,
  parseAttributes,
  parseNetlinkMessages,
} from "./netlink_message.ts";
import {
  parseAddress,
  parseChange,
  parseLink,
  parseRoute,
  parseRule,
  RTM,
} from "./rtnetlink_codec.ts";
import { parseTable } from "./nf_tables_codec.ts";

Deno.test("NetlinkWriter pads, nests and measures as linux/netlink.h says", () => {
  const bytes = new NetlinkWriter()
    .begin(0x1234, 0x5678, 9)
    .header(Uint8Array.of(1, 2))
    .u8(3, 7)
    .nest(4, (w) => w.text(5, "abc").u32(6, 0x01020304))
    .begin(1, 0, 10)
    .u32be(7, 0x01020304)
    .finish();
  assertEquals(
    bytes.toHex(),
    "30000000" + "3412" + "7856" + "09000000" + "00000000" + // header: 48 bytes
      "01020000" + // fixed header, padded
      "0500" + "0300" + "07000000" + // u8, padded
      "1400" + "0480" + // nest of 20 bytes
      "0800" + "0500" + "61626300" + // text with NUL
      "0800" + "0600" + "04030201" + // host order
      "18000000" + "0100" + "0000" + "0a000000" + "00000000" +
      "0800" + "0700" + "01020304", // network order
  );
});

Deno.test("parseNetlinkMessages and parseAttributes undo NetlinkWriter", () => {
  const attribute = fc.tuple(fc.integer({ min: 1, max: 100 }), fc.uint8Array({ maxLength: 300 }));
  const message = fc.record({
    type: fc.integer({ min: 0, max: 0xffff }),
    attributes: fc.uniqueArray(attribute, { selector: ([type]) => type, maxLength: 20 }),
  });
  fc.assert(fc.property(fc.array(message, { maxLength: 10 }), (messages) => {
    const w = new NetlinkWriter();
    messages.forEach(({ type, attributes }, i) => {
      w.begin(type, i, i + 1000).header(new Uint8Array(8));
      for (const [kind, value] of attributes) w.attribute(kind, value);
    });
    const parsed = parseNetlinkMessages(w.finish());
    assertEquals(parsed.map((m) => [m.type, m.flags, m.sequence]), [
      ...messages.map((m, i) => [m.type, i, i + 1000]),
    ]);
    parsed.forEach((m, i) => {
      const expected = new Map(messages[i]!.attributes);
      assertEquals(
        new Map([...parseAttributes(m.body, 8)].map(([k, v]) => [k, v.toHex()])),
        new Map([...expected].map(([k, v]) => [k, v.toHex()])),
      );
    });
  }));
});

Deno.test("Netlink parsers take any bytes without throwing", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(40), (bytes, type) => {
    for (const message of parseNetlinkMessages(bytes)) parseChange(message);
    const message = { type, flags: 0, sequence: 0, body: bytes };
    for (const parse of [parseLink, parseAddress, parseRoute, parseRule, parseTable, parseChange]) {
      parse(message);
    }
    for (const value of parseAttributes(bytes, 0).values()) {
      attributeNumber(value);
      attributeText(value);
    }
  }));
});

Deno.test("parseRoute refuses a prefix longer than its address", () => {
  const body = new Uint8Array(12);
  body.set([2, 33, 0, 0, 254, 4, 0, 1]);
  assertEquals(parseRoute({ type: RTM.NEWROUTE, flags: 0, sequence: 0, body }), undefined);
});

Deno.test("NetlinkWriter refuses a message that ends inside a nest", () => {
  assertThrows(() => new NetlinkWriter().begin(1, 0, 1).nest(1, (w) => w.finish()), Error, "nest");
});
