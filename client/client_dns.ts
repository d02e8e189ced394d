/**
 * Names on this machine while the client runs: joins the stub resolver with the data plane, the TUN
 * device's addresses and the system's resolver configuration.
 *
 *     portal ──► worker ──► DnsService ──► sentinels on the TUN device ──► system's configuration
 *                  ▲             │
 *                  └── domains ──┘
 * @module
 */

import { NamePattern } from "@firezone/core/dns";
import { type IpAddress, parseIpAddress, parseSocketAddress } from "@firezone/core/ip";
import { FIREZONE_MARK } from "@firezone/core/runtime";
import { systemRandom } from "@firezone/core/system_random";
import type { Logger } from "@firezone/core/telemetry";
import { DnsService } from "./dns/mod.ts";
import type { DnsControl } from "./os/dns_control/mod.ts";
import type { ClientCommand, ClientNotice } from "./worker_messages.ts";

/** What a {@link ClientDns} is made of. */
export interface ClientDnsOptions {
  /** How the system is made to ask us. */
  readonly control: DnsControl;
  /** Host names that the tunnel itself depends on. */
  readonly systemNames: readonly string[];
  /** Where proxy addresses are kept between runs. */
  readonly recordsPath: string;
  /** Tells the worker something. */
  readonly post: (command: ClientCommand) => void;
  /** Gives the TUN device further addresses. */
  readonly setServiceAddresses: (addresses: readonly IpAddress[]) => void;
  /** Name of the TUN device. */
  readonly interfaceName: string;
  /** Where the log lines go. */
  readonly log: Logger;
}

/** A gateway is asked for again after so long, while a query through its site waits. */
const SITE_RETRY_MS = 200;
/** Attempts before such a query fails; its own deadline is a little later. */
const SITE_ATTEMPTS = 20;

/** See the head of this file. */
export class ClientDns {
  readonly #options: ClientDnsOptions;
  readonly #service: DnsService;
  readonly #siteWaiters = new Map<number, (address: string | undefined) => void>();
  #nextSiteId = 0;
  #searchDomain: string | undefined;
  /** What the names of resources end with. */
  #domains: readonly string[] = [];
  #systemServers: readonly IpAddress[] = [];
  #hasAddresses = false;
  #isClosed = false;

  /** Listens nowhere until {@link handleAddresses}. */
  constructor(options: ClientDnsOptions) {
    this.#options = options;
    this.#service = new DnsService({
      random: systemRandom,
      log: options.log,
      mark: FIREZONE_MARK,
      systemNames: options.systemNames,
      recordsPath: options.recordsPath,
      siteGateway: (resourceId) => this.#siteGateway(resourceId),
      onDomainResolved: (domain) => options.post({ tag: "domain-resolved", domain }),
      onDomainEvicted: (domain) => options.post({ tag: "domain-evicted", domain }),
      onSentinelsChanged: options.setServiceAddresses,
      onListening: () => void this.#control(),
    });
  }

  /**
   * Puts right what a killed process left behind, and finds the system's servers.
   *
   * @throws ConfigError when the method of DNS control does not work on this machine
   */
  async start(): Promise<void> {
    await this.#options.control.recover();
    this.#systemServers = await this.#options.control.systemServers();
  }

  /** The TUN device has its addresses, so that sentinels can be added to them. */
  handleAddresses(): void {
    if (this.#hasAddresses) return;
    this.#hasAddresses = true;
    this.#service.setSystemServers(this.#systemServers);
  }

  /** Takes what the worker has to say about names. */
  handleNotice(notice: ClientNotice): void {
    switch (notice.tag) {
      case "dns-settings": {
        const servers = notice.upstreamDns.flatMap((text) => parseSocketAddress(text) ?? []);
        this.#searchDomain = notice.searchDomain;
        this.#service.setInterface(servers, notice.upstreamDoh, notice.searchDomain);
        void this.#control();
        return;
      }
      case "names":
        this.#service.setResources(notice.resources);
        this.#options.post({ tag: "domains", domains: this.#service.resolvedDomains() });
        this.#setDomains(notice.resources.map(({ pattern }) => pattern));
        return;
      case "llmnr-query": {
        const packet = this.#service.answerLlmnr(notice.packet);
        if (packet) this.#options.post({ tag: "packet", packet });
        return;
      }
      case "site-gateway":
        this.#siteWaiters.get(notice.id)?.(notice.address);
        this.#siteWaiters.delete(notice.id);
    }
  }

  /** The system may have other servers. */
  async handleSystemChange(): Promise<void> {
    await this.#attempt(async () => {
      this.#systemServers = await this.#options.control.systemServers();
      if (this.#hasAddresses) this.#service.setSystemServers(this.#systemServers);
      // Whoever wrote the file anew with the same servers has taken it from us.
      await this.#control();
    });
  }

  /** The machine moved to another network. */
  async handleNetworkChange(): Promise<void> {
    await this.handleSystemChange();
    this.#service.handleNetworkChange();
  }

  /** Puts the system's configuration back and stops answering. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#attempt(() => this.#options.control.revert());
    await this.#service.close();
  }

  /** Makes the system ask us once we answer, and not before. */
  async #control(): Promise<void> {
    if (this.#isClosed || !this.#service.isListening) return;
    const { control, interfaceName } = this.#options;
    const sentinels = this.#service.sentinels();
    await this.#attempt(() =>
      control.setServers(interfaceName, sentinels, this.#searchDomain, this.#domains)
    );
  }

  /** Whatever changed about resources, what the system remembers of names may be wrong now. */
  #setDomains(patterns: readonly string[]): void {
    const domains = patterns
      .map((pattern) => NamePattern.parse(pattern)?.suffix ?? "")
      .filter((suffix) => suffix !== "")
      .sort();
    const isSame = domains.join() === this.#domains.join();
    this.#domains = domains;
    if (!isSame && this.#service.isListening) void this.#control();
    else void this.#attempt(() => this.#options.control.flush());
  }

  async #siteGateway(resourceId: string): Promise<IpAddress | undefined> {
    for (let attempt = 0; attempt < SITE_ATTEMPTS && !this.#isClosed; attempt++) {
      const id = this.#nextSiteId++;
      const { promise, resolve } = Promise.withResolvers<string | undefined>();
      this.#siteWaiters.set(id, resolve);
      this.#options.post({ tag: "site-gateway", id, resourceId });
      const address = await promise;
      if (address !== undefined) return parseIpAddress(address);
      await new Promise((resolve) => setTimeout(resolve, SITE_RETRY_MS));
    }
    return undefined;
  }

  async #attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#options.log.warn("Cannot configure DNS", { reason: (error as Error).message });
    }
  }
}
