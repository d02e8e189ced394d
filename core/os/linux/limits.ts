/**
 * Resource limits of the process (getrlimit(2)).
 * @module
 */

import { osError } from "./errno.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const RLIMIT_NOFILE = 7;

/**
 * Raises the number of descriptors that may be open to what the system allows this process.
 *
 * @returns the limit from now on @throws OsError
 */
export function raiseFileLimit(): number {
  // struct rlimit (bits/resource.h), 16 bytes: u64 soft, u64 hard
  const limit = new Memory(16);
  if (libc.getrlimit(RLIMIT_NOFILE, limit.bytes) < 0) throw osError("getrlimit", "open files");
  const hard = limit.view.getBigUint64(8, true);
  if (limit.view.getBigUint64(0, true) < hard) {
    limit.view.setBigUint64(0, hard, true);
    if (libc.setrlimit(RLIMIT_NOFILE, limit.bytes) < 0) throw osError("setrlimit", "open files");
  }
  return Number(hard);
}
