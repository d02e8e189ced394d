import { assert, assertEquals, assertThrows } from "@std/assert";
import { withDirectory } from "../../testing/directory.ts";
import { requireWritable } from "./access.ts";
import { Capability, capabilityIn, hasCapability } from "./capabilities.ts";
import { errnoName, OsError } from "./errno.ts";
import { raiseFileLimit } from "./limits.ts";
import { Sysctls } from "./sysctl.ts";

const onLinux = { ignore: Deno.build.os !== "linux" };

Deno.test("OsError says what failed on what, why, and how to mend it", () => {
  const error = new OsError("bind", "UDP 0.0.0.0:53", 13, "choose a port above 1023");
  assertEquals(
    error.message,
    "bind UDP 0.0.0.0:53: permission denied (EACCES); choose a port above 1023",
  );
  assertEquals([error.name, error.code, error.errno], ["OsError", "EACCES", 13]);
  assertEquals(errnoName(4095), "E4095");
});

Deno.test("capabilityIn reads the effective set", () => {
  const status = (set: string) => `Name:\tdeno\nCapPrm:\t000001ffffffffff\nCapEff:\t${set}\n`;
  assert(capabilityIn(status("0000000000001000"), Capability.NET_ADMIN));
  assert(!capabilityIn(status("000001ffffffefff"), Capability.NET_ADMIN));
  assert(!capabilityIn("", Capability.NET_ADMIN));
});

Deno.test({
  name: "hasCapability is false for a bit that no kernel has",
  ...onLinux,
  fn() {
    assertEquals(hasCapability(63), false);
  },
});

Deno.test({
  name: "requireWritable tells what may not be written, and why",
  ...onLinux,
  fn() {
    withDirectory((directory) => {
      requireWritable(directory);
      const path = `${directory}/file`;
      const gone = assertThrows(() => requireWritable(path), OsError);
      assertEquals(gone.message, `access ${path}: no such file or entry (ENOENT)`);
      Deno.writeTextFileSync(path, "");
      requireWritable(path);
    });
  },
});

Deno.test({
  name: "raiseFileLimit raises the soft limit to the hard one",
  ...onLinux,
  fn() {
    const limit = raiseFileLimit();
    assert(limit >= 1024);
    assertEquals(raiseFileLimit(), limit);
    const line = /^Max open files +(\d+) +(\d+)/m.exec(Deno.readTextFileSync("/proc/self/limits"));
    assertEquals([line?.[1], line?.[2]], [String(limit), String(limit)]);
  },
});

Deno.test("Sysctls writes, remembers the first value and puts it back", () => {
  withDirectory((root) => {
    const file = (name: string) => Deno.readTextFileSync(`${root}/${name}`);
    Deno.writeTextFileSync(`${root}/forward`, "0\n");
    Deno.writeTextFileSync(`${root}/gone`, "0\n");
    const sysctls = new Sysctls({ root });
    assertEquals(sysctls.write("forward", "0"), "exists");
    assertEquals(sysctls.write("forward", "1"), "done");
    assertEquals(sysctls.write("forward", "2"), "done");
    assertEquals(sysctls.write("gone", "1"), "done");
    assertEquals(sysctls.write("absent", "1"), "absent");
    assertEquals(sysctls.read("forward"), "2");
    Deno.removeSync(`${root}/gone`);
    assertEquals(sysctls.restore(), ["gone"]);
    assertEquals(file("forward"), "0");
    assertEquals(sysctls.restore(), []);
    Deno.mkdirSync(`${root}/folder`);
    assertThrows(() => sysctls.write("folder", "1"), OsError, `read ${root}/folder`);
  });
});

Deno.test("Sysctls puts back what a predecessor that was killed has changed", () => {
  withDirectory((root) => {
    const file = (name: string) => Deno.readTextFileSync(`${root}/${name}`);
    const journal = `${root}/run/journal.json`;
    Deno.writeTextFileSync(`${root}/forward`, "0\n");
    Deno.writeTextFileSync(`${root}/other`, "7\n");
    const killed = new Sysctls({ root, journal });
    killed.write("forward", "1");

    const successor = new Sysctls({ root, journal });
    assertEquals(successor.write("forward", "1"), "exists");
    assertEquals(successor.write("other", "8"), "done");
    assertEquals(JSON.parse(Deno.readTextFileSync(journal)), { forward: "0", other: "7" });
    assertEquals(successor.restore(), []);
    assertEquals([file("forward"), file("other")], ["0", "7"]);
    assertEquals([...Deno.readDirSync(`${root}/run`)], [], "the journal is over");
  });
});

Deno.test("Sysctls works with a journal that makes no sense, or cannot be written", () => {
  withDirectory((root) => {
    Deno.writeTextFileSync(`${root}/forward`, "0\n");
    const journal = `${root}/journal.json`;
    for (const text of ["", "{", "null", "[1]", '{"../escape":"1","forward":3}']) {
      Deno.writeTextFileSync(journal, text);
      assertEquals(new Sysctls({ root, journal }).restore(), [], text);
    }
    const nowhere = new Sysctls({ root, journal: `${root}/forward/journal.json` });
    assertEquals(nowhere.write("forward", "1"), "done");
    assertEquals(nowhere.restore(), []);
    assertEquals(Deno.readTextFileSync(`${root}/forward`), "0");
  });
});
