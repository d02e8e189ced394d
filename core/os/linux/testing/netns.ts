/**
 * Network namespaces for tests: real interfaces and traffic that the machine never sees.
 *
 * A socket belongs to the namespace that its thread was in when it was opened. So one test, in one
 * thread, can hold the sockets of several machines: it enters a namespace, opens, and comes back.
 * @module
 */

import { osError } from "../errno.ts";
import type { Fd } from "../fd.ts";
import { closeFd } from "../fd.ts";
import { cString, libc } from "../libc.ts";

const O_RDONLY = 0;
const O_CLOEXEC = 0o2000000;
const CLONE_NEWNET = 0x40000000;

// Opened with the module: opened by the first test, it would count as that test's leak.
const library = Deno.build.os === "linux"
  ? Deno.dlopen("libc.so.6", { setns: { parameters: ["i32", "i32"], result: "i32" } })
  : undefined;
let count = 0;

/** A namespace that lives until it is disposed of. */
export class TestNetns {
  /** Its name for `ip netns`. */
  readonly name: string;

  /** Creates one with its loopback up. @param label short, for messages of tools */
  constructor(label: string) {
    this.name = `osl-${Deno.pid}-${count++}-${label}`;
    run("ip", "netns", "add", this.name);
    this.ip("link", "set", "lo", "up");
  }

  /** Runs `ip` inside. */
  ip(...args: string[]): string {
    return run("ip", "-n", this.name, ...args);
  }

  /** Runs a command inside and returns what it printed. */
  exec(command: string, ...args: string[]): string {
    return run("ip", "netns", "exec", this.name, command, ...args);
  }

  /** Calls `fn` with this thread inside; `fn` must not be asynchronous. */
  enter<T>(fn: () => T): T {
    const here = openPath("/proc/thread-self/ns/net");
    try {
      const there = openPath(`/run/netns/${this.name}`);
      setns(there);
      closeFd(there);
      try {
        return fn();
      } finally {
        setns(here);
      }
    } finally {
      closeFd(here);
    }
  }

  /** Removes it with all its interfaces. */
  [Symbol.dispose](): void {
    run("ip", "netns", "delete", this.name);
  }
}

/** Joins two namespaces with a cable whose ends are up. */
export function connect(
  a: { readonly ns: TestNetns; readonly name: string; readonly addresses: readonly string[] },
  b: { readonly ns: TestNetns; readonly name: string; readonly addresses: readonly string[] },
): void {
  a.ns.ip("link", "add", a.name, "type", "veth", "peer", "name", b.name, "netns", b.ns.name);
  for (const { ns, name, addresses } of [a, b]) {
    for (const address of addresses) {
      const options = address.includes(":") ? ["nodad"] : [];
      ns.ip("address", "add", address, "dev", name, ...options);
    }
    ns.ip("link", "set", name, "up");
  }
}

function run(command: string, ...args: string[]): string {
  const out = new Deno.Command(command, { args, stdout: "piped", stderr: "piped" }).outputSync();
  if (!out.success) {
    const said = new TextDecoder().decode(out.stderr).trim();
    throw new Error(`${command} ${args.join(" ")}: ${said}`);
  }
  return new TextDecoder().decode(out.stdout);
}

function openPath(path: string): Fd {
  const fd = libc.open(cString(path), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) throw osError("open", path);
  return fd as Fd;
}

function setns(fd: Fd): void {
  if (library!.symbols.setns(fd, CLONE_NEWNET) < 0) throw osError("setns", "network namespace");
}
