/**
 * The id by which the portal knows this device.
 * @module
 */

import { checkGivenId, type IdFile, loadOrCreateId } from "@firezone/core/cli";

/** The file that keeps the id, as `{"id": "…"}`. */
export const DEFAULT_DEVICE_ID_PATH: string = Deno.build.os === "windows"
  ? `${
    Deno.env.get("ProgramData") ?? "C:\\ProgramData"
  }\\dev.firezone.client\\config\\firezone-id.json`
  : "/var/lib/dev.firezone.client/config/firezone-id.json";

/**
 * The id that was given, or else the one in the file, which is made if it is not there.
 *
 * @param given from `--firezone-id` or `FIREZONE_ID`
 * @throws ConfigError if the id cannot be used, read or saved
 */
export function loadDeviceId(
  given: string | undefined,
  path: string = DEFAULT_DEVICE_ID_PATH,
): string {
  if (given !== undefined) return checkGivenId(given);
  return loadOrCreateId(jsonIdFile(path), "set FIREZONE_ID or --firezone-id");
}

function jsonIdFile(path: string): IdFile {
  return {
    path,
    format: (id) => JSON.stringify({ id }) + "\n",
    parse: (text) => {
      try {
        const { id } = JSON.parse(text);
        return typeof id === "string" && id !== "" ? id : undefined;
      } catch {
        return undefined;
      }
    },
  };
}
