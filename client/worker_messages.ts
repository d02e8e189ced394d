/**
 * What the client's main thread and its data-plane worker tell each other, beside what every
 * program with a tunnel says: see `core/runtime/data_plane_messages.ts`.
 * @module
 */

import type { IpStack } from "@firezone/core/portal";

/** What the client's machine is made with. */
export interface ClientSettings {
  /** Whether the Internet resource, once granted, takes all other traffic. */
  readonly usesInternet: boolean;
}

/** A name with its proxy addresses, as texts. */
export interface DomainText {
  /** The name. */
  readonly domain: string;
  /** Addresses that stand for it. */
  readonly proxyIps: readonly string[];
  /** Resources that it belongs to, the one with the most specific pattern first. */
  readonly resourceIds: readonly string[];
}

/** Main thread to worker. */
export type ClientCommand =
  /** All names that have addresses now; see `ClientState.setDomains`. */
  | { readonly tag: "domains"; readonly domains: readonly DomainText[] }
  /** A name was asked for. */
  | { readonly tag: "domain-resolved"; readonly domain: DomainText }
  /** Which gateway serves a resource; answered by the notice of the same name. */
  | { readonly tag: "site-gateway"; readonly id: number; readonly resourceId: string };

/** Worker to main thread. */
export type ClientNotice =
  /** What the portal says about DNS. */
  | {
    readonly tag: "dns-settings";
    readonly upstreamDns: readonly string[];
    readonly upstreamDoh: readonly string[];
    readonly searchDomain: string | undefined;
  }
  /** The DNS resources that there are now. */
  | {
    readonly tag: "names";
    readonly resources: readonly {
      readonly id: string;
      readonly pattern: string;
      readonly ipStack: IpStack;
    }[];
  }
  /** The tunnel address of the gateway; undefined while there is none. */
  | { readonly tag: "site-gateway"; readonly id: number; readonly address: string | undefined };
