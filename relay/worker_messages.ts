/**
 * What the relay's main thread and its worker tell each other. Plain data, since objects with
 * methods do not survive the way between threads.
 * @module
 */

import type { LogFormat } from "@firezone/core/telemetry";
import type { PortRange } from "./port_pool.ts";
import type { RelayReport } from "./report.ts";
import type { Sibling } from "./worker_mailbox.ts";

/** A family to serve. */
export interface EndpointTexts {
  /** What clients and peers are told. */
  readonly public: string;
  /** Where sockets are bound. */
  readonly bind: string;
}

/** What the worker is started with. */
export interface RelayStart {
  /** IPv4, if served. */
  readonly v4: EndpointTexts | undefined;
  /** IPv6, if served. */
  readonly v6: EndpointTexts | undefined;
  /** Port for clients. */
  readonly listenPort: number;
  /** Ports that allocations get, of all workers together. */
  readonly ports: PortRange;
  /** All workers, this one among them. */
  readonly siblings: readonly Sibling[];
  /** Position of this one. */
  readonly index: number;
  /** By which workers know each other's nonces. */
  readonly nonceKey: Uint8Array;
  /** Shared with the portal. */
  readonly stampSecret: string;
  /** Addresses of this machine, refused as peers. */
  readonly ownAddresses: readonly string[];
  /** Prefixes of peers that are accepted although policy refuses them. */
  readonly allowedPeers: readonly string[];
  /** Prefixes of peers that are refused although policy accepts them. */
  readonly deniedPeers: readonly string[];
  /**
   * Set without a portal: the username of the printed credential, which any number of TURN clients
   * may use, old ones among them.
   */
  readonly standaloneUsername: string | undefined;
  /** Log filter of the main thread. */
  readonly logFilter: string;
  /** Log format of the main thread. */
  readonly logFormat: LogFormat;
  /** Project in which Google Cloud finds traces. */
  readonly googleCloudProjectId: string | undefined;
  /** Decides all randomness, in tests; decimal. */
  readonly rngSeed: string | undefined;
  /** SOFTWARE attribute of all answers. */
  readonly software: string;
}

/** Main thread to worker. */
export type RelayOrder =
  /** All workers have opened their sockets. */
  | { readonly tag: "serve" }
  /** The user whose only allocation this is has a newer one with another worker. */
  | { readonly tag: "superseded"; readonly id: number; readonly username: string }
  /** Tell what there is and what happened since the last report. */
  | { readonly tag: "report" }
  /** Log what this filter wants. */
  | { readonly tag: "log-filter"; readonly directives: string };

/** Worker to main thread. */
export type RelayNotice =
  /** The sockets for clients are open. */
  | { readonly tag: "bound" }
  /** The start failed for a reason that the operator can mend. */
  | { readonly tag: "refused"; readonly reason: string }
  /** There is an allocation more, or less; `soleOf` has but this one. */
  | {
    readonly tag: "allocated" | "ended";
    readonly id: number;
    readonly soleOf: string | undefined;
  }
  /** As was asked for. */
  | { readonly tag: "report"; readonly report: RelayReport };
