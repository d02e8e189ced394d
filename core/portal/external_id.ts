/**
 * The form in which a device's id goes to the portal.
 * @module
 */

import { createHash } from "node:crypto";
import type { Era } from "./outgoing.ts";

/** A UUID in any of its textual forms: hyphenated, bare, braced, as URN. */
const UUID =
  /^(?:[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}|urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i;

/**
 * The `external_id` of a device: the hex SHA-256 of its id.
 *
 * A v2 portal wants ids that are not UUIDs as they are; portals before it want all hashed. Getting
 * it wrong makes the portal see another device.
 */
export function externalId(era: Era, id: string): string {
  if (era === "v2" && !UUID.test(id)) return id;
  return createHash("sha256").update(id, "utf8").digest("hex");
}
