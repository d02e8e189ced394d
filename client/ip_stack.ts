/**
 * The families that a DNS resource is reached by.
 * @module
 */

import type { Family } from "@firezone/core/ip";
import type { IpStack } from "@firezone/core/portal";

/** Whether a name of a resource has addresses of a family. */
export function hasFamily(stack: IpStack, family: Family): boolean {
  return stack === "dual" || stack === (family === 4 ? "ipv4_only" : "ipv6_only");
}
