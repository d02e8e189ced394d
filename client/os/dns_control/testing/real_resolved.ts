/**
 * A real systemd-resolved with a bus of its own, in namespaces that the machine never sees.
 * @module
 */

const DAEMONS = ["/usr/lib/systemd/systemd-resolved", "/lib/systemd/systemd-resolved"];
const USER = "systemd-resolve";

/** Where the daemon is; undefined where it cannot be run. */
export function findRealResolved(): string | undefined {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return undefined;
  const hasTools = ["resolvectl", "dbus-daemon", "unshare", "nsenter", "ip"].every(hasCommand);
  return hasTools ? DAEMONS.find((path) => isFile(path)) : undefined;
}

const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
  </policy>
</busconfig>
`;

/** Runs inside; ends when its stdin does. The user may be missing where only the package is. */
const SCRIPT = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/resolve
cp /etc/passwd /run/passwd
cp /etc/group /run/group
grep -q '^${USER}:' /run/passwd || echo '${USER}:x:991:991::/:/usr/sbin/nologin' >> /run/passwd
grep -q '^${USER}:' /run/group || echo '${USER}:x:991:' >> /run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
chown ${USER}:${USER} /run/systemd/resolve
printf '%s' "$BUS" > /run/bus.conf
ip link set lo up
for name in eth0 tun-firezone; do
  ip link add "$name" type veth peer name "$name-p"
  ip link set "$name" up
  ip link set "$name-p" up
done
ip address add 192.0.2.2/24 dev eth0
ip address add 100.64.0.1/32 dev tun-firezone
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile 2>/dev/null &
bus=$!
for i in $(seq 100); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.05; done
"$DAEMON" >/dev/null 2>&1 &
daemon=$!
trap 'kill $daemon $bus; wait' EXIT
for i in $(seq 100); do resolvectl dns >/dev/null 2>&1 && break; sleep 0.05; done
echo "$$"
read -r _ || true
`;

/** See the head of this file. Its links are called `eth0` and `tun-firezone`. */
export class RealResolved {
  /** A program that speaks to it as `resolvectl` would. */
  readonly resolvectl: string;
  readonly #process: Deno.ChildProcess;
  readonly #directory: string;

  private constructor(process: Deno.ChildProcess, directory: string, pid: string) {
    this.#process = process;
    this.#directory = directory;
    this.resolvectl = `${directory}/resolvectl`;
    const wrapper = `#!/bin/sh\nexec nsenter -t ${pid} -n -m -- resolvectl "$@"\n`;
    Deno.writeTextFileSync(this.resolvectl, wrapper, { mode: 0o755 });
  }

  /** Starts one and waits until it answers. */
  static async start(): Promise<RealResolved> {
    const process = new Deno.Command("unshare", {
      args: ["--net", "--mount", "bash", "-c", SCRIPT],
      env: { BUS, DAEMON: findRealResolved()! },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = process.stdout.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    const pid = new TextDecoder().decode(value).trim();
    return new RealResolved(process, Deno.makeTempDirSync(), pid);
  }

  /** What `resolvectl` prints. */
  run(...args: string[]): string {
    const { stdout } = new Deno.Command(this.resolvectl, {
      args: ["--no-pager", ...args],
      stderr: "inherit",
    }).outputSync();
    return new TextDecoder().decode(stdout);
  }

  /** Ends it with its namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.close();
    await this.#process.status;
    Deno.removeSync(this.#directory, { recursive: true });
  }
}

function hasCommand(name: string): boolean {
  const folders = `${Deno.env.get("PATH") ?? ""}:/usr/sbin:/sbin`.split(":");
  return folders.some((folder) => folder !== "" && isFile(`${folder}/${name}`));
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
