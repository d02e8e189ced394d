/**
 * The main thread of a program with a tunnel: portal, worker, network configuration, signals.
 *
 *     portal ──messages──► worker ──notices──► portal, addresses, routes
 *
 * However it ends, the machine is left as it was found.
 * @module
 */

import { type IpAddress, parseIpAddress, parsePrefix } from "../ip/mod.ts";
import {
  PORTAL_CLIENT_VERSION,
  PortalConnection,
  type PortalEvent,
  type PortalOptions,
} from "../portal/mod.ts";
import { ConfigError } from "../cli/errors.ts";
import { raiseFileLimit, type ServiceManager } from "../os/linux/mod.ts";
import type { Logger } from "../telemetry/mod.ts";
import type { DataPlaneCommand, DataPlaneNotice } from "./data_plane_messages.ts";
import { buildRevision } from "../version.ts";
import { PortalBypass } from "./portal_bypass.ts";
import { serveStatus, type StatusServer } from "./status_server.ts";
import type { MeasuredStatus } from "./tunnel_metrics.ts";
import { NetworkNotifier } from "./network_notifier.ts";
import { TUNNEL_TABLES, TunnelInterface } from "./tunnel_interface.ts";
import type { WorkerHandle, WorkerHandlers } from "./worker_channel.ts";

/** What a host is made of. */
export interface TunnelHostOptions<Command, Notice> {
  /** How to reach the portal. */
  readonly portal: Omit<PortalOptions, "onEvent" | "resolve">;
  /** Starts the program's worker; the entry file must be named in the program's own code. */
  readonly startWorker: (
    handlers: WorkerHandlers<DataPlaneNotice<Notice>>,
  ) => WorkerHandle<DataPlaneCommand<Command>>;
  /** Takes what the program's own machine has to say. */
  readonly onNotice: (notice: Notice) => void;
  /** Where the status is asked for; undefined for nowhere. */
  readonly statusSocket: string | undefined;
  /** The service manager that started us, if one did. */
  readonly manager: ServiceManager | undefined;
  /** Where the log lines go. */
  readonly log: Logger;
  /** Does more to the machine once the device is there; returns what undoes it. */
  readonly setUp?: (interfaceName: string) => () => void;
  /** Routes that are always there, as CIDR texts. */
  readonly routes?: readonly string[];
  /** The tunnel has these addresses now. */
  readonly onAddresses?: (ipv4: IpAddress, ipv6: IpAddress) => void;
  /** The machine moved to another network or woke up; connections are being made anew. */
  readonly onNetworkChange?: () => void;
  /** One of {@link watchedFiles} has changed. */
  readonly onFileChange?: () => void;
  /** Files that say which DNS servers the system has. */
  readonly watchedFiles?: readonly string[];
  /** Ends the program as soon as the tunnel is configured. */
  readonly exitWhenReady?: boolean;
  /** Undoes what the program did by itself; called before anything else ends. */
  readonly close?: () => Promise<void>;
}

/** See the head of this file. */
export class TunnelHost<Command, Notice> {
  readonly #options: TunnelHostOptions<Command, Notice>;
  readonly #log: Logger;
  readonly #portal: PortalConnection;
  readonly #bypass: PortalBypass;
  readonly #startedAt = performance.now();
  readonly #statusWaiters = new Map<number, (status: unknown) => void>();
  readonly #undo: (() => void)[] = [];
  readonly #ended = Promise.withResolvers<number>();
  #worker: WorkerHandle<DataPlaneCommand<Command>> | undefined;
  #interface: TunnelInterface | undefined;
  #notifier: NetworkNotifier | undefined;
  #portalState: "connecting" | "connected" = "connecting";
  #portalStateSince = this.#startedAt;
  #nextStatusId = 0;
  #isConfigured = false;

  /** Nothing happens until {@link run}. */
  constructor(options: TunnelHostOptions<Command, Notice>) {
    this.#options = options;
    this.#log = options.log;
    this.#bypass = new PortalBypass(options.portal.apiUrl);
    this.#portal = new PortalConnection({
      ...options.portal,
      onEvent: (event) => this.#onPortal(event),
      resolve: this.#bypass.resolve,
    });
  }

  /** Whether messages reach the portal now. */
  get isConnected(): boolean {
    return this.#portalState === "connected";
  }

  /**
   * Runs until a signal or a fatal error, and returns the exit code.
   *
   * @throws ConfigError for what the operator can mend
   */
  async run(): Promise<number> {
    const { statusSocket, startWorker } = this.#options;
    // Every DNS query that waits for its server has a socket, more than a shell's usual 1024 in all.
    raiseFileLimit();
    this.#log.info("Starting", { version: PORTAL_CLIENT_VERSION, revision: buildRevision() });
    const signals = this.#listenToSignals();
    const strays = this.#catchStrays();
    let status: StatusServer | undefined;
    try {
      if (statusSocket) status = await serveStatus(statusSocket, () => this.status());
      this.#worker = startWorker({
        onMessage: (notice) => this.#onNotice(notice),
        onFatal: (error) => {
          this.#loseWorker();
          this.#fail(error);
        },
      });
      return await this.#ended.promise;
    } finally {
      this.#options.manager?.stopping();
      signals();
      strays();
      await this.#options.close?.();
      await this.#notifier?.close();
      await this.#worker?.close().catch(() => {});
      this.#loseWorker();
      for (const undo of this.#undo.reverse()) this.#attempt(undo);
      this.#portal.close();
      await status?.close();
    }
  }

  /** Tells the program's own machine something; without effect when it is not running. */
  post(command: Command): void {
    this.#worker?.post({ tag: "program", command });
  }

  /** Gives the TUN device further addresses, at which something on this machine listens. */
  setServiceAddresses(addresses: readonly IpAddress[]): void {
    this.#attempt(() => this.#interface?.setServiceAddresses(addresses));
  }

  /** A snapshot of everything; plain data without secrets. */
  async status(): Promise<MeasuredStatus> {
    const plane = await this.#planeStatus() as Record<string, unknown>;
    const now = performance.now();
    const session = {
      version: PORTAL_CLIENT_VERSION,
      apiUrl: this.#options.portal.apiUrl.origin,
      portal: this.#portalState,
      portalForMs: Math.round(now - this.#portalStateSince),
      uptimeMs: Math.round(now - this.#startedAt),
    };
    return { ...session, ...plane };
  }

  /** The worker's part; empty while there is no worker. */
  #planeStatus(): Promise<unknown> {
    if (!this.#worker) return Promise.resolve({});
    const id = this.#nextStatusId++;
    const { promise, resolve } = Promise.withResolvers<unknown>();
    this.#statusWaiters.set(id, resolve);
    this.#worker.post({ tag: "status", id });
    return promise;
  }

  /** Whoever asked last gets what is known: the status server waits for every answer. */
  #loseWorker(): void {
    this.#worker = undefined;
    for (const answer of this.#statusWaiters.values()) answer({});
    this.#statusWaiters.clear();
  }

  #onPortal(event: PortalEvent): void {
    switch (event.tag) {
      case "joined":
        return this.#enter("connected");
      case "message":
        return this.#worker?.post({
          tag: "portal-message",
          event: event.event,
          payload: event.payload,
        });
      case "hiccup":
        return this.#enter("connecting");
      case "fatal":
        return this.#fail(new ConfigError(`Firezone disconnected: ${event.reason}`));
    }
  }

  #enter(state: "connecting" | "connected"): void {
    if (state === this.#portalState) return;
    this.#portalState = state;
    this.#portalStateSince = performance.now();
  }

  #onNotice(notice: DataPlaneNotice<Notice>): void {
    switch (notice.tag) {
      case "ready":
        return this.#onReady(notice.interfaceName, notice.publicKey);
      case "refused":
        return this.#fail(new ConfigError(notice.reason));
      case "send":
        return this.#portal.send(notice.message);
      case "interface":
        return this.#configure(notice.ipv4, notice.ipv6);
      case "routes":
        return this.#interface?.setRoutes(
          notice.routes.flatMap((route) => parsePrefix(route) ?? []),
        );
      case "public-key":
        this.#enter("connecting");
        return this.#portal.connect(notice.publicKey);
      case "no-relays":
        return this.#portal.requestRelays();
      case "status":
        this.#statusWaiters.get(notice.id)?.(notice.status);
        this.#statusWaiters.delete(notice.id);
        return;
      case "program":
        return this.#options.onNotice(notice.notice);
    }
  }

  #onReady(interfaceName: string, publicKey: string): void {
    try {
      const device = TunnelInterface.attach(interfaceName);
      this.#interface = device;
      this.#bypass.attach(device);
      this.#undo.push(() => {
        this.#bypass.attach(undefined);
        device.close();
      });
      const undo = this.#options.setUp?.(interfaceName);
      if (undo) this.#undo.push(undo);
      this.#notifier = this.#watch(interfaceName, device);
    } catch (error) {
      return this.#fail(error);
    }
    this.#portal.connect(publicKey);
  }

  #watch(interfaceName: string, device: TunnelInterface): NetworkNotifier {
    const { onNetworkChange, onFileChange, watchedFiles } = this.#options;
    return new NetworkNotifier({
      ignoreInterface: interfaceName,
      ignoreTables: TUNNEL_TABLES,
      onRoutesChange: () => this.#attempt(() => device.refreshLinkRoutes()),
      onNetworkChange: (reason) => {
        this.#log.info("The network changed, starting over", { reason });
        this.#worker?.post({ tag: "reset" });
        onNetworkChange?.();
      },
      ...onFileChange && { onDnsChange: onFileChange },
      ...watchedFiles && { watchedFiles },
    });
  }

  #configure(ipv4Text: string, ipv6Text: string): void {
    const [ipv4, ipv6] = [parseIpAddress(ipv4Text)!, parseIpAddress(ipv6Text)!];
    try {
      this.#interface?.setAddresses(ipv4, ipv6);
      const fixed = this.#options.routes;
      if (fixed) this.#interface?.setRoutes(fixed.flatMap((route) => parsePrefix(route) ?? []));
    } catch (error) {
      return this.#fail(error);
    }
    this.#options.onAddresses?.(ipv4, ipv6);
    if (this.#isConfigured) return;
    this.#isConfigured = true;
    const elapsed = Math.round(performance.now() - this.#startedAt);
    this.#log.info("Tunnel ready", { elapsed_ms: elapsed });
    this.#log.debug("The tunnel's addresses", { ipv4: ipv4Text, ipv6: ipv6Text });
    this.#options.manager?.ready();
    this.#options.manager?.startWatchdog(() => this.status());
    if (!this.#options.exitWhenReady) return;
    this.#log.info("Exiting, as --exit wants it");
    this.#ended.resolve(0);
  }

  #listenToSignals(): () => void {
    const stop = (name: string) => () => {
      this.#log.info(`Caught ${name}`);
      this.#ended.resolve(0);
    };
    const handlers: [Deno.Signal, () => void][] = [
      ["SIGINT", stop("SIGINT")],
      ["SIGTERM", stop("SIGTERM")],
      ["SIGHUP", () => {
        this.#log.info("Caught SIGHUP, starting over");
        this.#worker?.post({ tag: "reset" });
        this.#options.onNetworkChange?.();
      }],
    ];
    for (const [signal, handler] of handlers) Deno.addSignalListener(signal, handler);
    return () => {
      for (const [signal, handler] of handlers) Deno.removeSignalListener(signal, handler);
    };
  }

  /** A bug in this thread ends the program, too, but not before the machine is as it was. */
  #catchStrays(): () => void {
    const onError = (event: ErrorEvent) => {
      event.preventDefault();
      this.#fail(event.error);
    };
    const onRejection = (event: PromiseRejectionEvent) => {
      event.preventDefault();
      this.#fail(event.reason);
    };
    globalThis.addEventListener("error", onError);
    globalThis.addEventListener("unhandledrejection", onRejection);
    return () => {
      globalThis.removeEventListener("error", onError);
      globalThis.removeEventListener("unhandledrejection", onRejection);
    };
  }

  #attempt(undo: () => void): void {
    try {
      undo();
    } catch (error) {
      this.#log.warn("Cannot undo a change to the system", { error: (error as Error).message });
    }
  }

  #fail(error: unknown): void {
    this.#ended.reject(error);
  }
}
