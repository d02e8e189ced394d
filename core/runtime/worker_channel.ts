/**
 * Talking to a thread that blocks in epoll instead of running an event loop.
 *
 *     main thread                         worker
 *     post(message) ── MessagePort ─────► receiveAll(handler), when `fd` is readable
 *                   ── eventfd ─────────► wakes epoll_wait
 *     onMessage     ◄── MessagePort ───── post(message), at any time
 *     onFatal       ◄── MessagePort ───── the loop threw
 *
 * Messages are copied (structured clone): objects with methods do not survive.
 * A full round trip takes about 20 µs (`worker_channel_bench.ts`).
 *
 * Owns: the worker, the port and the eventfd. Does not own: what is said.
 * @module
 */

import { type MessagePort as NodePort, receiveMessageOnPort } from "node:worker_threads";
import { EventFd, type Fd } from "../os/linux/mod.ts";

/** What goes over the port from the worker: a message, or the end of it all. */
type FromWorkerEnvelope =
  | { readonly tag: "message"; readonly message: unknown }
  | { readonly tag: "ended"; readonly error?: ErrorCopy };

type ToWorkerEnvelope =
  | { readonly tag: "message"; readonly message: unknown }
  | { readonly tag: "close" };

/** First message to the worker, by the Worker's own channel. */
interface StartMessage {
  readonly eventFd: number;
  readonly port: MessagePort;
  readonly start: unknown;
}

interface ErrorCopy {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
}

/** How long {@link WorkerHandle.close} waits for the worker's loop to return. */
const CLOSE_TIMEOUT_MS = 5000;

/** An error that ended a worker; `stack` is the worker's. */
export class WorkerError extends Error {
  /** Always `WorkerError`. */
  override readonly name = "WorkerError";
}

/** What the main thread does about what a worker says. */
export interface WorkerHandlers<FromWorker> {
  /** Takes the worker's messages. */
  readonly onMessage: (message: FromWorker) => void;
  /** The worker threw or could not be loaded: a bug, so the program should end. Called at most once. */
  readonly onFatal: (error: WorkerError) => void;
}

/**
 * Starts a worker whose entry file calls {@link acceptWorkerSide}.
 *
 * @param entry the entry file; `new URL("./x_worker.ts", import.meta.url)`, spelled out where it is
 *   used so that bundlers find it
 * @param start what the worker's function gets
 */
export function spawnWorker<ToWorker, FromWorker, Start>(
  entry: URL,
  start: Start,
  handlers: WorkerHandlers<FromWorker>,
): WorkerHandle<ToWorker> {
  return new WorkerHandle(entry, start, handlers as WorkerHandlers<unknown>);
}

/** The main thread's end. */
export class WorkerHandle<ToWorker> {
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #wake = EventFd.open();
  readonly #handlers: WorkerHandlers<unknown>;
  readonly #ended = Promise.withResolvers<void>();
  #isOver = false;

  /** Made by {@link spawnWorker}. */
  constructor(entry: URL, start: unknown, handlers: WorkerHandlers<unknown>) {
    this.#handlers = handlers;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    this.#port.onmessage = (event) => this.#receive(event.data as FromWorkerEnvelope);
    this.#worker = new Worker(entry, { type: "module", name: workerName(entry) });
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new WorkerError(`Worker ${workerName(entry)}: ${event.message}`);
      error.stack = `${error.message}\n    at ${event.filename}:${event.lineno}:${event.colno}`;
      this.#end(error);
    };
    const message: StartMessage = { eventFd: this.#wake.fd, port: port2, start };
    this.#worker.postMessage(message, [port2]);
  }

  /** Settles when the worker is gone, however it went. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Sends a message and wakes the worker; without effect once it has ended. */
  post(message: ToWorker): void {
    this.#post({ tag: "message", message });
  }

  /**
   * Asks the worker's loop to return and waits until it has; one that does not within five seconds
   * is terminated. Never rejects.
   */
  async close(): Promise<void> {
    this.#post({ tag: "close" });
    const timer = setTimeout(() => {
      // The thread may still block on the eventfd, whose number must not be used again.
      this.#end(undefined, { keepEventFd: true });
    }, CLOSE_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  #post(envelope: ToWorkerEnvelope): void {
    if (this.#isOver) return;
    this.#port.postMessage(envelope);
    this.#wake.signal();
  }

  #receive(envelope: FromWorkerEnvelope): void {
    if (this.#isOver) return;
    if (envelope.tag === "message") return this.#handlers.onMessage(envelope.message);
    this.#end(envelope.error && restore(envelope.error));
  }

  #end(error: WorkerError | undefined, { keepEventFd = false } = {}): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#port.close();
    this.#worker.terminate();
    if (!keepEventFd) this.#wake.close();
    if (error) this.#handlers.onFatal(error);
    this.#ended.resolve();
  }
}

/** The worker's end. */
export class WorkerSide<ToWorker, FromWorker> {
  /** Readable when messages may wait: for epoll. */
  readonly fd: Fd;
  readonly #wake: EventFd;
  readonly #port: MessagePort;
  #closing = false;

  /** Made by {@link acceptWorkerSide}. */
  constructor(wake: EventFd, port: MessagePort) {
    this.fd = wake.fd;
    this.#wake = wake;
    this.#port = port;
  }

  /** Whether the main thread has called {@link WorkerHandle.close}: the loop should return. */
  get isClosing(): boolean {
    return this.#closing;
  }

  /** Sends a message to the main thread; never blocks. */
  post(message: FromWorker): void {
    const envelope: FromWorkerEnvelope = { tag: "message", message };
    this.#port.postMessage(envelope);
  }

  /** Hands every waiting message to `handler`, in order; never blocks. @returns false once {@link isClosing} */
  receiveAll(handler: (message: ToWorker) => void): boolean {
    // Drained first: what is posted meanwhile signals again, so nothing is overlooked.
    this.#wake.drain();
    const port = this.#port as unknown as NodePort;
    for (let got; (got = receiveMessageOnPort(port)) !== undefined;) {
      const envelope = got.message as ToWorkerEnvelope;
      if (envelope.tag === "close") this.#closing = true;
      else handler(envelope.message as ToWorker);
    }
    return !this.#closing;
  }
}

/**
 * The body of a worker's entry file: waits for the start message, then runs `run` to its end, which
 * may block as long as it likes. What it throws ends the worker and reaches the main thread with its
 * stack.
 *
 * The entry file begins with `/// <reference no-default-lib="true" />` and
 * `/// <reference lib="deno.worker" />`.
 */
export function acceptWorkerSide<ToWorker, FromWorker, Start>(
  run: (side: WorkerSide<ToWorker, FromWorker>, start: Start) => void,
): void {
  const scope = globalThis as unknown as {
    onmessage: ((event: MessageEvent<StartMessage>) => void) | null;
  };
  scope.onmessage = ({ data }) => {
    scope.onmessage = null;
    let error: ErrorCopy | undefined;
    try {
      run(new WorkerSide(EventFd.borrow(data.eventFd), data.port), data.start as Start);
    } catch (thrown) {
      error = copy(thrown);
    }
    const envelope: FromWorkerEnvelope = error ? { tag: "ended", error } : { tag: "ended" };
    data.port.postMessage(envelope);
  };
}

function workerName(entry: URL): string {
  return entry.pathname.slice(entry.pathname.lastIndexOf("/") + 1).replace(/\.[jt]s$/, "");
}

function copy(thrown: unknown): ErrorCopy {
  if (!(thrown instanceof Error)) {
    return { name: "Error", message: String(thrown), stack: undefined };
  }
  return { name: thrown.name, message: thrown.message, stack: thrown.stack };
}

function restore(error: ErrorCopy): WorkerError {
  const restored = new WorkerError(`${error.name}: ${error.message}`);
  restored.stack = error.stack ?? restored.message;
  return restored;
}
