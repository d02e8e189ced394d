import { assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { ip } from "@firezone/core/ip";
import { checkPorts, chooseEndpoints } from "./config.ts";
import { LOOPBACK } from "./peer_policy.ts";

const nothing = { public4: undefined, public6: undefined, bind4: undefined, bind6: undefined };

Deno.test("chooseEndpoints lets loopback stand in for a standalone relay only", () => {
  const standalone = chooseEndpoints(nothing, true, true);
  assertEquals(standalone.v4?.public.text, "127.0.0.1");
  assertEquals(standalone.v4?.bind.text, "127.0.0.1");
  assertEquals(standalone.v6?.public.text, "::1");
  assertEquals(standalone.allowedPeers, LOOPBACK);
  assertEquals(chooseEndpoints(nothing, true, false).v6, undefined);
  assertThrows(() => chooseEndpoints(nothing, false, true), ConfigError, "--public-ip4-addr");
});

Deno.test("chooseEndpoints serves the families that have a public address", () => {
  const given = { ...nothing, public6: ip("2001:db8::1"), bind4: ip("10.0.0.1") };
  const endpoints = chooseEndpoints(given, false, true);
  assertEquals(endpoints.v4, undefined);
  assertEquals(endpoints.v6?.bind.text, "::");
  assertEquals(endpoints.allowedPeers, []);
  const both = { ...given, public4: ip("203.0.113.1") };
  assertEquals(chooseEndpoints(both, true, true).v4?.bind.text, "10.0.0.1");
});

Deno.test("chooseEndpoints allows loopback peers where the relay itself is on loopback alone", () => {
  const local = { ...nothing, public4: ip("127.0.0.1") };
  assertEquals(chooseEndpoints(local, true, true).allowedPeers, LOOPBACK);
  const mixed = { ...local, public6: ip("2001:db8::1") };
  assertEquals(chooseEndpoints(mixed, true, true).allowedPeers, []);
});

Deno.test("checkPorts refuses an empty range", () => {
  assertEquals(checkPorts(50_000, 50_000), { lowest: 50_000, highest: 50_000 });
  assertThrows(() => checkPorts(50_001, 50_000), ConfigError, "--lowest-port");
});

Deno.test("chooseEndpoints refuses public addresses where nobody can be reached", () => {
  for (const text of ["0.0.0.0", "224.0.0.1", "255.255.255.255"]) {
    const given = { ...nothing, public4: ip(text) };
    assertThrows(() => chooseEndpoints(given, true, true), ConfigError, text);
  }
  for (const text of ["::", "ff02::1"]) {
    const given = { ...nothing, public4: ip("203.0.113.1"), public6: ip(text) };
    assertThrows(() => chooseEndpoints(given, false, true), ConfigError, `at ${text}:`);
  }
});
