/**
 * What this process may do with a file, found out without touching it (faccessat(2)).
 * @module
 */

import { osError } from "./errno.ts";
import { cString, libc } from "./libc.ts";

const AT_FDCWD = -100;
const AT_EACCESS = 0x200;
const W_OK = 2;

/**
 * Asks the system whether a file may be written, or files be made in a folder. Rules of a security
 * module that only looks at what is opened are not asked.
 *
 * @throws OsError when it may not, or is not there
 */
export function requireWritable(path: string): void {
  if (libc.faccessat(AT_FDCWD, cString(path), W_OK, AT_EACCESS) < 0) throw osError("access", path);
}
