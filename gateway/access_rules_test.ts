import { assert, assertEquals } from "@std/assert";
import { prefix } from "@firezone/core/ip";
import type { Filter, GatewayResource } from "@firezone/core/portal";
import { AccessRulesPool } from "./access_rules.ts";
import { AccessTable } from "./access_table.ts";

const SSH: Filter = { protocol: "tcp", portStart: 22, portEnd: 22 };

function cidr(id: string, range: string, filters: Filter[] = []): GatewayResource {
  return { type: "cidr", id, name: id, prefix: prefix(range), filters };
}

function dns(id: string, pattern: string, filters: Filter[] = []): GatewayResource {
  return { type: "dns", id, name: id, pattern, ipStack: "dual", filters };
}

Deno.test("AccessRulesPool lends the same rules for the same resources, in any order", () => {
  const pool = new AccessRulesPool();
  const [net, name] = [cidr("net", "10.0.0.0/24", [SSH]), dns("name", "*.example")];
  const rules = pool.acquire([net, name]);
  assert(pool.acquire([{ ...name, name: "renamed" }, net]) === rules);
  const others: GatewayResource[][] = [
    [net],
    [name],
    [cidr("net", "10.0.0.0/25", [SSH]), name],
    [cidr("net", "10.0.0.0/24"), name],
    [net, dns("name", "*.example", [SSH])],
    [net, dns("name", "**.example")],
    [net, dns("other", "*.example")],
    [net, name, { type: "internet", id: "internet", name: "", filters: [] }],
  ];
  const all = new Set([rules, ...others.map((resources) => pool.acquire(resources))]);
  assertEquals([all.size, pool.size], [1 + others.length, 1 + others.length]);
});

Deno.test("many clients with the same resources have one set of rules, until the last is gone", () => {
  const pool = new AccessRulesPool();
  const tables = Array.from({ length: 1000 }, () => new AccessTable(pool));
  for (const table of tables) {
    table.allow(cidr("a", "10.0.0.0/24"), undefined);
    table.allow(cidr("b", "10.0.1.0/24"), undefined);
    table.allow(cidr("b", "10.0.1.0/24"), undefined); // prolonged
  }
  assertEquals(pool.size, 1);
  tables[0]!.update(cidr("b", "10.0.1.0/24", [SSH]));
  assertEquals(pool.size, 2);
  for (const table of tables) table.update(cidr("b", "10.0.1.0/24", [SSH]));
  assertEquals(pool.size, 1);
  for (const table of tables) for (const id of ["a", "b"]) table.revoke(id);
  assertEquals(pool.size, 0);
});
