import { assert, assertEquals, assertInstanceOf, assertStringIncludes } from "@std/assert";
import { spawnWorker, WorkerError } from "./worker_channel.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test({
  name: "spawnWorker carries messages to a thread that blocks in epoll and back, in order",
  ...onLinux,
  async fn() {
    const { worker, next } = start();
    assertEquals(await next(), "hello");
    for (let i = 0; i < 100; i++) worker.post(String(i));
    for (let i = 0; i < 100; i++) assertEquals(await next(), `echo ${i}`);
    worker.post("stop");
    assertEquals(await next(), "bye");
    await worker.ended;
    worker.post("nobody hears this");
  },
});

Deno.test({
  name: "WorkerHandle.close wakes the loop and waits for what it still has to say",
  ...onLinux,
  async fn() {
    const { worker, next } = start();
    assertEquals(await next(), "hello");
    const said = next();
    await worker.close();
    assertEquals(await said, "bye");
    await worker.close();
  },
});

Deno.test({
  name: "spawnWorker passes on what the worker throws, with the worker's stack",
  ...onLinux,
  async fn() {
    const { worker, fatal } = start();
    worker.post("throw");
    const error = await fatal;
    assertInstanceOf(error, WorkerError);
    assertEquals(error.message, "RangeError: told to throw");
    assertStringIncludes(error.stack!, "echo_worker.ts");
    await worker.ended;
  },
});

Deno.test({
  name: "spawnWorker reports a worker that cannot be loaded",
  ...onLinux,
  // The port that was handed to the worker goes with it, sooner or later.
  sanitizeResources: false,
  async fn() {
    const failed = Promise.withResolvers<WorkerError>();
    const worker = spawnWorker<string, string, undefined>(
      new URL("./testdata/absent_worker.ts", import.meta.url),
      undefined,
      { onMessage: () => {}, onFatal: failed.resolve },
    );
    const error = await failed.promise;
    assert(/absent/.test(error.message), error.message);
    await worker.ended;
  },
});

function start() {
  const came: string[] = [];
  const waiting: ((message: string) => void)[] = [];
  const failed = Promise.withResolvers<WorkerError>();
  const worker = spawnWorker<string, string, { greeting: string }>(
    new URL("./testdata/echo_worker.ts", import.meta.url),
    { greeting: "hello" },
    {
      onMessage: (message) => {
        const resolve = waiting.shift();
        if (resolve) resolve(message);
        else came.push(message);
      },
      onFatal: failed.resolve,
    },
  );
  const next = () => {
    const message = came.shift();
    if (message !== undefined) return Promise.resolve(message);
    return new Promise<string>((resolve) => waiting.push(resolve));
  };
  return { worker, next, fatal: failed.promise };
}
