import { assertEquals } from "@std/assert";
import fc from "fast-check";
import { toDomain } from "./domain.ts";

Deno.test("toDomain brings names to one form and refuses what is none", () => {
  const table: [string, string | undefined][] = [
    ["Host.Example.COM", "host.example.com"],
    ["host.example.com.", "host.example.com"],
    ["nas", "nas"],
    ["_ldap._tcp.corp.example", "_ldap._tcp.corp.example"],
    ["xn--bcher-kva.example", "xn--bcher-kva.example"],
    ["1.2.3.4.example", "1.2.3.4.example"],
    ["", undefined],
    [".", undefined],
    ["a..b", undefined],
    ["-a.b", undefined],
    ["a b", undefined],
    ["bücher.example", undefined],
    ["a/../b", undefined],
    ["a".repeat(64), undefined],
    [Array(64).fill("abc").join("."), undefined],
    ["10.0.0.1", undefined],
    ["127.1", undefined],
    ["2130706433", undefined],
    ["0x7f000001", undefined],
    ["host.0x1", undefined],
    ["fd00::1", undefined],
  ];
  for (const [text, domain] of table) assertEquals(toDomain(text), domain, text);
});

Deno.test("toDomain takes any text and is idempotent", () => {
  fc.assert(fc.property(fc.oneof(fc.string(), fc.domain()), (text) => {
    const domain = toDomain(text);
    if (domain !== undefined) assertEquals(toDomain(domain), domain);
  }));
});
