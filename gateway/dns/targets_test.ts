import { assertEquals } from "@std/assert";
import { ip } from "@firezone/core/ip";
import { isUsableTarget } from "./targets.ts";

Deno.test("isUsableTarget refuses the gateway itself and other clients, not private networks", () => {
  const table: [string, boolean][] = [
    ["10.0.0.1", true],
    ["192.168.1.1", true],
    ["192.0.2.1", true],
    ["2001:db8::1", true],
    ["fd00:1::1", true],
    ["0.0.0.0", false],
    ["127.0.0.53", false],
    ["169.254.169.254", false],
    ["fe80::1", false],
    ["100.64.0.2", false],
    ["100.96.0.1", false],
    ["224.0.0.1", false],
    ["255.255.255.255", false],
    ["::", false],
    ["::1", false],
    ["::ffff:127.0.0.1", false],
    ["fd00:2021:1111::2", false],
    ["fd00:2021:1111:8000::1", false],
    ["ff02::1", false],
  ];
  for (const [text, usable] of table) assertEquals(isUsableTarget(ip(text)), usable, text);
});
