import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Deployment, ProgramName } from "@firezone/tools/deployment";
import type { Process } from "@firezone/tools/netns";
import { ADDRESS, UNGRANTED_PORT } from "@firezone/tools/topology";
import { requires } from "../requirements.ts";
import {
  assertLeftNothing,
  atOnce,
  download,
  inScene,
  readPage,
  SLOW,
  takeSnapshots,
  until,
  untilPage,
} from "./scene.ts";

const needs = requires("linux", "root", "namespaces", "tun", "ip", "nft", "curl");

/** A download from which nothing came for so long is cut off. */
const STALL_MS = 1_000;
/** Lasts for longer than it takes to change the configuration. */
const KEPT_BYTES = 5_000_000;
const NO_PAGE_MS = 1_000;
const PAGE_MS = 10_000;
const END_MS = 10_000;

/** Far enough away for something to be read before, on a slow machine, too. */
const EXPIRES_IN_MS = 4_000;

Deno.test("access that changes or ends", needs, async (t) => {
  await atOnce(t, {
    "changes count for what flows already": (t) =>
      inScene({ prefix: "fza" }, (deployment) => changeAccess(t, deployment)),
    "who has none any more is signed out": (t) =>
      inScene({ prefix: "fza-end", isEmpty: true }, (deployment) => endAccess(t, deployment)),
  });
});

async function changeAccess(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const config = deployment.config();
  const grant = async (resources: readonly string[], more: Record<string, unknown> = {}) => {
    const policies = [{ accounts: ["laptop"], resources, ...more }];
    await apply(deployment, { ...config, policies });
    await untilResources(deployment, resources);
  };
  await grant(["wiki", "payroll"]);
  await readPage(deployment, ADDRESS.web[0]);

  await t.step("a resource that is taken away is cut off, others go on", async () => {
    const kept = download(deployment, ADDRESS.payroll[0], { bytes: KEPT_BYTES, options: SLOW });
    await using lost = new EndlessDownload(deployment);
    await lost.untilUnderWay();
    await grant(["payroll"]);
    await lost.untilCutOff();
    await kept;
    assert(!await hasPage(deployment, ADDRESS.web[0]));
  });

  await t.step("and is there again when it is granted again", async () => {
    await grant(["wiki", "payroll"]);
    await readPage(deployment, ADDRESS.web[0]);
  });

  await t.step("filters that change count for what flows already", async () => {
    await using lost = new EndlessDownload(deployment);
    await lost.untilUnderWay();
    await filterWiki(deployment, config, [`tcp/${UNGRANTED_PORT}`]);
    await lost.untilCutOff();
    assert(!await hasPage(deployment, ADDRESS.web[0]));
    assert(await hasPage(deployment, ADDRESS.web[0], UNGRANTED_PORT, PAGE_MS));
    await filterWiki(deployment, config, []);
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    assert(await hasPage(deployment, ADDRESS.web[0], UNGRANTED_PORT, PAGE_MS));
  });

  await t.step("a policy expires while a file is downloaded", async () => {
    const expires_at = new Date(Date.now() + EXPIRES_IN_MS).toISOString();
    await grant(["wiki"], { expires_at });
    await using lost = new EndlessDownload(deployment);
    await lost.untilUnderWay();
    await lost.untilCutOff();
    await untilResources(deployment, []);
    assert(!await hasPage(deployment, ADDRESS.web[0]));
    await deployment.untilStatus("gateway", ({ connections }) => connections.length === 0);
  });
}

async function endAccess(t: Deno.TestContext, deployment: Deployment): Promise<void> {
  const config = deployment.config();
  const before = await takeSnapshots(deployment);
  await deployment.startAll();
  await readPage(deployment, ADDRESS.web[0]);
  const accounts = (more: Record<string, unknown>) =>
    apply(deployment, { ...config, accounts: [{ name: "laptop", ...more }] });

  await t.step("a client whose token is withdrawn", async () => {
    await accounts({ tokens: ["another-token-than-before"] });
    await assertSignedOut(deployment, "client", deployment.token("client"));
    await deployment.untilStatus("gateway", ({ connections }) => connections.length === 0);
  });

  await t.step("a client whose account expires", async () => {
    await apply(deployment, config);
    await deployment.startReady("client");
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    const expires_at = new Date(Date.now() + EXPIRES_IN_MS).toISOString();
    await accounts({ tokens: [deployment.token("client")], expires_at });
    await assertSignedOut(deployment, "client", deployment.token("client"));
  });

  await t.step("a gateway whose token is withdrawn", async () => {
    await apply(deployment, config);
    await deployment.startReady("client");
    await untilPage(deployment, ADDRESS.web[0], PAGE_MS);
    const sites = [{ name: "office", gateway_tokens: ["another-token-than-before"] }];
    await apply(deployment, { ...config, sites });
    await assertSignedOut(deployment, "gateway", deployment.token("gateway"));
    assert(!await hasPage(deployment, ADDRESS.web[0]));
  });

  await t.step("both have left their machines as they found them", async () => {
    const { code } = await deployment.process("client").stop(END_MS);
    assertEquals(code, 0);
    assertLeftNothing(before, (await takeSnapshots(deployment)).filter(isNotRelay(before)));
  });
}

/** The relay runs on. */
function isNotRelay(before: readonly string[]): (line: string) => boolean {
  return (line) => !line.startsWith("relay: process") || before.includes(line);
}

async function untilResources(deployment: Deployment, names: readonly string[]): Promise<void> {
  await deployment.untilStatus("client", ({ resources = [] }) => {
    const granted = resources.map(({ name }) => name).toSorted();
    return granted.join() === names.toSorted().join();
  });
}

async function filterWiki(
  deployment: Deployment,
  config: Record<string, unknown>,
  filters: readonly string[],
): Promise<void> {
  const resources = config.resources as { name: string }[];
  await apply(deployment, {
    ...config,
    resources: resources.map((one) => one.name === "wiki" ? { ...one, filters } : one),
  });
}

async function apply(deployment: Deployment, config: Record<string, unknown>): Promise<void> {
  const portal = deployment.process("portal");
  const since = portal.lineCount;
  await deployment.writeConfig(config);
  await portal.waitForLine(/applied the changed configuration/, PAGE_MS, since);
}

/** Reads what has no end. */
class EndlessDownload implements AsyncDisposable {
  readonly #file: string;
  readonly #curl: Process;

  constructor(deployment: Deployment) {
    this.#file = `${deployment.folder}/endless`;
    this.#curl = deployment.topology.get("client").spawn("curl", [
      ...["curl", "-sS", "--no-buffer", "--limit-rate", "1000k", "-o", this.#file],
      `http://${ADDRESS.web[0]}/stream`,
    ]);
  }

  /** Waits until something came. */
  async untilUnderWay(): Promise<void> {
    await until("the download begins", () => this.#size() > 0);
  }

  /** Waits until nothing comes any more. */
  async untilCutOff(): Promise<void> {
    let [size, since] = [0, performance.now()];
    await until("the download is cut off", () => {
      if (size !== this.#size()) [size, since] = [this.#size(), performance.now()];
      return performance.now() - since > STALL_MS;
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#curl.stop();
    await Deno.remove(this.#file);
  }

  #size(): number {
    try {
      return Deno.statSync(this.#file).size;
    } catch {
      return 0; // Nothing came yet.
    }
  }
}

async function hasPage(
  deployment: Deployment,
  address: string,
  port?: number,
  limitMs = NO_PAGE_MS,
): Promise<boolean> {
  return (await deployment.topology.fetchPage("client", address, limitMs, port)).ok;
}

/** A program ends with status 1 and one line that says why, without the token. */
async function assertSignedOut(
  deployment: Deployment,
  name: ProgramName,
  token: string,
): Promise<void> {
  const process = deployment.process(name);
  await until(`${name} ends`, () => process.status !== undefined, END_MS + EXPIRES_IN_MS);
  assertEquals(process.status?.code, 1);
  assertMatch(process.lines.at(-1)!, /disconnected/i);
  assert(!process.lines.join("\n").includes(token), "a token is never printed");
}
