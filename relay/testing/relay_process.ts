/**
 * A relay as its operator meets it: a process on loopback.
 * @module
 */

import { Endpoint } from "./turn_client.ts";

/** Collects text and hands it out by lines. */
export class Output {
  /** Everything so far. */
  text = "";
  #taken = 0;
  #isOver = false;
  /** Settles at the end of the stream. */
  readonly done: Promise<void>;

  /** Collects from now on. */
  constructor(stream: ReadableStream<Uint8Array>) {
    this.done = this.#collect(stream);
  }

  /** The next line, without its end. */
  async line(): Promise<string> {
    await this.until(() => this.text.indexOf("\n", this.#taken) >= 0);
    const end = this.text.indexOf("\n", this.#taken);
    const line = this.text.slice(this.#taken, end);
    this.#taken = end + 1;
    return line;
  }

  /** Waits for a condition. @throws Error when it is not met in time, or never will be */
  async until(isThere: () => boolean): Promise<void> {
    for (const end = Date.now() + 20_000; !isThere();) {
      if (this.#isOver || Date.now() > end) throw new Error(`Not found in:\n${this.text}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.text += decoder.decode(chunk, { stream: true });
    this.#isOver = true;
  }
}

/** A running relay. */
export class RelayProcess implements AsyncDisposable {
  /** For clients. */
  readonly port: number;
  /** What it printed. */
  readonly stdout: Output;
  readonly #stderr: Output;
  readonly #process: Deno.ChildProcess;
  readonly #healthPort: number;

  private constructor(process: Deno.ChildProcess, port: number, healthPort: number) {
    this.#process = process;
    this.stdout = new Output(process.stdout);
    this.#stderr = new Output(process.stderr);
    this.port = port;
    this.#healthPort = healthPort;
  }

  /** Waits until it listens. */
  static async start(args: string[], env: Record<string, string> = {}): Promise<RelayProcess> {
    const relay = await RelayProcess.spawn(args, env);
    await relay.until("Listening");
    return relay;
  }

  /** Does not wait. Without other arguments it listens at ports of its own. */
  static async spawn(args: string[], env: Record<string, string> = {}): Promise<RelayProcess> {
    const [port, healthPort] = [await freePort(), await freePort()];
    const main = new URL("../main.ts", import.meta.url).pathname;
    // Of an option that is given twice the last one counts; options win over variables.
    const own = ["--health-check-addr", `127.0.0.1:${healthPort}`, "--control-endpoint", "off"];
    if (env.LISTEN_PORT === undefined) own.push("--listen-port", `${port}`);
    const process = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", main, ...own, ...args],
      env: { ...env, NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    return new RelayProcess(process, port, healthPort);
  }

  /** Its process. */
  get pid(): number {
    return this.#process.pid;
  }

  /** What it logged. */
  get log(): string {
    return this.#stderr.text;
  }

  /** Waits for the end, with all of its output. */
  get status(): Promise<Deno.CommandStatus> {
    return Promise.all([this.#process.status, this.stdout.done, this.#stderr.done]).then(([s]) =>
      s
    );
  }

  /** Waits until the log has a text. */
  until(text: string): Promise<void> {
    return this.#stderr.until(() => this.log.includes(text));
  }

  /** Sends a signal. */
  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Status of a page of its health endpoint. */
  async health(path: string): Promise<number> {
    return (await this.page(path)).status;
  }

  /** Status and text of a page of its health endpoint. */
  async page(path: string): Promise<{ readonly status: number; readonly text: string }> {
    const response = await fetch(`http://127.0.0.1:${this.#healthPort}${path}`);
    return { status: response.status, text: await response.text() };
  }

  /** Processor time it has used, in milliseconds. */
  get cpuMs(): number {
    // proc_pid_stat(5): after the name in parentheses, utime and stime are the 12th and 13th fields.
    const stat = Deno.readTextFileSync(`/proc/${this.#process.pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  /** Ends it, however it resists. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await this.status;
  }
}

/** A port that was free a moment ago, for UDP and TCP. */
export async function freePort(): Promise<number> {
  while (true) {
    await using endpoint = await Endpoint.open("127.0.0.1");
    const { port } = endpoint.address;
    try {
      Deno.listen({ hostname: "127.0.0.1", port }).close();
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}
