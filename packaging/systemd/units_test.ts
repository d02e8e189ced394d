import { assert, assertEquals } from "@std/assert";
import { findCommand } from "../../tests/requirements.ts";

const FOLDER = new URL(".", import.meta.url).pathname;
/** What each program cannot do without; the client's resolver listens on port 53. */
const CAPABILITIES: Readonly<Record<string, string>> = {
  "firezone-gateway": "CAP_NET_ADMIN",
  "firezone-headless-client": "CAP_NET_ADMIN CAP_NET_BIND_SERVICE",
};
const UNITS = Array.from(Deno.readDirSync(FOLDER), (entry) => entry.name)
  .filter((name) => name.endsWith(".service"))
  .sort();

/** Settings by section, in order; throws at a line that is none. */
function parseUnit(text: string): Map<string, [string, string][]> {
  const sections = new Map<string, [string, string][]>();
  let current: [string, string][] | undefined;
  for (const line of text.split("\n").filter((line) => line !== "" && !/^[#;]/.test(line))) {
    const section = /^\[(\w+)\]$/.exec(line)?.[1];
    if (section !== undefined) {
      assertEquals(sections.has(section), false, `twice: ${line}`);
      sections.set(section, current = []);
      continue;
    }
    const [, name, value] = /^([A-Z]\w*)=(.*)$/.exec(line) ?? [];
    assert(name !== undefined && current !== undefined, `not understood: ${line}`);
    current.push([name, value!]);
  }
  return sections;
}

function read(unit: string): string {
  return Deno.readTextFileSync(`${FOLDER}/${unit}`);
}

Deno.test("the units are well-formed and take the rights away that both programs can do without", () => {
  assertEquals(UNITS, ["firezone-gateway.service", "firezone-headless-client.service"]);
  for (const unit of UNITS) {
    const sections = parseUnit(read(unit));
    assertEquals([...sections.keys()], ["Unit", "Service", "Install"], unit);
    const settings = sections.get("Service")!;
    const valuesOf = (name: string) => settings.filter((s) => s[0] === name).map((s) => s[1]);
    const program = unit.replace(".service", "");
    assertEquals(valuesOf("ExecStart"), [`/usr/bin/${program}`]);
    assertEquals(valuesOf("Type"), ["notify"]);
    assertEquals(valuesOf("CapabilityBoundingSet"), [CAPABILITIES[program]]);
    assertEquals(valuesOf("NoNewPrivileges"), ["yes"]);
    assertEquals(valuesOf("DeviceAllow"), ["/dev/net/tun rw"]);
    // sd_notify and the status socket need AF_UNIX.
    assertEquals(valuesOf("RestrictAddressFamilies"), ["AF_INET AF_INET6 AF_NETLINK AF_UNIX"]);
    assert(valuesOf("LoadCredential")[0]?.startsWith("FIREZONE_TOKEN:/etc/"), unit);
    // The engine would not start with it.
    assertEquals(valuesOf("MemoryDenyWriteExecute"), []);
    const single = settings.map(([name]) => name).filter((name) => name !== "Environment");
    assertEquals(new Set(single).size, single.length, `${unit} sets something twice`);
  }
});

Deno.test({
  name: "systemd accepts the units and finds little to object to",
  // A container has no systemd, and needs none for anything else.
  ignore: findCommand("systemd-analyze") === undefined,
  fn() {
    const folder = Deno.makeTempDirSync();
    for (const unit of UNITS) {
      const path = `${folder}/${unit}`;
      // The programs need not be installed.
      Deno.writeTextFileSync(path, read(unit).replace(/^ExecStart=.*$/m, "ExecStart=/bin/true"));
      const verified = analyze("verify", path);
      const complaints = verified.text.split("\n").filter((line) => line.includes(unit));
      assertEquals([verified.code, complaints], [0, []], verified.text);
      // Tenths, from 0 for locked up to 100; older ones cannot look at files and refuse the option.
      const judged = analyze("security", "--offline=true", "--threshold=30", path);
      assert(judged.code === 0 || /unrecognized option/.test(judged.text), judged.text);
    }
    Deno.removeSync(folder, { recursive: true });
  },
});

function analyze(...args: string[]): { readonly code: number; readonly text: string } {
  const { code, stdout, stderr } = new Deno.Command("systemd-analyze", {
    args: ["--no-pager", ...args],
  }).outputSync();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, text: (args[0] === "verify" ? "" : decode(stdout)) + decode(stderr) };
}
