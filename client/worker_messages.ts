/**
 * What the client's main thread and its data-plane worker tell each other, beside what every
 * program with a tunnel says: see `core/runtime/data_plane_messages.ts`.
 * @module
 */

import type { IpStack } from "@firezone/core/portal";
import type { DomainRecord } from "./domain_table.ts";

/** What the client's machine is made with. */
export interface ClientSettings {
  /** Whether the Internet resource, once granted, takes all other traffic. */
  readonly usesInternet: boolean;
}

/** Main thread to worker. */
export type ClientCommand =
  /** All names that have addresses now; see `ClientState.setDomains`. */
  | { readonly tag: "domains"; readonly domains: readonly DomainRecord[] }
  /** A name was asked for. */
  | { readonly tag: "domain-resolved"; readonly domain: DomainRecord }
  /** A name has lost its addresses. */
  | { readonly tag: "domain-evicted"; readonly domain: string }
  /** A packet for the TUN device. */
  | { readonly tag: "packet"; readonly packet: Uint8Array }
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
  /** The system asked its neighbours in the tunnel for a name; a whole packet. */
  | { readonly tag: "llmnr-query"; readonly packet: Uint8Array }
  /** The tunnel address of the gateway; undefined while there is none. */
  | { readonly tag: "site-gateway"; readonly id: number; readonly address: string | undefined };
