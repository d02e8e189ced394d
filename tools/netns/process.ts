/**
 * A program that runs beside us, its output kept line by line.
 *
 * It leads a process group of its own, so Ctrl-C on our terminal does not reach it and everything
 * it starts can be ended together. The kernel ends it when we die, however we die.
 * @module
 */

/** How a process is started. */
export interface ProcessOptions {
  /** Name in logs and error messages. */
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  /** Variables beside those of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** A file to which its output is also written. */
  readonly logFile?: string;
}

/** Lines of output that are remembered. */
const REMEMBERED_LINES = 400;

/** A line to wait for did not come, or the process ended before it. */
export class ProcessError extends Error {
  /** Its class. */
  override readonly name = "ProcessError";
}

/** See the head of this file. */
export class Process implements AsyncDisposable {
  /** Name in logs and error messages. */
  readonly name: string;
  /** Its last lines on stdout and stderr, in the order of arrival. */
  readonly lines: string[] = [];
  /** Ids of processes that it started and that were still there once it had ended by {@link stop}. */
  survivors: readonly number[] = [];
  /** Resolves when it has ended and all of its output is read. */
  readonly ended: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #listeners = new Set<() => void>();
  #lineCount = 0;
  #status: Deno.CommandStatus | undefined;

  /** Starts it. */
  constructor(options: ProcessOptions) {
    this.name = options.name;
    this.#child = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", ...options.command],
      env: { ...options.env },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      detached: true,
    }).spawn();
    const log = options.logFile === undefined
      ? undefined
      : Deno.openSync(options.logFile, { write: true, create: true, append: true });
    const output = Promise.all([
      this.#read(this.#child.stdout, log),
      this.#read(this.#child.stderr, log),
    ]);
    this.ended = this.#child.status.then(async (status) => {
      this.#status = status;
      await output;
      log?.close();
      this.#notify();
      return status;
    });
  }

  /** Process id, which is also the id of its group. */
  get pid(): number {
    return this.#child.pid;
  }

  /** How it ended; `undefined` while it runs. */
  get status(): Deno.CommandStatus | undefined {
    return this.#status;
  }

  /** How many lines it has printed so far. */
  get lineCount(): number {
    return this.#lineCount;
  }

  /**
   * The first line, old or new, that matches.
   *
   * @param since leaves out that many lines of the beginning, see {@link lineCount}
   * @throws {@link ProcessError} when the process ends or the time passes without one
   */
  waitForLine(pattern: RegExp, timeoutMs: number, since = 0): Promise<string> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        clearTimeout(timer);
        this.#listeners.delete(look);
      };
      const look = () => {
        const forgotten = this.#lineCount - this.lines.length;
        const line = this.lines.slice(Math.max(0, since - forgotten)).find((l) => pattern.test(l));
        if (line !== undefined) {
          stop();
          resolve(line);
        } else if (this.#status !== undefined) {
          stop();
          reject(
            new ProcessError(
              `${this.name} ended with status ${this.#status.code} before ${pattern}`,
            ),
          );
        }
      };
      const timer = setTimeout(() => {
        stop();
        reject(new ProcessError(`${this.name} did not print ${pattern} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#listeners.add(look);
      look();
    });
  }

  /** Sends a signal to the process alone; one that has ended gets none. */
  signal(signal: Deno.Signal): void {
    if (this.#status !== undefined) return;
    try {
      this.#child.kill(signal);
    } catch {
      // It ended just now.
    }
  }

  /** Asks it to end, and after the grace period ends its whole group. */
  async stop(graceMs = 3_000): Promise<Deno.CommandStatus> {
    this.signal("SIGTERM");
    const timer = setTimeout(() => this.kill(), graceMs);
    const status = await this.#child.status;
    clearTimeout(timer);
    this.survivors = groupMembers(this.#child.pid);
    this.kill();
    await this.ended;
    return status;
  }

  /** Ends its whole group at once. */
  kill(): void {
    try {
      Deno.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // Nobody is left in the group.
    }
  }

  /** Stops it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #read(stream: ReadableStream<Uint8Array>, log: Deno.FsFile | undefined): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      log?.writeSync(chunk);
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop()!;
      this.#append(lines);
    }
    if (rest !== "") this.#append([rest]);
  }

  #append(lines: readonly string[]): void {
    if (lines.length === 0) return;
    this.lines.push(...lines);
    this.#lineCount += lines.length;
    if (this.lines.length > REMEMBERED_LINES) {
      this.lines.splice(0, this.lines.length - REMEMBERED_LINES);
    }
    this.#notify();
  }

  #notify(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Processes of a group that run: those that have ended and wait to be noticed are not among them. */
function groupMembers(group: number): number[] {
  const pids = Array.from(Deno.readDirSync("/proc"), ({ name }) => name).filter((name) =>
    /^\d+$/.test(name)
  );
  return pids.map(Number).filter((pid) => {
    try {
      const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
      // The command's name may hold anything, so what follows it counts from its last parenthesis.
      const [state, , pgrp] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(pgrp) === group && state !== "Z";
    } catch {
      return false; // It ended meanwhile.
    }
  });
}
