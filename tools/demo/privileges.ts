/**
 * Finds a way to make network namespaces: as root, else as root of a user namespace of our own.
 * @module
 */

import { findCommand, whatIsMissing } from "@firezone/tests/requirements";

/** Set in the process that runs within the user namespace. */
const INSIDE = "FIREZONE_DEMO_INSIDE";

/** Why the demo cannot run here. */
export class PrivilegeError extends Error {
  /** Its class. */
  override readonly name = "PrivilegeError";
}

/**
 * Returns when this process may make namespaces.
 *
 * Otherwise starts the same program again in a user namespace, with processes, mounts and networks
 * of its own so that the kernel clears all of it away, and exits with its status.
 *
 * @throws {@link PrivilegeError} when neither is possible
 */
export async function ensurePrivileges(program: string, args: readonly string[]): Promise<void> {
  if (Deno.build.os !== "linux") throw new PrivilegeError(`needs Linux, not ${Deno.build.os}`);
  for (const command of ["ip", "unshare", "nsenter", "setpriv"]) {
    if (findCommand(command) === undefined) {
      const debianPackage = command === "ip" ? "iproute2" : "util-linux";
      throw new PrivilegeError(`needs the command ${command}: apt-get install ${debianPackage}`);
    }
  }
  const tun = whatIsMissing("tun");
  if (tun !== undefined) throw new PrivilegeError(`needs TUN devices: ${tun}`);
  if (Deno.env.get(INSIDE) !== undefined) return endWithParent();
  if (Deno.uid() === 0 && whatIsMissing("namespaces") === undefined) return;
  if (!canUseUserNamespace()) {
    throw new PrivilegeError(
      "needs root with CAP_SYS_ADMIN (sudo; docker run --privileged) or unprivileged user " +
        "namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, " +
        "kernel.apparmor_restrict_unprivileged_userns)",
    );
  }
  Deno.exit(await runInUserNamespace(program, args));
}

/** `ip netns` keeps names below /run and wants to remount; a private /run makes both possible. */
const WITH_PRIVATE_RUN = 'mount -t tmpfs tmpfs /run && exec "$@"';
const UNSHARE = [
  ...["--user", "--map-root-user", "--net", "--mount", "--pid", "--fork"],
  ...["--kill-child", "--mount-proc"],
];

function canUseUserNamespace(): boolean {
  return new Deno.Command("unshare", {
    args: [...UNSHARE, "--", "sh", "-c", WITH_PRIVATE_RUN, "sh", "ip", "netns", "add", "probe"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).outputSync().success;
}

async function runInUserNamespace(program: string, args: readonly string[]): Promise<number> {
  console.error("demo: not root, so it runs in a user namespace");
  const child = new Deno.Command("unshare", {
    args: [
      ...[...UNSHARE, "--", "sh", "-c", WITH_PRIVATE_RUN, "sh"],
      ...[Deno.execPath(), "run", "-A", program, ...args],
    ],
    env: { [INSIDE]: "1" },
    stdin: "piped",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  // The process inside ends when this pipe closes, also when we are killed.
  const end = () => void child.stdin.close().catch(() => {});
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    Deno.addSignalListener(signal, end);
  }
  return (await child.status).code;
}

/** Ends like after SIGTERM when the process outside is gone. */
function endWithParent(): void {
  const buffer = new Uint8Array(1);
  void Deno.stdin.read(buffer).catch(() => null).then(() => Deno.kill(Deno.pid, "SIGTERM"));
}
