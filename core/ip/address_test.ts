import { assertEquals, assertStrictEquals } from "@std/assert";
import fc from "fast-check";
import {
  IpAddress,
  parseIpAddress,
  parsePrefix,
  parseSocketAddress,
  Prefix,
  SocketAddress,
  SocketAddressCache,
} from "./address.ts";

const anyIp = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
).map((bytes) => new IpAddress(bytes));

Deno.test("IPv6 text follows RFC 5952", () => {
  const cases = [
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:0DB8::0001", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["::ffff:192.0.2.1", "::ffff:c000:201"],
  ];
  for (const [input, text] of cases) assertEquals(parseIpAddress(input!)?.text, text);
});

Deno.test("parseIpAddress undoes text, for any address", () => {
  fc.assert(fc.property(anyIp, (ip) => assertEquals(parseIpAddress(ip.text)?.bytes, ip.bytes)));
});

Deno.test("parseSocketAddress undoes key, for any endpoint", () => {
  fc.assert(fc.property(anyIp, fc.integer({ min: 0, max: 65535 }), (ip, port) => {
    const address = new SocketAddress(ip, port);
    assertEquals(parseSocketAddress(address.key)?.key, address.key);
  }));
});

Deno.test("malformed addresses are refused, not thrown at", () => {
  const bad = [
    "",
    "1.2.3",
    "1.2.3.256",
    "01.2.3.4",
    ":::",
    "1::2::3",
    "g::",
    "1:2:3:4:5:6:7",
    "::1%lo",
  ];
  for (const text of bad) assertEquals(parseIpAddress(text), undefined, text);
  for (const text of ["1.2.3.4", "1.2.3.4:", "::1:80", "[1.2.3.4]:80", "1.2.3.4:65536"]) {
    assertEquals(parseSocketAddress(text), undefined, text);
  }
  for (const text of ["10.0.0.0/33", "::/129", "10.0.0.0/", "/8", "10.0.0.0/-1"]) {
    assertEquals(parsePrefix(text), undefined, text);
  }
  fc.assert(fc.property(fc.string(), (text) => {
    parseIpAddress(text);
    parseSocketAddress(text);
    parsePrefix(text);
  }));
});

Deno.test("Prefix clears host bits and knows what it contains", () => {
  const prefix = parsePrefix("10.1.2.3/12")!;
  assertEquals(prefix.text, "10.0.0.0/12");
  assertEquals(prefix.contains(parseIpAddress("10.15.255.255")!), true);
  assertEquals(prefix.contains(parseIpAddress("10.16.0.0")!), false);
  assertEquals(prefix.contains(parseIpAddress("::a0f:ffff")!), false);
  assertEquals(new Prefix(parseIpAddress("::")!, 0).contains(parseIpAddress("ffff::")!), true);
});

Deno.test("SocketAddressCache lends one object per endpoint and stays bounded", () => {
  const cache = new SocketAddressCache(4);
  const bytes = new Uint8Array([0, 192, 0, 2, 1]);
  const first = cache.get(4, bytes, 1, 3478);
  assertEquals(first.key, "192.0.2.1:3478");
  assertStrictEquals(cache.get(4, bytes, 1, 3478), first);
  for (let port = 1; port <= 4; port++) cache.get(4, bytes, 1, port);
  assertEquals(cache.get(4, bytes, 1, 3478).equals(first), true);
});
