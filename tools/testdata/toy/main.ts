// A program as small as can be that uses all that packing has to carry over: a package, a worker,
// an asset, FFI, arguments, signals and exit statuses. This is no asset:
// new URL("./no_such_file.txt", import.meta.url)
import { Command } from "@std/cli";

const [word] = Deno.args;
if (word === "--version") {
  console.log(`${new Command("toy").name()} 1.2.3`);
} else if (word === "wait") {
  Deno.addSignalListener("SIGTERM", () => Deno.exit(7));
  setInterval(() => {}, 1_000);
  console.log(`waiting as ${Deno.pid}`);
} else {
  const libc = Deno.dlopen("libc.so.6", { getpid: { parameters: [], result: "i32" } });
  const asset = await Deno.readTextFile(new URL("./asset.txt", import.meta.url));
  const worker = new Worker(new URL("./toy_worker.ts", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => {
    const sameProcess = libc.symbols.getpid() === Deno.pid;
    console.log(JSON.stringify({ args: Deno.args, asset, data, sameProcess }));
    Deno.exit(5);
  };
  worker.postMessage(20);
}
