import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import fc from "fast-check";
import { serveStatus } from "../runtime/status_server.ts";
import type { Command } from "./command.ts";
import { command, option } from "./command.ts";
import { ConfigError } from "./errors.ts";
import { statusCommand } from "./status_command.ts";
import { statusPage } from "./status_page.ts";
import { text } from "./values.ts";

const PROGRAM = "firezone-headless-client";

const CLIENT = {
  version: "1.5.0",
  apiUrl: "wss://api.firezone.dev",
  portal: "connected",
  portalForMs: 7_200_000,
  uptimeMs: 7_265_000,
  ipv4: "100.64.0.1",
  ipv6: "fd00:2021:1111::1",
  resources: [
    {
      id: "r1",
      name: "Payroll",
      type: "cidr",
      address: "10.1.0.0/16",
      status: "online",
      gatewayId: "g1",
    },
    { id: "r2", name: "Everything else", type: "internet", status: "unknown" },
  ],
  connections: [
    {
      peerId: "g1",
      state: "connected",
      path: {
        kind: "relayed",
        local: "192.0.2.1:3478",
        remote: "203.0.113.5:52625",
        remoteRelayed: false,
      },
      rttMs: 12.4,
      lastHandshakeMs: 65_000,
      txBytes: 1_234_567,
      rxBytes: 12,
      txPackets: 2_000,
      rxPackets: 998,
      rxLost: 2,
    },
    { peerId: "g2", state: "connecting", txBytes: 0, rxBytes: 0, rxPackets: 0, rxLost: 0 },
  ],
  drops: { malformed: 0, filtered: 3 },
};

const CLIENT_PAGE = `\
firezone-headless-client: connected to wss://api.firezone.dev for 2h 0m, 100.64.0.1 and fd00:2021:1111::1, up 2h 1m

RESOURCE         TYPE      ADDRESS      STATUS   GATEWAY
Payroll          cidr      10.1.0.0/16  online   g1
Everything else  internet  -            unknown  -

CONNECTION  STATE       PATH                 FROM            TO                   RTT  HANDSHAKE    SENT  RECEIVED   LOST
g1          connected   relayed (our relay)  192.0.2.1:3478  203.0.113.5:52625  12 ms  1m 5s ago  1.2 MB      12 B  0.2 %
g2          connecting  -                    -               -                      -      never     0 B       0 B      -

Dropped packets: filtered 3
`;

Deno.test("statusPage shows a client's session, resources, connections and drops", () => {
  assertEquals(statusPage(PROGRAM, CLIENT), CLIENT_PAGE);
});

Deno.test("statusPage shows a gateway's clients, and lists that are empty", () => {
  const peers = [
    { clientId: "c1", ipv4: "100.64.0.1", ipv6: "fd00::1", resources: ["r1", "r2"], flows: 4 },
  ];
  const resources = [
    { id: "r1", name: "Payroll", type: "cidr", address: "10.1.0.0/16", clients: 1 },
    { id: "r2", name: "", type: "internet", clients: 1 },
  ];
  const status = { portal: "connecting", resources, peers, connections: [], drops: {} };
  assertEquals(
    statusPage("firezone-gateway", status),
    `\
firezone-gateway: not connected to the portal, no addresses yet

RESOURCE  TYPE      ADDRESS      CLIENTS
Payroll   cidr      10.1.0.0/16        1
r2        internet  -                  1

CLIENT  IPV4        IPV6     RESOURCES  FLOWS
c1      100.64.0.1  fd00::1          2      4

No connections
`,
  );
});

Deno.test("statusPage tells the kinds of paths apart", () => {
  const kinds = [["direct", false], ["direct", true], ["relayed", false], ["relayed", true]];
  const connections = kinds.map(([kind, remoteRelayed]) => ({ path: { kind, remoteRelayed } }));
  const lines = statusPage(PROGRAM, { connections }).split("\n").slice(3, 7);
  assertEquals(lines.map((line) => /(direct|relayed \(.*?\))/.exec(line)?.[1]), [
    "direct",
    "relayed (their relay)",
    "relayed (our relay)",
    "relayed (both relays)",
  ]);
});

Deno.test("statusPage takes any JSON, and nothing in it steers the terminal", () => {
  // deno-lint-ignore no-control-regex
  const control = /[\x00-\x09\x0b-\x1f\x7f-\x9f]/;
  const keys = fc.constantFrom(...Object.keys(CLIENT), "peers", "name", "path", "kind", "rttMs");
  fc.assert(fc.property(fc.dictionary(keys, fc.jsonValue()), (status) => {
    assertEquals(control.test(statusPage(PROGRAM, status)), false);
  }));
  for (const odd of [null, [], 1, "x", { resources: [null, 1, ["x"]] }]) statusPage(PROGRAM, odd);
  const page = statusPage(PROGRAM, { resources: [{ name: "\x1b[2Jevil\nname" }] });
  assertStringIncludes(page, "?[2Jevil?name");
});

Deno.test("the command shows a page, everything as JSON, or page after page", async () => {
  await withSocket(async (path) => {
    const answers: unknown[] = [CLIENT, CLIENT, { ...CLIENT, portal: "connecting" }];
    const server = await serveStatus(path, () => Promise.resolve(answers.shift() ?? CLIENT));
    assertEquals(await run(path, []), CLIENT_PAGE);
    assertEquals(JSON.parse(await run(path, ["--json"])), CLIENT);
    const watched = await run(path, ["--watch"], 2);
    assertEquals(watched.split("firezone-headless-client: ").length, 4);
    assertStringIncludes(watched, "not connected to wss://api.firezone.dev");
    const lines = (await run(path, ["--json", "-w"], 1)).trim().split("\n");
    assertEquals(lines.map((line) => JSON.parse(line)), [CLIENT, CLIENT]);
    await server.close();
  });
});

Deno.test("under --watch a program that ends is reported and waited for", async () => {
  await withSocket(async (path) => {
    let server = await serveStatus(path, () => Promise.resolve(CLIENT));
    let pages = 0;
    const shown = await run(path, ["--watch"], async () => {
      if (pages === 0) await server.close();
      if (pages === 1) server = await serveStatus(path, () => Promise.resolve(CLIENT));
      return ++pages < 3;
    });
    const missing = `Cannot ask ${path}: no ${PROGRAM} is running there; ` +
      "start it, or name its --status-socket\n";
    assertEquals(shown, CLIENT_PAGE + missing + CLIENT_PAGE);
    await server.close();
  });
});

Deno.test("where nothing runs, or something else does, the command says so in one line", async () => {
  await withSocket(async (path) => {
    const refused = async () => (await assertRejects(() => run(path, []), ConfigError)).message;
    assertStringIncludes(await refused(), `no ${PROGRAM} is running there`);
    Deno.listen({ transport: "unix", path }).close();
    assertStringIncludes(await refused(), `no ${PROGRAM} is running there`);
    await Deno.remove(path).catch(() => {});
    for (
      const [answer, said] of [
        [() => new Response("{"), `what answers there is not ${PROGRAM}`],
        [() => new Response("{}", { status: 404 }), "it answered with status 404"],
      ] as const
    ) {
      const server = Deno.serve({ path, onListen: () => {} }, answer);
      assertStringIncludes(await refused(), said);
      await server.shutdown();
    }
    const babbler = Deno.listen({ transport: "unix", path });
    const served = (async () => {
      const connection = await babbler.accept();
      await connection.write(crypto.getRandomValues(new Uint8Array(4096)));
      connection.close();
    })();
    assertEquals((await refused()).includes("\n"), false);
    await served;
    babbler.close();
  });
});

/** Runs the sub-command of a program and returns what it wrote. */
async function run(
  path: string,
  args: readonly string[],
  pages: number | (() => Promise<boolean>) = 0,
): Promise<string> {
  let written = "";
  let left = pages;
  const nextPage = typeof left === "function"
    ? left
    : () => Promise.resolve(typeof left === "number" && left-- > 0);
  const statusSocket = option({
    flags: "--status-socket <path>",
    description: "where",
    kind: text,
    default: "/nowhere",
  });
  const status = statusCommand({
    program: PROGRAM,
    statusSocket,
    write: (text) => written += text,
    isTerminal: false,
    nextPage,
  });
  const main: Command = command({
    name: PROGRAM,
    description: "does things",
    options: {},
    commands: [status],
    run: () => 1,
  });
  assertEquals(await main.execute(["status", "--status-socket", path, ...args]), 0);
  return written;
}

async function withSocket(test: (path: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(`${directory}/status.sock`);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
