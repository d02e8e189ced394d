import { spawnWorker } from "./worker_channel.ts";

let resolve: (() => void) | undefined;
const ready = new Promise<void>((r) => resolve = r);
const worker = spawnWorker<string, string, { greeting: string }>(
  new URL("./testdata/echo_worker.ts", import.meta.url),
  { greeting: "hello" },
  {
    onMessage: () => resolve?.(),
    onFatal: (error) => {
      throw error;
    },
  },
);
await ready;

Deno.bench("spawnWorker: main thread to blocked worker and back", async () => {
  const answered = new Promise<void>((r) => resolve = r);
  worker.post("ping");
  await answered;
});

addEventListener("unload", () => worker.post("stop"));
