/**
 * Ids of the hardware, by which an administrator can verify that a device is what it says.
 *
 * They go to the portal and nowhere else: never into a log.
 * @module
 */

import type { HardwareIds } from "@firezone/core/portal";

const DMI = "/sys/class/dmi/id";

/** A serial number that some virtual machines share; it identifies nothing. */
const PLACEHOLDER_SERIAL = "123456789";

/** What the firmware says of this machine; empty where we may not know (Linux tells root alone). */
export function readHardwareIds(directory: string = DMI): HardwareIds {
  const serial = readLine(`${directory}/product_serial`);
  const uuid = readLine(`${directory}/product_uuid`);
  return {
    ...(serial === undefined || serial === PLACEHOLDER_SERIAL ? {} : { serial }),
    ...(uuid === undefined ? {} : { uuid }),
  };
}

function readLine(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path).trim() || undefined;
  } catch {
    return undefined;
  }
}
