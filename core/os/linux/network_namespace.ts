/**
 * Which network namespace a thread is in.
 * @module
 */

import { closeFd, type Fd } from "./fd.ts";
import { libc } from "./libc.ts";
import { Memory } from "./memory.ts";

const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;

/**
 * A number that no other network namespace has or had since the machine was started, in hex.
 *
 * @returns `undefined` where the kernel has no such number (before Linux 5.14)
 */
export function networkNamespaceCookie(): string | undefined {
  const fd = libc.socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  const value = new Memory(8);
  const length = new Memory(4);
  length.u32[0] = 8;
  const result = libc.getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, value.bytes, length.bytes);
  closeFd(fd as Fd);
  return result === 0 ? value.view.getBigUint64(0, true).toString(16) : undefined;
}
