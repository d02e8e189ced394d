import { assertEquals } from "@std/assert";
import { requires } from "../../tests/requirements.ts";
import { logger } from "../telemetry/logging.ts";
import { BusSignals } from "./bus_signals.ts";
import { TestBus } from "./testing/bus.ts";

const NEEDS = requires("linux", "dbus-daemon");
const NETWORK_MANAGER = [
  "org.freedesktop.NetworkManager",
  "/org/freedesktop/NetworkManager",
] as const;
const RESOLVED = ["org.freedesktop.resolve1", "/org/freedesktop/resolve1"] as const;

/** Listens, and lets a test wait for what comes. */
class Listener {
  readonly heard: string[] = [];
  readonly signals: BusSignals;
  #wake = () => {};

  constructor(socket: string) {
    this.signals = new BusSignals({
      socket,
      onChange: (service) => {
        this.heard.push(service);
        this.#wake();
      },
      log: logger("test"),
    });
  }

  /** Repeats something until that is heard: a subscription takes a moment. */
  async hears(service: string, say: () => Promise<void>): Promise<boolean> {
    for (let i = 0; i < 100 && !this.heard.includes(service); i++) {
      await say();
      const timer = setTimeout(() => this.#wake(), 100);
      await new Promise<void>((resolve) => this.#wake = resolve);
      clearTimeout(timer);
    }
    return this.heard.splice(0).includes(service);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signals.close();
  }
}

Deno.test("BusSignals hears NetworkManager and resolved, and nothing else", NEEDS, async () => {
  await using bus = await TestBus.start();
  using networkManager = await bus.service(...NETWORK_MANAGER);
  using resolved = await bus.service(...RESOLVED);
  using stranger = await bus.service("org.example.Stranger", NETWORK_MANAGER[1]);
  await using listener = new Listener(bus.socket);
  assertEquals(
    await listener.hears("network-manager", () => networkManager.change("PrimaryConnection")),
    true,
  );
  await stranger.change("PrimaryConnection");
  await networkManager.change("WirelessEnabled");
  await resolved.change("CacheStatistics");
  assertEquals(await listener.hears("resolved", () => resolved.change("DNS")), true);
  assertEquals(listener.heard.filter((service) => service === "network-manager"), []);
});

Deno.test("BusSignals does not mind that there is no bus, or one that ends", NEEDS, async () => {
  {
    await using listener = new Listener("/nowhere/bus");
    assertEquals(listener.heard, []);
  }
  const bus = await TestBus.start();
  await using listener = new Listener(bus.socket);
  {
    using networkManager = await bus.service(...NETWORK_MANAGER);
    const say = () => networkManager.change("PrimaryConnection");
    assertEquals(await listener.hears("network-manager", say), true);
  }
  await bus[Symbol.asyncDispose]();
});

Deno.test("BusSignals gives a bus up that speaks something else", async () => {
  const directory = await Deno.makeTempDir();
  const server = Deno.listen({ transport: "unix", path: `${directory}/bus` });
  const listener = new Listener(`${directory}/bus`);
  const connection = await server.accept();
  await connection.write(new TextEncoder().encode("OK 1234\r\n"));
  await connection.write(new Uint8Array(64).fill(0x41));
  const buffer = new Uint8Array(4096);
  while (await connection.read(buffer) !== null);
  connection.close();
  server.close();
  await listener.signals.close();
  await Deno.remove(directory, { recursive: true });
});
