/**
 * What can be wrong between the values of a configuration file: names and tokens that occur twice,
 * names that refer to nothing.
 *
 * It looks at the document as written, whatever its shape, so that these mistakes are listed
 * together with those of shape.
 * @module
 */

import type { Path } from "./document.ts";
import { nearest } from "./mistake.ts";
import { describeValue, parseDnsServer, parseToken } from "./values.ts";

type Report = (path: Path, message: string) => void;
type Entry = { readonly path: Path; readonly value: Readonly<Record<string, unknown>> };

/** Reports every mistake between values. */
export function checkReferences(value: unknown, report: Report): void {
  const root = record(value) ?? {};
  const sites = entries(root, "sites");
  const accounts = entries(root, "accounts");
  const resources = entries(root, "resources");
  checkUnique(sites, "name", "site", report);
  checkUnique(accounts, "name", "account", report);
  checkUnique(resources, "name", "resource", report, "Internet");
  checkUnique([...sites, ...accounts, ...resources], "id", "entry", report);
  checkTokens(root, sites, accounts, report);
  checkInternet(resources, report);
  for (const { path, value } of resources) {
    checkNames(value.sites, [...path, "sites"], "site", names(sites), report);
  }
  for (const { path, value } of entries(root, "policies")) {
    checkNames(value.accounts, [...path, "accounts"], "account", names(accounts), report, true);
    checkNames(
      value.resources,
      [...path, "resources"],
      "resource",
      names(resources, "Internet"),
      report,
      true,
    );
  }
  checkUpstream(root, report);
}

function checkUnique(
  list: readonly Entry[],
  key: "name" | "id",
  what: string,
  report: Report,
  fallback?: string,
): void {
  const seen = new Map<string, Path>();
  for (const { path, value } of list) {
    const text = keyText(value, key, fallback);
    if (text === undefined) continue;
    const first = seen.get(text);
    if (first === undefined) seen.set(text, path);
    else {
      report([...path, key], `another ${what} has the ${key} ${describeValue(text)} already`);
    }
  }
}

/** Two uses of one token would make it a matter of luck who its bearer is. */
function checkTokens(
  root: Readonly<Record<string, unknown>>,
  sites: readonly Entry[],
  accounts: readonly Entry[],
  report: Report,
): void {
  const lists: [Path, unknown][] = [
    ...sites.map((
      { path, value },
    ): [Path, unknown] => [[...path, "gateway_tokens"], value.gateway_tokens]),
    [["relay_tokens"], root.relay_tokens],
    ...accounts.map(({ path, value }): [Path, unknown] => [[...path, "tokens"], value.tokens]),
  ];
  const seen = new Map<string, string>();
  for (const [path, list] of lists) {
    if (!Array.isArray(list)) continue;
    for (const [i, text] of list.entries()) {
      const token = typeof text === "string" ? parseToken(text) : undefined;
      if (!token?.ok) continue;
      const first = seen.get(token.value);
      const place = `${placeText(path)}[${i}]`;
      if (first === undefined) seen.set(token.value, place);
      else report([...path, i], `the same token is already at ${first}: each must be unique`);
    }
  }
}

function checkInternet(resources: readonly Entry[], report: Report): void {
  const internet = resources.filter(({ value }) => value.type === "internet");
  for (const { path } of internet.slice(1)) {
    report(path, 'expected at most one resource of type "internet"');
  }
}

function checkNames(
  value: unknown,
  path: Path,
  what: string,
  known: ReadonlySet<string>,
  report: Report,
  mayBeAll = false,
): void {
  if (!Array.isArray(value)) return;
  const seen = new Set<string>();
  for (const [i, name] of value.entries()) {
    if (typeof name !== "string") continue;
    const here = [...path, i];
    if (seen.has(name)) report(here, `${describeValue(name)} occurs twice in this list`);
    seen.add(name);
    if (name === "*" && mayBeAll) {
      if (value.length > 1) report(here, 'expected "*" alone, because it means all');
    } else if (!known.has(name)) {
      const guess = nearest(name, known);
      const hint = guess ? `: did you mean ${describeValue(guess)}?` : "";
      report(here, `there is no ${what} named ${describeValue(name)}${hint}`);
    }
  }
}

/** Clients use one kind of server; with both kinds they would silently ignore one. */
function checkUpstream(root: Readonly<Record<string, unknown>>, report: Report): void {
  const list = record(root.dns)?.upstream;
  if (!Array.isArray(list)) return;
  let first: boolean | undefined;
  for (const [i, text] of list.entries()) {
    const server = typeof text === "string" ? parseDnsServer(text) : undefined;
    if (!server?.ok) continue;
    first ??= server.value.doh;
    if (first !== server.value.doh) {
      report(["dns", "upstream", i], "expected either IP addresses or URLs, not both");
    }
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Record<string, unknown>
    : undefined;
}

function entries(root: Readonly<Record<string, unknown>>, key: string): Entry[] {
  const list = root[key];
  if (!Array.isArray(list)) return [];
  return list.flatMap((item, i) => {
    const value = record(item);
    return value ? [{ path: [key, i], value }] : [];
  });
}

function names(list: readonly Entry[], fallback?: string): Set<string> {
  return new Set(list.flatMap(({ value }) => keyText(value, "name", fallback) ?? []));
}

/** The text at a key; the Internet resource has a name even where it is not written. */
function keyText(
  value: Readonly<Record<string, unknown>>,
  key: string,
  fallback?: string,
): string | undefined {
  const text = value[key];
  if (typeof text === "string") return text;
  return key === "name" && value.type === "internet" ? fallback : undefined;
}

function placeText(path: Path): string {
  return path.map((key) => typeof key === "number" ? `[${key}]` : `.${key}`).join("").slice(1);
}
