/**
 * What a peer's User-Agent tells about it, and what follows for the messages it gets.
 *
 * Spec: portal-protocol §1.3 (form), §2.2.6 (payload keys), §8.6 (which gateway for which client).
 * @module
 */

/** Three numbers, the highest first. */
export type Version = readonly [major: number, minor: number, patch: number];

/** The programs that connect to a portal. */
export type Component =
  | "headless-client"
  | "gui-client"
  | "apple-client"
  | "android-client"
  | "connlib"
  | "gateway"
  | "relay";

/** A parsed User-Agent. */
export interface UserAgent {
  /** As sent, shortened to a sane length. */
  readonly text: string;
  /** First word: operating system and its version; for old relays the component itself. */
  readonly os: { readonly name: string; readonly version: string };
  /** Absent where the text names no known program in a readable version. */
  readonly component?: Component;
  /** Present together with `component`. */
  readonly version?: Version;
}

const COMPONENT =
  /(?:^| )(headless-client|gui-client|apple-client|android-client|connlib|gateway|relay)\/(\d{1,6})\.(\d{1,6})\.(\d{1,6})/;

/** Parses a User-Agent, whatever its text. */
export function parseUserAgent(text: string): UserAgent {
  const short = text.slice(0, 512);
  const match = COMPONENT.exec(short);
  const [name = "", version = ""] = (short.split(" ")[0] ?? "").split("/");
  const base = { text: short, os: { name, version } };
  if (!match) return base;
  return {
    ...base,
    component: match[1] as Component,
    version: [Number(match[2]), Number(match[3]), Number(match[4])],
  };
}

/** `1.5.0`, or an empty text where there is no version. */
export function versionText(version: Version | undefined): string {
  return version?.join(".") ?? "";
}

/** Whether `a` is `b` or newer. */
export function isAtLeast(a: Version, b: Version): boolean {
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return a[i]! > b[i]!;
  return true;
}

/** The first version that sets up connections as this portal does. */
const FIRST_WITH_FLOWS: Version = [1, 4, 0];

/** Whether a program of this version speaks the protocol at all; unknown versions may. */
export function speaksFlows(version: Version | undefined): boolean {
  return version === undefined || isAtLeast(version, FIRST_WITH_FLOWS);
}

/** Whether a client's and a gateway's version go together: same major, minors at most one apart. */
export function isCompatible(client: Version, gateway: Version | undefined): boolean {
  return gateway !== undefined && speaksFlows(gateway) && client[0] === gateway[0] &&
    Math.abs(client[1] - gateway[1]) <= 1;
}

/** The first version of each client that calls a resource's sites `sites`. */
const FIRST_WITH_SITES: Partial<Record<Component, Version>> = {
  "apple-client": [1, 5, 11],
  "headless-client": [1, 5, 6],
  "android-client": [1, 5, 8],
  "gui-client": [1, 5, 10],
};

/**
 * Whether a client expects `sites` and `site_id` instead of `gateway_groups` and
 * `gateway_group_id`; sending both is refused by newer ones, which accept either.
 */
export function wantsSites(agent: UserAgent): boolean {
  const first = FIRST_WITH_SITES[clientKind(agent)];
  return first !== undefined && agent.version !== undefined && isAtLeast(agent.version, first);
}

/** Older clients all call themselves `connlib`; their system tells them apart. */
function clientKind(agent: UserAgent): Component {
  if (agent.component !== "connlib") return agent.component ?? "connlib";
  if (/^(mac|ios|darwin)/i.test(agent.os.name)) return "apple-client";
  if (/^android/i.test(agent.os.name)) return "android-client";
  return "gui-client";
}
