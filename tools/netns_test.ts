import { assert, assertEquals, assertRejects } from "@std/assert";
import { requires } from "@firezone/tests/requirements";
import { Namespaces, runCommand, sweep } from "./netns.ts";

const needs = requires("linux", "root", "namespaces", "ip");

Deno.test(
  "Namespaces joins namespaces, runs commands in them and leaves nothing",
  needs,
  async () => {
    let names: string[];
    let pid: number;
    {
      await using net = await Namespaces.create("fzt", ["a", "b"]);
      names = ["a", "b"].map((name) => net.get(name).fullName);
      await net.link(["a", "eth0"], ["b", "eth0"]);
      await net.get("a").ip("addr add 10.9.0.1/24 dev eth0", "link set eth0 up");
      await net.get("b").ip("addr add 10.9.0.2/24 dev eth0", "link set eth0 up");
      await net.get("a").sysctl({ "net.ipv4.ip_forward": 1 });
      const forward = await net.get("a").run(["cat", "/proc/sys/net/ipv4/ip_forward"]);
      assertEquals(forward, { code: 0, stdout: "1\n", stderr: "" });
      const route = await net.get("a").run(["ip", "route", "get", "10.9.0.2"]);
      assert(route.stdout.includes("dev eth0"), route.stdout);

      // A shell with a child of its own, which has to go as well.
      const shell = net.get("b").spawn("shell", [
        "sh",
        "-c",
        "trap '' TERM; sleep 1000 & echo up; wait",
      ]);
      assertEquals(await shell.waitForLine(/^up$/, 5_000), "up");
      pid = shell.pid;
      assertEquals((await net.get("b").pids()).length, 2);
      await net.close(200);
      assertEquals((await shell.ended).signal, "SIGKILL");
    }
    for (const name of names) await assertRejects(() => Deno.lstat(`/run/netns/${name}`));
    await assertRejects(() => Deno.stat(`/proc/${pid}`));
  },
);

Deno.test("Namespace.ip says which command failed", needs, async () => {
  await using net = await Namespaces.create("fzt", ["a"]);
  const error = await assertRejects(
    () => net.get("a").ip("link set lo up", "link set no up"),
    Error,
  );
  assert(error.message.includes("link set no up"), error.message);
});

Deno.test("Process.waitForLine rejects when the process ends", needs, async () => {
  await using net = await Namespaces.create("fzt", ["a"]);
  const process = net.get("a").spawn("short", ["sh", "-c", "echo one; exit 3"]);
  await assertRejects(() => process.waitForLine(/two/, 5_000), Error, "short ended with status 3");
  assertEquals(process.lines, ["one"]);
});

Deno.test("what a killed process left behind goes with the next sweep", needs, async () => {
  const maker = `
    import { Namespaces } from "${import.meta.resolve("./netns.ts")}";
    const net = await Namespaces.create("fzs", ["a"]);
    net.get("a").spawn("sleeper", ["sleep", "1000"]);
    console.log(net.get("a").fullName);
    Deno.kill(Deno.pid, "SIGKILL");`;
  const { stdout } = await runCommand([Deno.execPath(), "eval", maker]);
  const name = stdout.trim();
  assertEquals((await Deno.lstat(`/run/netns/${name}`)).isFile, true);
  await sweep("fzs");
  await assertRejects(() => Deno.lstat(`/run/netns/${name}`));
});
