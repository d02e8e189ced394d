/**
 * What a program's main thread and its data-plane worker tell each other.
 *
 * Everything is plain data: objects with methods do not survive the way between threads. Messages of
 * the portal therefore go to the worker as they came and are parsed there.
 * @module
 */

import type { AeadName } from "../crypto/mod.ts";
import type { OutgoingMessage } from "../portal/mod.ts";
import type { LogFormat } from "../telemetry/mod.ts";
import type { Inspection } from "./packet_inspector.ts";

/** What the worker is started with. */
export interface DataPlaneStart<Settings> {
  /** Name of the TUN device. */
  readonly interfaceName: string;
  /** AEAD to use; undefined picks the fastest. */
  readonly crypto: AeadName | undefined;
  /** What it shares with cipher threads, if there are any; see `cipher/cipher_memory.ts`. */
  readonly cipherMemory?: SharedArrayBuffer | undefined;
  /** Log filter of the main thread. */
  readonly logFilter: string;
  /** Log format of the main thread. */
  readonly logFormat: LogFormat;
  /** Name of the program, for its log files. */
  readonly program: string;
  /** Directory that the log is written to as well. */
  readonly logDirectory: string | undefined;
  /** What of the packets inside the tunnel is looked at. */
  readonly inspection: Inspection;
  /** What the program's own machine is made with. */
  readonly settings: Settings;
}

/** Main thread to worker; `Command` is what the program itself has to say. */
export type DataPlaneCommand<Command> =
  | { readonly tag: "portal-message"; readonly event: string; readonly payload: unknown }
  /** The network changed: new sockets, a new key. */
  | { readonly tag: "reset" }
  | { readonly tag: "status"; readonly id: number }
  | { readonly tag: "program"; readonly command: Command };

/** Worker to main thread; `Notice` is what the program itself has to say. */
export type DataPlaneNotice<Notice> =
  | { readonly tag: "ready"; readonly interfaceName: string; readonly publicKey: string }
  /** The start failed for a reason that the operator can mend. */
  | { readonly tag: "refused"; readonly reason: string }
  /** A message for the portal. */
  | { readonly tag: "send"; readonly message: OutgoingMessage }
  /** The tunnel addresses that the portal gave. */
  | { readonly tag: "interface"; readonly ipv4: string; readonly ipv6: string }
  /** The prefixes that belong into the tunnel. */
  | { readonly tag: "routes"; readonly routes: readonly string[] }
  /** After a reset: the portal has to be told the new key. */
  | { readonly tag: "public-key"; readonly publicKey: string }
  /** No relay is left; the portal has to name some. */
  | { readonly tag: "no-relays" }
  | { readonly tag: "status"; readonly id: number; readonly status: unknown }
  | { readonly tag: "program"; readonly notice: Notice };
