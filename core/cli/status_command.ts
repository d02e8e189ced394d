/**
 * The sub-command `status`: asks a running program over its Unix socket how it is doing.
 * @module
 */

import { request } from "node:http";
import { type Command, command, flag, type OptionSpec } from "./command.ts";
import { ConfigError, EXIT_OK } from "./errors.ts";
import { statusPage } from "./status_page.ts";

/** What {@link statusCommand} is given. */
export interface StatusCommandOptions {
  /** Name of the program, for its messages. */
  readonly program: string;
  /** The program's own option for the socket. */
  readonly statusSocket: OptionSpec<string>;
  /** Takes what is shown; stdout if left out. */
  readonly write?: (text: string) => void;
  /** Whether the screen may be cleared; if left out, whether stdout is a terminal. */
  readonly isTerminal?: boolean;
  /** Resolves when the next page is due, with `false` to end; after a second if left out. */
  readonly nextPage?: () => Promise<boolean>;
}

const WATCH_MS = 1_000;
const TIMEOUT_MS = 5_000;
const MAX_ANSWER_BYTES = 64 << 20;
/** To the first line, and away with what is below. */
const CLEAR_SCREEN = "\x1b[H\x1b[2J";

/** The command `status`; with it go `--json` and `--watch`. */
export function statusCommand(options: StatusCommandOptions): Command {
  return command({
    name: "status",
    description: `shows how a running ${options.program} is doing`,
    options: {
      statusSocket: options.statusSocket,
      json: flag({ flags: "--json", description: "show everything as JSON" }),
      watch: flag({ flags: "-w, --watch", description: "show it anew every second" }),
    },
    run: async ({ statusSocket, json, watch }) => {
      const show = async () => {
        const status = await fetchStatus(options.program, statusSocket);
        // Under --watch a line per page, so that programs can read it.
        if (json) return JSON.stringify(status, null, watch ? undefined : 2) + "\n";
        return statusPage(options.program, status);
      };
      return await present(options, await show(), watch ? { show, clears: !json } : undefined);
    },
  });
}

async function present(
  options: StatusCommandOptions,
  firstPage: string,
  watch: { show(): Promise<string>; readonly clears: boolean } | undefined,
): Promise<number> {
  const write = options.write ?? writeToStdout;
  const isTerminal = options.isTerminal ?? Deno.stdout.isTerminal();
  const nextPage = options.nextPage ?? (() => after(WATCH_MS));
  const clear = watch?.clears && isTerminal ? CLEAR_SCREEN : "";
  try {
    write(clear + firstPage);
    while (watch && await nextPage()) {
      const page = await watch.show().catch((error) => {
        if (error instanceof ConfigError) return watch.clears ? `${error.message}\n` : "";
        throw error;
      });
      write(clear + page);
    }
  } catch (error) {
    // Who reads our output has seen enough.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  return EXIT_OK;
}

/**
 * Asks at a socket.
 *
 * @param program whom we expect there, for messages
 * @throws ConfigError when nobody answers, or not what was asked for
 */
export async function fetchStatus(program: string, path: string): Promise<unknown> {
  let body: string;
  try {
    body = await get(path);
  } catch (error) {
    throw new ConfigError(`Cannot ask ${path}: ${explain(program, error as NodeError)}`);
  }
  try {
    return JSON.parse(body);
  } catch {
    throw new ConfigError(`Cannot ask ${path}: what answers there is not ${program}`);
  }
}

interface NodeError extends Error {
  readonly code?: string;
}

function explain(program: string, error: NodeError): string {
  switch (error.code) {
    case "ENOENT":
    case "ECONNREFUSED":
      return `no ${program} is running there; start it, or name its --status-socket`;
    case "EACCES":
    case "EPERM":
      return `permission denied; run this as the user that ${program} runs as, or as root`;
    default:
      return error.message;
  }
}

function get(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { socketPath: path, path: "/status", agent: false, timeout: TIMEOUT_MS };
    const asked = request(options, (response) => {
      const chunks: Uint8Array[] = [];
      let length = 0;
      response.on("data", (chunk: Uint8Array) => {
        chunks.push(chunk);
        length += chunk.length;
        if (length > MAX_ANSWER_BYTES) asked.destroy(new Error("the answer does not end"));
      });
      response.on("error", reject);
      response.on("end", () => {
        if (response.statusCode !== 200) {
          return reject(new Error(`it answered with status ${response.statusCode}`));
        }
        resolve(new TextDecoder().decode(join(chunks, length)));
      });
    });
    asked.on("timeout", () => asked.destroy(new Error("it does not answer")));
    asked.on("error", reject);
    asked.end();
  });
}

function join(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const joined = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    joined.set(chunk, at);
    at += chunk.length;
  }
  return joined;
}

function after(ms: number): Promise<boolean> {
  return new Promise((resolve) => setTimeout(() => resolve(true), ms));
}

function writeToStdout(text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length;) done += Deno.stdout.writeSync(bytes.subarray(done));
}
