/**
 * The socket of a service manager, for tests.
 * @module
 */

import { closeFd, type Fd } from "../fd.ts";
import { libc } from "../libc.ts";

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const MSG_DONTWAIT = 0x40;

/** Takes what services say. */
export class NotifyListener implements Disposable {
  readonly #fd: Fd;

  /** Listens at a path, or at an abstract name that begins with `@`. */
  constructor(name: string) {
    this.#fd = libc.socket(AF_UNIX, SOCK_DGRAM, 0) as Fd;
    const path = new TextEncoder().encode(name.replace(/^@/, "\0"));
    const address = new Uint8Array(2 + path.length);
    address[0] = AF_UNIX;
    address.set(path, 2);
    if (libc.bind(this.#fd, address, address.length) < 0) throw new Error(`Cannot bind ${name}`);
  }

  /** What has come, oldest first. */
  take(): string[] {
    const messages: string[] = [];
    const buffer = new Uint8Array(4096);
    for (let n; (n = libc.recv(this.#fd, buffer, buffer.length, MSG_DONTWAIT)) >= 0;) {
      messages.push(new TextDecoder().decode(buffer.subarray(0, n)));
    }
    return messages;
  }

  /** Stops listening. */
  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
