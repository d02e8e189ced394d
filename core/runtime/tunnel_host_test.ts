import { assertEquals, assertRejects } from "@std/assert";
import { Secret } from "../secret.ts";
import { logger } from "../telemetry/mod.ts";
import { TunnelHost } from "./tunnel_host.ts";
import type { DataPlaneNotice } from "./data_plane_messages.ts";
import type { WorkerHandle, WorkerHandlers } from "./worker_channel.ts";

Deno.test("a bug in the main thread ends a program after it has put everything back", async () => {
  for (
    const cause of [
      (bug: Error) =>
        setTimeout(() => {
          throw bug;
        }),
      (bug: Error) => void Promise.reject(bug),
    ]
  ) {
    const done: string[] = [];
    const host = makeHost(done);
    const bug = new Error("a bug");
    const run = host.run();
    cause(bug);
    assertEquals(await assertRejects(() => run), bug);
    assertEquals(done, ["close", "worker closed"]);
  }
});

Deno.test("who asks while the worker crashes gets an answer, and the program ends", async () => {
  const done: string[] = [];
  let crash: ((error: Error) => void) | undefined;
  const host = makeHost(done, (handlers) => crash = handlers.onFatal as typeof crash);
  const run = host.run();
  const asked = host.status();
  const bug = new Error("a bug in the worker");
  crash!(bug);
  assertEquals((await asked).portal, "connecting");
  assertEquals(await assertRejects(() => run), bug);
  assertEquals(done, ["close"]);
});

Deno.test("SIGHUP starts over, each time", async () => {
  const done: string[] = [];
  let crash: ((error: Error) => void) | undefined;
  const host = makeHost(done, (handlers) => crash = handlers.onFatal as typeof crash);
  const run = host.run();
  for (let i = 1; i <= 3; i++) {
    Deno.kill(Deno.pid, "SIGHUP");
    while (done.length < i) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  crash!(new Error("enough"));
  await assertRejects(() => run, Error, "enough");
  assertEquals(done, ["reset", "reset", "reset", "close"]);
});

Deno.test({
  name: "a device that cannot be configured ends a program, and what it did is undone",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const done: string[] = [];
    let tell: ((notice: DataPlaneNotice<unknown>) => void) | undefined;
    const host = makeHost(done, (handlers) => tell = handlers.onMessage as typeof tell);
    const run = host.run();
    tell!({ tag: "ready", interfaceName: "fz-no-such", publicKey: "" });
    await assertRejects(() => run, Error, "fz-no-such");
    assertEquals(done, ["close", "worker closed"]);
  },
});

Deno.test("the status tells the session, also while there is no worker", async () => {
  const status = await makeHost([]).status();
  assertEquals(status.portal, "connecting");
  assertEquals((status as unknown as { apiUrl: string }).apiUrl, "wss://portal.example");
});

function makeHost(
  done: string[],
  onStart: (handlers: WorkerHandlers<DataPlaneNotice<unknown>>) => void = () => {},
): TunnelHost<unknown, unknown> {
  return new TunnelHost({
    portal: {
      apiUrl: new URL("wss://portal.example/base"),
      token: new Secret("token"),
      login: { role: "client", id: "id", name: "name" },
      maxPartitionMs: undefined,
    },
    startWorker: (handlers) => {
      onStart(handlers);
      return {
        post: ({ tag }: { tag: string }) => tag === "reset" && done.push(tag),
        close: () => {
          done.push("worker closed");
          return Promise.resolve();
        },
      } as unknown as WorkerHandle<never>;
    },
    onNotice() {},
    statusSocket: undefined,
    manager: undefined,
    log: logger("test"),
    close: () => {
      done.push("close");
      return Promise.resolve();
    },
  });
}
