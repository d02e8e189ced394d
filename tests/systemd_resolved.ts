/**
 * A real systemd-resolved with a bus of its own, in namespaces that the machine never sees.
 *
 * Where it is not installed it is only unpacked (see `tools/prepare_tests.ts`), because installing
 * it would take over the machine's DNS.
 * @module
 */

/** Debian packages to unpack, and where to: the daemon, and its library of the same version. */
export const UNPACKED = {
  packages: ["systemd-resolved", "libsystemd-shared"],
  folder: "/var/cache/firezone-tests/systemd-resolved",
} as const;

/** Where the programs are. */
export interface ResolvedPrograms {
  /** The daemon. */
  readonly daemon: string;
  /** The program that speaks to it. */
  readonly resolvectl: string;
  /** Where their library is, unless it is where the system looks for it. */
  readonly libraryPath: string;
}

/** The programs of this machine; undefined where there are none. */
export function findSystemdResolved(): ResolvedPrograms | undefined {
  return programsBelow("") ?? programsBelow(UNPACKED.folder);
}

function programsBelow(root: string): ResolvedPrograms | undefined {
  const find = (...paths: string[]) => paths.map((path) => root + path).find(isFile);
  const daemon = find("/usr/lib/systemd/systemd-resolved", "/lib/systemd/systemd-resolved");
  const resolvectl = find("/usr/bin/resolvectl", "/bin/resolvectl");
  if (daemon === undefined || resolvectl === undefined) return undefined;
  return { daemon, resolvectl, libraryPath: root === "" ? "" : libraryFolder(root) };
}

/** Such as `/usr/lib/x86_64-linux-gnu/systemd`. */
function libraryFolder(root: string): string {
  for (const { name } of Deno.readDirSync(`${root}/usr/lib`)) {
    const folder = `${root}/usr/lib/${name}/systemd`;
    if (name.includes("-linux-") && isFolder(folder)) return folder;
  }
  return "";
}

const USER = "systemd-resolve";

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

/**
 * Runs inside; prints its pid once the daemon answers, starts the daemon anew for every line that it
 * reads, and ends when its stdin does. The user may be missing where only the package is.
 */
const SCRIPT = `
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd/resolve
[ -z "$ETC" ] || mount --bind "$ETC" /etc
cp /etc/passwd /etc/group /run
grep -q '^${USER}:' /run/passwd || echo '${USER}:x:991:991::/:/usr/sbin/nologin' >> /run/passwd
grep -q '^${USER}:' /run/group || echo '${USER}:x:991:' >> /run/group
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
chown ${USER}:${USER} /run/systemd/resolve
printf '%s' "$BUS" > /run/bus.conf
eval "$SET_UP"
dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile 2>/dev/null &
bus=$!
for i in $(seq 200); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.05; done
export LD_LIBRARY_PATH="$LIBRARY_PATH"
start() {
  "$DAEMON" >/dev/null 2>&1 &
  daemon=$!
  for i in $(seq 200); do "$RESOLVECTL" dns >/dev/null 2>&1 && break; sleep 0.05; done
}
start
trap 'kill $daemon $bus; wait' EXIT
echo "$$"
while read -r _; do
  kill "$daemon"
  wait "$daemon" || true
  start
  echo "$daemon"
done
`;

/** How to start one. */
export interface RunningResolvedOptions {
  /** What leads into the network namespace; into a new one if absent. */
  readonly enter?: readonly string[];
  /** A folder to use as `/etc`. */
  readonly etc?: string;
  /** Shell commands to run inside before it starts. */
  readonly setUp?: string;
}

/** See the head of this file. */
export class RunningResolved {
  /** Holds a `resolvectl` that speaks to it from anywhere. */
  readonly folder: string;
  /** What runs a command beside it, with its `/run` and `/etc`. */
  readonly wrapper: readonly string[];
  readonly #process: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;

  private constructor(
    process: Deno.ChildProcess,
    lines: ReadableStreamDefaultReader<string>,
    pid: string,
    programs: ResolvedPrograms,
  ) {
    this.#process = process;
    this.#lines = lines;
    this.wrapper = ["nsenter", "-t", pid, "-n", "-m", "--"];
    this.folder = Deno.makeTempDirSync();
    const script = `#!/bin/sh\nexport LD_LIBRARY_PATH=${programs.libraryPath}\n` +
      `exec ${this.wrapper.join(" ")} ${programs.resolvectl} "$@"\n`;
    Deno.writeTextFileSync(`${this.folder}/resolvectl`, script, { mode: 0o755 });
  }

  /** Starts one and waits until it answers. */
  static async start(options: RunningResolvedOptions = {}): Promise<RunningResolved> {
    const { enter = ["unshare", "--net"], etc = "", setUp = "" } = options;
    const programs = findSystemdResolved()!;
    const [command, ...args] = [...enter, "unshare", "--mount", "bash", "-c", SCRIPT];
    const process = new Deno.Command(command!, {
      args,
      env: {
        BUS,
        ETC: etc,
        SET_UP: setUp,
        DAEMON: programs.daemon,
        RESOLVECTL: programs.resolvectl,
        LIBRARY_PATH: programs.libraryPath,
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const { value = "" } = await lines.read();
    return new RunningResolved(process, lines, value.trim(), programs);
  }

  /** What `resolvectl` prints. */
  run(...args: string[]): string {
    const { stdout } = new Deno.Command(`${this.folder}/resolvectl`, {
      args: ["--no-pager", ...args],
      stderr: "inherit",
    }).outputSync();
    return new TextDecoder().decode(stdout);
  }

  /** Ends the daemon and starts another. */
  async restart(): Promise<void> {
    const writer = this.#process.stdin.getWriter();
    await writer.write(new Uint8Array([0x0a]));
    writer.releaseLock();
    await this.#lines.read();
  }

  /** Ends it with its namespaces. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stdin.close();
    await this.#process.status;
    await this.#lines.cancel();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

function isFile(path: string): boolean {
  return stat(path)?.isFile ?? false;
}

function isFolder(path: string): boolean {
  return stat(path)?.isDirectory ?? false;
}

function stat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}
