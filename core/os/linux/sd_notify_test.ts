import { assertEquals } from "@std/assert";
import { requires } from "../../../tests/requirements.ts";
import { ServiceManager } from "./sd_notify.ts";
import { NotifyListener } from "./testing/notify_listener.ts";

const NEEDS = requires("linux");
function withEnv(variables: Record<string, string>, test: () => void): void {
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    test();
  } finally {
    for (const name of Object.keys(variables)) Deno.env.delete(name);
  }
}

Deno.test({
  name: "ServiceManager sends to a path and to an abstract name",
  ...NEEDS,
  fn() {
    const directory = Deno.makeTempDirSync();
    for (const name of [`${directory}/notify`, `@firezone-test-${crypto.randomUUID()}`]) {
      using listener = new NotifyListener(name);
      const manager = new ServiceManager(name);
      assertEquals(manager.ready(), true);
      assertEquals(manager.status("Connected\nREADY=0"), true);
      assertEquals(manager.stopping(), true);
      assertEquals(listener.take(), ["READY=1", "STATUS=Connected READY=0", "STOPPING=1"]);
    }
    Deno.removeSync(directory, { recursive: true });
  },
});

Deno.test({
  name: "ServiceManager does not mind that nobody listens, or that a name is too long",
  ...NEEDS,
  fn() {
    for (const name of ["/nowhere/notify", "@nobody-here", `/${"x".repeat(200)}`]) {
      assertEquals(new ServiceManager(name).ready(), false);
    }
  },
});

Deno.test({
  name: "ServiceManager is found in the environment, which forgets it",
  ...NEEDS,
  fn() {
    assertEquals(ServiceManager.fromEnvironment(), undefined);
    const watched = (more: Record<string, string>) => {
      let ms: number | undefined;
      withEnv({ NOTIFY_SOCKET: "@x", ...more }, () => {
        ms = ServiceManager.fromEnvironment()!.watchdogMs;
        assertEquals(Deno.env.has("NOTIFY_SOCKET") || Deno.env.has("WATCHDOG_USEC"), false);
      });
      return ms;
    };
    assertEquals(watched({}), undefined);
    assertEquals(watched({ WATCHDOG_USEC: "30000000" }), 30_000);
    assertEquals(watched({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: `${Deno.pid}` }), 30_000);
    assertEquals(watched({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "1" }), undefined);
    for (const odd of ["0", "-1", "soon"]) assertEquals(watched({ WATCHDOG_USEC: odd }), undefined);
    for (const odd of ["vsock:2:1234", "relative", "/", "@"]) {
      withEnv({ NOTIFY_SOCKET: odd }, () => {
        assertEquals(ServiceManager.fromEnvironment(), undefined);
      });
    }
  },
});

Deno.test({
  name: "ServiceManager tells the watchdog that we live only if we do",
  ...NEEDS,
  async fn() {
    const name = `@firezone-test-${crypto.randomUUID()}`;
    using listener = new NotifyListener(name);
    const manager = new ServiceManager(name, 20);
    const alive: boolean[] = [true, true, false, false];
    const { promise: asked, resolve } = Promise.withResolvers<void>();
    manager.startWatchdog(() => {
      const isAlive = alive.shift();
      if (isAlive === undefined) resolve();
      return isAlive ? Promise.resolve() : Promise.reject(new Error("dead"));
    });
    await asked;
    manager.close();
    assertEquals(listener.take(), ["WATCHDOG=1", "WATCHDOG=1"]);

    const unwatched = new ServiceManager(name);
    unwatched.startWatchdog(() => Promise.resolve());
    await Promise.resolve();
    assertEquals(listener.take(), []);
  },
});
