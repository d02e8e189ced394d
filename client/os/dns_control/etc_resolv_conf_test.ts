import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { ConfigError } from "@firezone/core/cli";
import { ip } from "@firezone/core/ip";
import fc from "fast-check";
import { type DnsControl, dnsControl } from "./mod.ts";
import { FIRST_LINE } from "./resolv_conf_file.ts";

const SENTINELS = [ip("100.100.111.1"), ip("fd00:2021:1111:8000:100:100:111:1")];
const ORIGINAL = "# by hand\nnameserver 192.0.2.1\nsearch home.example\noptions edns0\n";

interface Machine {
  readonly path: string;
  readonly control: DnsControl;
  read(): string;
  write(text: string): void;
}

async function onMachine(test: (machine: Machine) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/resolv.conf`;
  try {
    await test({
      path,
      control: dnsControl("etc-resolv-conf", { resolvConfPath: path }),
      read: () => Deno.readTextFileSync(path),
      write: (text) => Deno.writeTextFileSync(path, text),
    });
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function servers(addresses: readonly { readonly text: string }[]): string[] {
  return addresses.map((address) => address.text);
}

Deno.test("etc-resolv-conf rewrites the file in place and puts back every byte", async () => {
  await onMachine(async ({ path, control, read, write }) => {
    write(ORIGINAL);
    Deno.chmodSync(path, 0o604);
    if (Deno.uid() === 0) Deno.chownSync(path, 12, 34);
    const before = Deno.statSync(path);
    const identity = (info: Deno.FileInfo) => [info.ino, info.mode, info.uid, info.gid];

    await control.recover();
    assertEquals(read(), ORIGINAL);
    assertEquals(servers(await control.systemServers()), ["192.0.2.1"]);
    await control.setServers("tun-firezone", SENTINELS);
    const ours = read();
    assert(ours.startsWith(`${FIRST_LINE}\n`));
    assertEquals(ours.split("\n").filter((line) => line !== "" && !line.startsWith("#")), [
      "nameserver 100.100.111.1",
      "nameserver fd00:2021:1111:8000:100:100:111:1",
      "search home.example",
      "options edns0",
    ]);
    assertEquals(identity(Deno.statSync(path)), identity(before));
    const backup = Deno.statSync(`${path}.before-firezone`);
    assertEquals(identity(backup).slice(1), identity(before).slice(1));
    assertEquals(servers(await control.systemServers()), ["192.0.2.1"]);

    await control.setServers("tun-firezone", SENTINELS.slice(1), "corp.example");
    assertStringIncludes(read(), "search corp.example home.example\n");
    assertEquals(read().includes("100.100.111.1"), false);
    assertEquals(Deno.readTextFileSync(`${path}.before-firezone`), ORIGINAL);
    // The same again writes nothing, so that who watches the file comes to rest.
    Deno.utimeSync(path, 1, 1);
    await control.setServers("tun-firezone", SENTINELS.slice(1), "corp.example");
    assertEquals(Deno.statSync(path).mtime, new Date(1000));

    await control.revert();
    assertEquals(read(), ORIGINAL);
    assertEquals(identity(Deno.statSync(path)), identity(before));
    await control.revert();
    assertEquals(read(), ORIGINAL);
    assertEquals(Array.from(Deno.readDirSync(path.replace(/[^/]*$/, "")), (e) => e.name).sort(), [
      "resolv.conf",
      "resolv.conf.before-firezone",
    ]);
  });
});

Deno.test("etc-resolv-conf leaves the file alone without servers, and puts it back", async () => {
  await onMachine(async ({ path, control, read, write }) => {
    write(ORIGINAL);
    await control.setServers("tun-firezone", []);
    assertEquals(read(), ORIGINAL);
    assertEquals(Array.from(Deno.readDirSync(path.replace(/[^/]*$/, ""))).length, 1);
    await control.setServers("tun-firezone", SENTINELS);
    await control.setServers("tun-firezone", []);
    assertEquals(read(), ORIGINAL);
  });
});

Deno.test("whenever the client was killed, the next start finds the original", async () => {
  await onMachine(async ({ path, control }) => {
    const read = () => Deno.readFileSync(path);
    const restored = async (content: Uint8Array, original: Uint8Array) => {
      Deno.writeFileSync(path, content);
      await control.recover();
      assertEquals(read(), original);
      await control.recover();
      assertEquals(read(), original);
    };
    const join = (...parts: Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));
    const text = fc.oneof(
      fc.constantFrom(ORIGINAL, "", "#", "nameserver 192.0.2.1", "# BEGIN\n"),
      fc.string({ maxLength: 600 }),
    ).map((text) => new TextEncoder().encode(text));
    const bytes = fc.uint8Array({ maxLength: 600 });
    await fc.assert(
      fc.asyncProperty(fc.oneof(text, bytes), async (original) => {
        Deno.writeFileSync(path, original);
        Deno.writeFileSync(`${path}.before-firezone`, original);
        await control.setServers("tun-firezone", SENTINELS, "corp.example");
        const ours = read();
        await restored(ours, original);
        // While rewriting: what is written over a longer file ends with the rest of that.
        await restored(join(ours, original.slice(ours.length)), original);
        // While putting back: the end is cut off first.
        await restored(ours.slice(0, original.length), original);
        // While other servers take the place of ours: the same.
        Deno.writeFileSync(path, original);
        await control.setServers("tun-firezone", SENTINELS);
        await restored(read().slice(0, -1), original);
      }),
      { numRuns: 60 },
    );
  });
});

Deno.test("what another program writes meanwhile is the system's word from then on", async () => {
  await onMachine(async ({ control, read, write }) => {
    write(ORIGINAL);
    await control.setServers("tun-firezone", SENTINELS);
    const dhcp = "nameserver 198.51.100.7\n";
    write(dhcp);
    assertEquals(servers(await control.systemServers()), ["198.51.100.7"]);
    await control.revert();
    assertEquals(read(), dhcp);
    await control.setServers("tun-firezone", SENTINELS);
    assertEquals(servers(await control.systemServers()), ["198.51.100.7"]);
    await control.revert();
    assertEquals(read(), dhcp);
  });
});

Deno.test("lines that somebody adds around ours are kept, and heard", async () => {
  await onMachine(async ({ path, control, read, write }) => {
    for (const original of [ORIGINAL, ORIGINAL.trimEnd()]) {
      write(original);
      await control.setServers("tun-firezone", SENTINELS);
      write(`# by hand, too\n${read()}nameserver 198.51.100.7\n`);
      const added = `# by hand, too\n${ORIGINAL}nameserver 198.51.100.7\n`;
      assertEquals(servers(await control.systemServers()), ["192.0.2.1", "198.51.100.7"]);
      // A process that is killed now leaves the same behind.
      const edited = read();
      await dnsControl("disabled", { resolvConfPath: path }).recover();
      assertEquals(read(), added);
      write(edited);

      await control.setServers("tun-firezone", SENTINELS);
      assertStringIncludes(read(), "# by hand, too\n");
      assertEquals(read().includes("198.51.100.7"), false);
      assertEquals(read().startsWith(FIRST_LINE), true);
      assertEquals(servers(await control.systemServers()), ["192.0.2.1", "198.51.100.7"]);
      await control.revert();
      assertEquals(read(), added);
    }
  });
});

Deno.test("a file of an earlier version, which has no last line, is put back", async () => {
  await onMachine(async ({ path, control, read, write }) => {
    write(ORIGINAL);
    await control.setServers("tun-firezone", SENTINELS);
    write(`${FIRST_LINE}\nnameserver 100.100.111.1\noptions edns0\n`);
    await control.recover();
    assertEquals(read(), ORIGINAL);
    assertEquals(Array.from(Deno.readDirSync(path.replace(/[^/]*$/, ""))).length, 2);
  });
});

Deno.test("a link is never followed, and the message names the better method", async () => {
  await onMachine(async ({ path, control }) => {
    const target = `${path}.target`;
    Deno.writeTextFileSync(target, ORIGINAL);
    Deno.symlinkSync(target, path);
    const error = await assertRejects(() => control.setServers("tun", SENTINELS), ConfigError);
    assertStringIncludes(error.message, `it is a link to ${target}`);
    assertStringIncludes(error.message, "--dns-control systemd-resolved");
    // The client asks for the servers when it starts, and so does not start.
    await assertRejects(() => control.systemServers(), ConfigError, error.message);

    // Not even one that leads to what looks like ours.
    Deno.writeTextFileSync(target, `${FIRST_LINE}\nnameserver 100.100.111.1\n`);
    await control.recover();
    await control.revert();
    assertEquals(Deno.readTextFileSync(target).startsWith(FIRST_LINE), true);
    assertEquals(Array.from(Deno.readDirSync(path.replace(/[^/]*$/, ""))).length, 2);
  });
});

Deno.test("what cannot be rewritten or restored is refused in one line that helps", async () => {
  await onMachine(async ({ path, control, write }) => {
    const refused = async (attempt: () => Promise<unknown>) => {
      const { message } = await assertRejects(attempt, ConfigError);
      assertEquals(message.includes("\n"), false);
      return message;
    };
    assertStringIncludes(
      await refused(() => control.setServers("tun", SENTINELS)),
      "there is no such regular file; create it",
    );
    assertStringIncludes(await refused(() => control.systemServers()), "there is no such");
    await control.recover();

    Deno.mkdirSync(path);
    await refused(() => control.setServers("tun", SENTINELS));
    Deno.removeSync(path);

    write(`${FIRST_LINE}\nnameserver 100.100.111.1\n`);
    const lost = "the original at " + `${path}.before-firezone is gone`;
    assertStringIncludes(await refused(() => control.recover()), lost);
    assertStringIncludes(await refused(() => control.setServers("tun", SENTINELS)), lost);
  });
});

Deno.test("a check finds what a start would, and changes nothing", async () => {
  await onMachine(async ({ path, control, read, write }) => {
    const folder = path.slice(0, path.lastIndexOf("/"));
    const state = () => {
      const files = Array.from(Deno.readDirSync(folder), ({ name }) => {
        const { mtime, ctime, ino } = Deno.lstatSync(`${folder}/${name}`);
        return [name, mtime, ctime, ino];
      });
      return [files, Deno.statSync(folder).mtime];
    };
    const refused = async (method: DnsControl = control) => {
      const before = state();
      const { message } = await assertRejects(() => method.check(), ConfigError);
      assertEquals(state(), before);
      return message;
    };
    const disabled = dnsControl("disabled", { resolvConfPath: path });

    assertStringIncludes(await refused(), "there is no such regular file; create it");
    await disabled.check();
    Deno.symlinkSync("/run/systemd/resolve/stub-resolv.conf", path);
    assertStringIncludes(await refused(), "choose --dns-control systemd-resolved");
    Deno.removeSync(path);

    write(ORIGINAL);
    const before = state();
    await control.check();
    await disabled.check();
    assertEquals([state(), read()], [before, ORIGINAL]);
    // What a killed client left behind is no obstacle, unless nobody knows what was there before.
    await control.setServers("tun-firezone", SENTINELS);
    await control.check();
    await disabled.check();
    Deno.removeSync(`${path}.before-firezone`);
    for (const method of [control, disabled]) {
      assertStringIncludes(await refused(method), "before-firezone is gone");
    }
  });
});

Deno.test("every method puts back what a killed one left in the file", async () => {
  for (const method of ["disabled", "systemd-resolved"] as const) {
    await onMachine(async ({ path, control, read, write }) => {
      write(ORIGINAL);
      await control.setServers("tun-firezone", SENTINELS);
      await dnsControl(method, { resolvConfPath: path }).recover();
      assertEquals(read(), ORIGINAL);
    });
  }
});

Deno.test("disabled changes nothing and knows the system's servers", async () => {
  await onMachine(async ({ path, read, write }) => {
    write(`${ORIGINAL}nameserver 100.100.111.1\n`);
    const control = dnsControl("disabled", { resolvConfPath: path });
    await control.recover();
    await control.setServers("tun-firezone", SENTINELS);
    await control.flush();
    await control.revert();
    assertEquals(read(), `${ORIGINAL}nameserver 100.100.111.1\n`);
    assertEquals(servers(await control.systemServers()), ["192.0.2.1"]);
    Deno.removeSync(path);
    assertEquals(await control.systemServers(), []);
  });
});
