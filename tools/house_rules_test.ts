import { assertEquals } from "@std/assert";
import houseRules, { FLOORS, SHELLS } from "./house_rules.ts";

const root = new URL("../", import.meta.url);

/** What the rules say of a file with this text, by its path from the root. */
function findings(path: string, text: string): string[] {
  return Deno.lint.runPlugin(houseRules, new URL(path, root).pathname, text)
    .map(({ id, message }) => `${id}: ${message}`);
}

Deno.test("a room may import what is below it, and nothing beside or above", () => {
  const cases: [path: string, specifier: string, refusal?: string][] = [
    ["core/ice/agent.ts", "../stun/mod.ts"],
    ["core/ice/agent.ts", "./pair.ts"],
    ["core/ice/agent.ts", "node:crypto"],
    ["core/ice/agent.ts", "@noble/hashes/sha1.js"],
    ["core/stun/message.ts", "../ice/mod.ts", "core/stun may not import core/ice"],
    ["core/ice/agent.ts", "../wireguard/mod.ts", "core/ice may not import core/wireguard"],
    ["core/telemetry/resource.ts", "../cli/errors.ts", "core/telemetry may not import core/cli"],
    ["core/ip/packet.ts", "../../client/mod.ts", "core/ip may not import client"],
    ["client/cli.ts", "@firezone/core/cli"],
    ["client/cli.ts", "@firezone/core/units"],
    ["client/cli.ts", "@firezone/gateway", "client may not import gateway"],
    ["relay/cli.ts", "../portal/cli.ts", "relay may not import portal"],
    ["relay/cli.ts", "@firezone/tests/requirements", "relay may not import tests"],
    ["tools/netns.ts", "@firezone/tests/requirements"],
    ["tests/mod.ts", "@firezone/tools"],
    ["tools/pack.ts", "@firezone/client"],
    ["relay/cli_test.ts", "../portal/cli.ts"],
  ];
  for (const [path, specifier, refusal] of cases) {
    const expected = refusal === undefined ? [] : [`house/layers: ${refusal}: arrows point down`];
    for (const what of ["import type { A } from", "export type { A } from", "export type * from"]) {
      assertEquals(findings(path, `${what} "${specifier}";`), expected, `${path} ${specifier}`);
    }
  }
  assertEquals(findings("core/new/x.ts", "export {};"), [
    "house/layers: core/new/x.ts is on no floor",
  ]);
});

Deno.test("a pure file uses nothing that the world would have to give, a shell may", () => {
  const cases: [text: string, what: string][] = [
    ["export const now = Date.now();", "Date.now"],
    ["export const now = new Date();", "new Date()"],
    ["export const f = (now = performance.now) => now();", "performance.now"],
    ["export const x = Math.random();", "Math.random"],
    ["setTimeout(f, 1);", "setTimeout"],
    ["queueMicrotask(f);", "queueMicrotask"],
    ["export const id = crypto.randomUUID();", "crypto.randomUUID"],
    ["console.log(1);", "console.log"],
    ["export const e = Deno.env;", "Deno.env"],
    ["await fetch(url);", "fetch"],
    ["export const w = new Worker(url);", "new Worker"],
    ['import net from "node:net";', "node:net is imported"],
    ['import { readFileSync } from "node:fs";', "node:fs is imported"],
    ['import { randomBytes } from "node:crypto";', "randomBytes"],
    ['import { logging } from "@firezone/core/os/linux";', "core/os/linux is imported"],
    ['export * from "@firezone/core/runtime";', "core/runtime is imported"],
    ['import { loadToken } from "./os/token.ts";', "client/os/token.ts is imported"],
  ];
  for (const [text, what] of cases) {
    assertEquals(findings("client/client_state.ts", text), [`house/pure: ${what} in a pure file`]);
    for (const shell of ["client/main.ts", "client/os/token.ts", "client/x_test.ts"]) {
      assertEquals(findings(shell, text), [], `${shell}: ${text}`);
    }
  }
});

Deno.test("a pure file may name types of shells, and what merely looks like the world", () => {
  const texts = [
    'import type { Fd } from "@firezone/core/os/linux";',
    'export type { Fd } from "@firezone/core/os/linux";',
    "export const at = new Date(millis).toISOString();",
    "export const half = Math.floor(x / 2);",
    "export const x = { fetch: 1, console: 2 }; x.fetch; this.crypto.seal();",
    'import { createHmac } from "node:crypto";',
    "export let timer: ReturnType<typeof setTimeout>;",
  ];
  for (const text of texts) assertEquals(findings("client/client_state.ts", text), [], text);
});

Deno.test("every room and every shell that the rules name is there", async () => {
  for (const path of [...FLOORS.flat(), ...SHELLS]) await Deno.stat(new URL(path, root));
});
