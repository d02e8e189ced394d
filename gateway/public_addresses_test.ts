import { assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { isPublicAddress } from "./public_addresses.ts";

Deno.test("isPublicAddress tells what means the same everywhere", () => {
  const table: [string, boolean][] = [
    ["1.1.1.1", true],
    ["100.63.255.255", true],
    ["100.128.0.0", true],
    ["172.32.0.1", true],
    ["2606:4700::1111", true],
    ["0.0.0.0", false],
    ["10.255.255.255", false],
    ["100.64.0.0", false],
    ["100.127.255.255", false],
    ["127.0.0.1", false],
    ["169.254.169.254", false],
    ["172.16.0.1", false],
    ["172.31.255.255", false],
    ["192.168.0.1", false],
    ["224.0.0.251", false],
    ["255.255.255.255", false],
    ["::", false],
    ["::1", false],
    ["::ffff:1.1.1.1", false],
    ["fd00:2021:1111::1", false],
    ["fe80::1", false],
    ["ff02::1", false],
  ];
  for (const [text, isPublic] of table) {
    const { family, bytes } = ip(text);
    assertEquals(isPublicAddress(family, bytes, 0), isPublic, text);
  }
});
