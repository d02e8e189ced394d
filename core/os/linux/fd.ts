/**
 * File descriptors as a type of their own.
 * @module
 */

import type { Brand } from "../../units.ts";
import { libc } from "./libc.ts";

/** An open file descriptor. Valid in every thread of the process. */
export type Fd = Brand<number, "Fd">;

/** Closes a descriptor; errors have no remedy and are ignored. */
export function closeFd(fd: Fd): void {
  libc.close(fd);
}
