/**
 * What the gateway's main thread and its data-plane worker tell each other, beside what every
 * program with a tunnel says: see `core/runtime/data_plane_messages.ts`.
 * @module
 */

/** Worker to main thread: resolve this name. */
export interface GatewayNotice {
  /** Names the request. */
  readonly id: number;
  /** The name. */
  readonly domain: string;
}

/** Main thread to worker: the answer. */
export interface GatewayCommand {
  /** The request. */
  readonly id: number;
  /** Addresses as texts, none if it has none; undefined when nobody could say. */
  readonly addresses: readonly string[] | undefined;
}
