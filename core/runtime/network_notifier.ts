/**
 * Tells the main thread when the machine moves to another network, wakes up, or gets other DNS
 * servers.
 *
 *     netlink ──► a wait on a thread of the pool ──► quiet for 300 ms ──► is it another network?
 *     system bus: NetworkManager, resolved ──────────────┘           └──► does a file say something else?
 *     once a second: has the machine slept?      every 5 s: does a file say something else?
 *
 * What others do elsewhere on the machine (containers, lifetimes that are prolonged, our own device)
 * is noticed and passed over.
 *
 * Cost: a timer per second; a thread that sleeps in the kernel.
 * @module
 */

import { type Family, ip, type IpAddress } from "../ip/mod.ts";
import {
  Epoll,
  EventFd,
  type InterfaceAddress,
  NetworkChanges,
  Rtnetlink,
  sleptMs,
} from "../os/linux/mod.ts";
import { type Logger, logger } from "../telemetry/logging.ts";
import { type BusService, BusSignals } from "./bus_signals.ts";
import { monotonicNow } from "./clock.ts";
import { FIREZONE_MARK } from "./data_plane.ts";
import {
  Debounce,
  type NetworkIdentity,
  RoamingDetector,
  SleepDetector,
  type Uplink,
} from "./roaming.ts";

/** What a {@link NetworkNotifier} is made of. */
export interface NetworkNotifierOptions {
  /** Connections have to be made anew. Called when the new network is usable. */
  readonly onNetworkChange: (reason: "roamed" | "resumed") => void;
  /** The system may have other DNS servers; called for every change of a watched file. */
  readonly onDnsChange?: () => void;
  /** Links, addresses or routes of others changed; called before {@link onNetworkChange}. */
  readonly onRoutesChange?: () => void;
  /** Name of the TUN device. */
  readonly ignoreInterface: string;
  /** Routing tables of our own. */
  readonly ignoreTables?: readonly number[];
  /** Files whose change means other DNS servers. */
  readonly watchedFiles?: readonly string[];
  /** Socket of the system bus; the usual one if left out. */
  readonly busSocket?: string;
  /** Where the log lines go. */
  readonly log?: Logger;
  /** How often sleep is looked for, and five times as rarely files; a second if left out. */
  readonly tickMs?: number;
}

/** Somewhere on the Internet (root servers); nothing is sent there, only the way is looked up. */
const FAR_AWAY: Readonly<Record<Family, IpAddress>> = {
  4: ip("198.41.0.4"),
  6: ip("2001:503:ba3e::2:30"),
};

const SYSTEM_BUS = "/run/dbus/system_bus_socket";
const QUIET_MS = 300;
const MAX_WAIT_MS = 1_000;
const TICK_MS = 1_000;
const TICKS_PER_FILE_CHECK = 5;
const TOKEN = { changes: 0, wake: 1 } as const;

/** See the head of this file. */
export class NetworkNotifier {
  readonly #options: NetworkNotifierOptions;
  readonly #log: Logger;
  readonly #netlink = new Rtnetlink();
  readonly #changes = new NetworkChanges();
  readonly #epoll = new Epoll();
  readonly #wake = EventFd.open();
  readonly #debounce = new Debounce(QUIET_MS, MAX_WAIT_MS);
  readonly #roaming: RoamingDetector;
  readonly #sleep = new SleepDetector(sleptMs());
  readonly #files = new Map<string, string>();
  readonly #ticker: ReturnType<typeof setInterval>;
  readonly #waiting: Promise<void>;
  readonly #bus: BusSignals;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #ticks = 0;
  #hasResumed = false;
  #areFilesDue = false;
  #hasSeenInternet = false;
  #isClosed = false;

  /** Begins to watch; the present state is what changes are told against. @throws OsError */
  constructor(options: NetworkNotifierOptions) {
    this.#options = options;
    this.#log = options.log ?? logger("network");
    this.#roaming = new RoamingDetector(monotonicNow(), this.#identify());
    for (const path of options.watchedFiles ?? []) this.#files.set(path, readText(path));
    this.#epoll.add(this.#changes.fd, TOKEN.changes, { readable: true });
    this.#epoll.add(this.#wake.fd, TOKEN.wake, { readable: true });
    this.#ticker = setInterval(() => this.#tick(), options.tickMs ?? TICK_MS);
    this.#waiting = this.#wait();
    this.#bus = new BusSignals({
      socket: options.busSocket ?? SYSTEM_BUS,
      onChange: (service) => this.#onAnnouncement(service),
      log: this.#log,
    });
  }

  /** Tells nothing any more. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    this.#wake.signal();
    await this.#waiting;
    await this.#bus.close();
    for (const resource of [this.#epoll, this.#wake, this.#changes, this.#netlink]) {
      resource.close();
    }
  }

  /** Same as {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #wait(): Promise<void> {
    while (!this.#isClosed) {
      await this.#epoll.waitElsewhere();
      if (this.#isClosed) return;
      const ours = this.#netlink.link(this.#options.ignoreInterface)?.index;
      const tables = this.#options.ignoreTables ?? [];
      const matters = this.#changes.take().some((change) =>
        change.kind === "unknown" ||
        (change.interfaceIndex !== ours && !tables.includes(change.table))
      );
      if (!matters) continue;
      this.#debounce.handle(monotonicNow());
      this.#setTimer();
    }
  }

  #onAnnouncement(service: BusService): void {
    if (this.#isClosed) return;
    if (service === "network-manager") this.#roaming.handleAnnouncement(monotonicNow());
    else this.#areFilesDue = true;
    this.#debounce.handle(monotonicNow());
    this.#setTimer();
  }

  #setTimer(): void {
    clearTimeout(this.#timer);
    const waitMs = Math.max(0, this.#debounce.pollTimeout() - monotonicNow());
    this.#timer = setTimeout(() => {
      if (this.#debounce.takeDue(monotonicNow())) this.#check();
      else this.#setTimer(); // it fired a fraction of a millisecond early
    }, waitMs);
  }

  #check(): void {
    this.#options.onRoutesChange?.();
    if (this.#areFilesDue) this.#checkFiles();
    const network = this.#identify();
    if (!this.#roaming.handleNetwork(monotonicNow(), network)) return;
    const reason = this.#hasResumed ? "resumed" : "roamed";
    this.#hasResumed = false;
    this.#log.info("The network changed", { reason });
    this.#log.debug("The network is another", { network: describe(network) });
    this.#options.onNetworkChange(reason);
    this.#checkFiles();
  }

  #tick(): void {
    if (this.#sleep.handleReading(sleptMs())) {
      this.#hasResumed = true;
      this.#roaming.handleResume();
      this.#check();
    }
    if (++this.#ticks % TICKS_PER_FILE_CHECK === 0) this.#checkFiles();
  }

  #checkFiles(): void {
    this.#areFilesDue = false;
    let hasChanged = false;
    for (const [path, before] of this.#files) {
      const text = readText(path);
      if (text === before) continue;
      hasChanged = true;
      this.#files.set(path, text);
    }
    if (hasChanged) this.#options.onDnsChange?.();
  }

  #identify(): NetworkIdentity {
    const ours = this.#netlink.link(this.#options.ignoreInterface)?.index;
    const addresses = this.#netlink.addresses();
    const network = new Map<Family, Uplink>();
    for (const family of [4, 6] as const) {
      const route = this.#netlink.lookup(FAR_AWAY[family], FIREZONE_MARK);
      if (route?.interfaceIndex === undefined || route.interfaceIndex === ours) continue;
      network.set(family, {
        interfaceIndex: route.interfaceIndex,
        gateway: route.gateway?.text ?? "",
        // An IPv6 source may be temporary, and change every day.
        addresses: family === 4 && route.source
          ? [route.source.text]
          : lastingAddresses(addresses, family, route.interfaceIndex),
      });
    }
    if (network.size > 0) this.#hasSeenInternet = true;
    // Who has been on the Internet and is not now waits for it: half a network is none.
    return this.#hasSeenInternet ? network : this.#identifyLocal(addresses, ours);
  }

  /** Where there never was a way to the Internet: the addresses that neighbours may be reached from. */
  #identifyLocal(addresses: InterfaceAddress[], ours: number | undefined): NetworkIdentity {
    const links = this.#netlink.links()
      .filter((link) => link.isRunning && !link.isLoopback && link.index !== ours);
    const network = new Map<Family, Uplink>();
    for (const family of [4, 6] as const) {
      const all = links.flatMap((link) => lastingAddresses(addresses, family, link.index));
      if (all.length > 0) network.set(family, { interfaceIndex: 0, gateway: "", addresses: all });
    }
    return network;
  }
}

function lastingAddresses(
  addresses: readonly InterfaceAddress[],
  family: Family,
  interfaceIndex: number,
): string[] {
  return addresses
    .filter((address) =>
      address.interfaceIndex === interfaceIndex && address.ip.family === family &&
      address.isGlobal && !address.isTransient
    )
    .map((address) => address.ip.text);
}

function describe(network: NetworkIdentity): string {
  return [...network].map(([family, { interfaceIndex, gateway, addresses }]) =>
    `IPv${family} by interface ${interfaceIndex}${gateway && ` via ${gateway}`} from ${addresses}`
  ).join(", ");
}

function readText(path: string): string {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    return "";
  }
}
