/**
 * What we tell the portal about the machine that we run on.
 * @module
 */

/** What is told about the machine. */
export interface HostInfo {
  /** `Linux`, `Windows`. */
  readonly os: string;
  /** Version of the system or its kernel. */
  readonly osVersion: string;
  /** `x86_64`, `aarch64`. */
  readonly arch: string;
}

/** The machine we run on. */
export function hostInfo(): HostInfo {
  const names: Readonly<Record<string, string>> = {
    linux: "Linux",
    windows: "Windows",
    darwin: "Mac OS",
  };
  return {
    os: names[Deno.build.os] ?? Deno.build.os,
    osVersion: Deno.osRelease(),
    arch: Deno.build.arch,
  };
}
