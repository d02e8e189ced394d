/**
 * What `/etc/resolv.conf` says (resolv.conf(5)).
 *
 * Pure: takes and gives texts. Lines that nobody understands are kept as they are.
 * @module
 */

import { IpAddress, isLinkLocal, parseIpAddress } from "../../ip/address.ts";

/** The parts of the file that matter here. */
export interface ResolvConf {
  /** Servers in order, without repetitions, and without link-local ones on an unknown interface. */
  readonly nameservers: readonly IpAddress[];
  /** Search domains; of several lines the last counts, as it does for the resolver. */
  readonly search: readonly string[];
}

/** Reads a file's text, whatever it is. */
export function parseResolvConf(text: string): ResolvConf {
  const nameservers = new Map<string, IpAddress>();
  let search: readonly string[] = [];
  for (const line of text.split("\n")) {
    const [keyword, ...values] = words(line);
    if (keyword === "nameserver") {
      const address = toNameserver(values[0] ?? "");
      if (address && !nameservers.has(address.text)) nameservers.set(address.text, address);
    } else if (keyword === "search" || keyword === "domain") search = values;
  }
  return { nameservers: [...nameservers.values()], search };
}

/**
 * The address of a server; one that is link-local needs an interface to be reached by.
 *
 * @param text with or without an interface behind `%`
 * @param interfaceName that is meant where the text names none
 */
export function toNameserver(text: string, interfaceName = ""): IpAddress | undefined {
  const [bare, named = ""] = text.split("%", 2);
  const address = parseIpAddress(bare!);
  if (!address || !isLinkLocal(address)) return address;
  const zone = named === "" ? interfaceName : named;
  return zone === "" ? undefined : new IpAddress(address.bytes, zone);
}

/**
 * The same file with other servers, and with a search domain before the others.
 *
 * @param header lines to begin with, without the final newline
 */
export function withNameservers(
  text: string,
  header: string,
  servers: readonly IpAddress[],
  searchDomain: string | undefined,
): string {
  const kept = text.split("\n").filter((line) => {
    const keyword = words(line)[0];
    if (keyword === "search" || keyword === "domain") return searchDomain === undefined;
    return keyword !== "nameserver";
  });
  while (kept.at(-1) === "") kept.pop();
  const search = searchDomain === undefined
    ? []
    : [`search ${[...new Set([searchDomain, ...parseResolvConf(text).search])].join(" ")}`];
  const ours = servers.map((server) => `nameserver ${server}`);
  return [header, ...ours, ...search, ...kept, ""].join("\n");
}

/** Keyword and values; the resolver only knows keywords that begin a line. */
function words(line: string): string[] {
  return /^[a-z]/.test(line) ? line.replace(/[#;].*$/, "").trim().split(/\s+/) : [];
}
