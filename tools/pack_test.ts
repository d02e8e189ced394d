import { assert, assertEquals } from "@std/assert";
import { requires } from "@firezone/tests/requirements";
import { Compiler } from "./compile.ts";
import { TAR_END, tarEntry } from "./tar.ts";

const toy = new URL("./testdata/toy/main.ts", import.meta.url).pathname;
const needs = requires("linux");

Deno.test("tarEntry writes what tar reads", needs, async () => {
  const content = new TextEncoder().encode("twelve bytes");
  const child = new Deno.Command("tar", {
    args: ["-tvf", "-"],
    stdin: "piped",
    stdout: "piped",
    env: { LC_ALL: "C", TZ: "UTC" },
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(tarEntry("some/file.txt", content, 0o640));
  await writer.write(TAR_END);
  await writer.close();
  const { success, stdout } = await child.output();
  assert(success);
  const words = new TextDecoder().decode(stdout).trim().split(/\s+/);
  assertEquals([words[0], words[1], words[2], words.at(-1)], [
    "-rw-r-----",
    "0/0",
    "12",
    "some/file.txt",
  ]);
});

Deno.test("a packed program runs like the program", needs, async (t) => {
  const folder = await Deno.makeTempDir();
  const env = { FIREZONE_UNPACK_DIR: `${folder}/cache`, NO_COLOR: "1" };
  const run = async (...args: string[]) => {
    const { code, stdout, stderr } = await new Deno.Command(`${folder}/toy`, { args, env })
      .output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  };
  try {
    await new Compiler().pack("toy", toy, `${folder}/toy`);

    await t.step("four first starts at once all work", async () => {
      const all = await Promise.all([1, 2, 3, 4].map(() => run("--version")));
      for (const one of all) assertEquals(one, { code: 0, stdout: "toy 1.2.3\n", stderr: "" });
      const left = [...Deno.readDirSync(`${folder}/cache/toy`)];
      assertEquals(left.length, 1, "nothing but the unpacked program stays");
    });

    await t.step("worker, asset, FFI, arguments and exit status pass through", async () => {
      const { code, stdout, stderr } = await run("a b", "$c");
      assertEquals([code, stderr], [5, ""]);
      assertEquals(JSON.parse(stdout), {
        args: ["a b", "$c"],
        asset: "an asset",
        data: 40,
        sameProcess: true,
      });
    });

    await t.step("a signal reaches the program itself", async () => {
      const child = new Deno.Command(`${folder}/toy`, { args: ["wait"], env, stdout: "piped" })
        .spawn();
      const reader = child.stdout.getReader();
      const line = new TextDecoder().decode((await reader.read()).value);
      assertEquals(line, `waiting as ${child.pid}\n`);
      child.kill("SIGTERM");
      assertEquals((await child.status).code, 7);
      await reader.cancel();
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("deno compile's output is refused when it is not the program", needs, async () => {
  const folder = await Deno.makeTempDir();
  const before = Deno.env.get("DENORT_BIN");
  Deno.env.set("DENORT_BIN", Deno.execPath()); // yields a file that is only the deno CLI
  try {
    const compiler = new Compiler();
    assertEquals(await compiler.make("toy", toy, `${folder}/toy`), "packed");
    assert(compiler.whyPacked !== undefined);
    assertEquals([...Deno.readDirSync(folder)].map((file) => file.name), ["toy"]);
  } finally {
    if (before === undefined) Deno.env.delete("DENORT_BIN");
    else Deno.env.set("DENORT_BIN", before);
    await Deno.remove(folder, { recursive: true });
  }
});
