/**
 * What describes the process in everything that it tells a collector (the "resource").
 * @module
 */

import { ConfigError } from "../config_error.ts";
import type { Attributes } from "./attributes.ts";

/** Variables that override attributes. */
export interface ResourceVariables {
  /** `OTEL_SERVICE_NAME`: replaces `service.name` whatever else says so. */
  readonly serviceName?: string | undefined;
  /** `OTEL_RESOURCE_ATTRIBUTES`: `name=value,…`, values with percent escapes. */
  readonly attributes?: string | undefined;
}

/**
 * The attributes of a process: the program's own, overridden by those of the operator.
 *
 * @throws ConfigError for `OTEL_RESOURCE_ATTRIBUTES` that is not of the form above
 */
export function resourceAttributes(own: Attributes, variables: ResourceVariables): Attributes {
  const { serviceName } = variables;
  return {
    "telemetry.sdk.name": "firezone",
    "telemetry.sdk.language": "typescript",
    ...own,
    ...parseResourceAttributes(variables.attributes ?? ""),
    ...(serviceName ? { "service.name": serviceName } : {}),
  };
}

/** Reads the form of `OTEL_RESOURCE_ATTRIBUTES`. @throws ConfigError */
export function parseResourceAttributes(text: string): Attributes {
  const attributes: Record<string, string> = {};
  for (const pair of text.split(",").map((p) => p.trim()).filter((p) => p !== "")) {
    const at = pair.indexOf("=");
    const name = pair.slice(0, at).trim();
    if (at < 1 || name === "") refuse(pair);
    try {
      attributes[decodeURIComponent(name)] = decodeURIComponent(pair.slice(at + 1).trim());
    } catch {
      refuse(pair);
    }
  }
  return attributes;
}

function refuse(pair: string): never {
  throw new ConfigError(
    `Cannot understand ${JSON.stringify(pair)} in OTEL_RESOURCE_ATTRIBUTES: ` +
      "expected name=value pairs with commas between them",
  );
}
