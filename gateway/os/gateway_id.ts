/**
 * The id by which the portal knows this gateway.
 * @module
 */

import { checkGivenId, loadOrCreateId } from "@firezone/core/cli";

/** The file that keeps the id, as bare text. */
export const DEFAULT_GATEWAY_ID_PATH = "/var/lib/firezone/gateway_id";

/**
 * The id that was given, or else the one in the file, which is made if it is not there.
 *
 * @param given from `--firezone-id` or `FIREZONE_ID`
 * @throws ConfigError if the id cannot be used, read or saved
 */
export function loadGatewayId(
  given: string | undefined,
  path: string = DEFAULT_GATEWAY_ID_PATH,
): string {
  if (given !== undefined) return checkGivenId(given);
  return loadOrCreateId({
    path,
    format: (id) => id,
    parse: (text) => /^[\x21-\x7e]{1,256}$/.test(text.trim()) ? text.trim() : undefined,
  }, "set FIREZONE_ID or --firezone-id");
}
