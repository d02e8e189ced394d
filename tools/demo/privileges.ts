/**
 * Finds a way to make network namespaces: as root, else as root of a user namespace of our own.
 * @module
 */

import { findCommand, whatIsMissing } from "@firezone/tests/requirements";

/** Set in the process that runs within the user namespace. */
const INSIDE = "FIREZONE_DEMO_INSIDE";

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

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
  if (Deno.env.get(INSIDE) !== undefined) return followOutside();
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
  const pipe = child.stdin.getWriter();
  const say = (line: string) => pipe.write(new TextEncoder().encode(`${line}\n`)).catch(() => {});
  for (const signal of SIGNALS) Deno.addSignalListener(signal, () => void say(signal));
  void say(`pid ${await childOf(child.pid)}`);
  return (await child.status).code;
}

/** The process that `unshare` starts, which is the first of the namespace. */
async function childOf(pid: number): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`).catch(() => "");
    if (children.trim() !== "") return children.trim();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return "";
}

let pidOutside: string | undefined;

/** The command that leads from outside into where the demo runs; undefined when it runs outside. */
export function enterCommand(): string | undefined {
  if (Deno.env.get(INSIDE) === undefined) return undefined;
  return "nsenter --user --mount --net --pid --preserve-credentials --target " +
    (pidOutside || "PID");
}

/** Does what the process outside says, and ends like after SIGTERM when it is gone. */
function followOutside(): void {
  void (async () => {
    const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
    let rest = "";
    for await (const text of lines) {
      const [...complete] = (rest + text).split("\n");
      rest = complete.pop()!;
      for (const line of complete) {
        const signal = SIGNALS.find((name) => name === line);
        if (signal !== undefined) Deno.kill(Deno.pid, signal);
        else pidOutside = /^pid (\d+)$/.exec(line)?.[1];
      }
    }
  })().catch(() => {}).then(() => Deno.kill(Deno.pid, "SIGTERM"));
}
