import { assertEquals, assertRejects } from "@std/assert";
import { ConfigError, Secret } from "@firezone/core/cli";
import { type RelayArguments, relayCommand, type RelayConfig } from "./cli.ts";

/**
 * Options of Firezone's relay as deployments use them, with a value and how it reads: in code they
 * may be renamed, for operators they may not.
 */
const ROWS: readonly (readonly [string, string, string, keyof RelayConfig, string])[] = [
  ["--public-ip4-addr", "PUBLIC_IP4_ADDR", "203.0.113.1", "publicIp4", "203.0.113.1"],
  ["--public-ip6-addr", "PUBLIC_IP6_ADDR", "2001:db8:0::1", "publicIp6", "2001:db8::1"],
  ["--bind-ip4-addr", "BIND_IP4_ADDR", "10.0.0.1", "bindIp4", "10.0.0.1"],
  ["--bind-ip6-addr", "BIND_IP6_ADDR", "fd00::1", "bindIp6", "fd00::1"],
  ["--listen-port", "LISTEN_PORT", "3479", "listenPort", "3479"],
  ["--lowest-port", "LOWEST_PORT", "50000", "lowestPort", "50000"],
  ["--highest-port", "HIGHEST_PORT", "50001", "highestPort", "50001"],
  ["--api-url", "FIREZONE_API_URL", "wss://api.test/", "apiUrl", "wss://api.test/"],
  ["--rng-seed", "RNG_SEED", "18446744073709551615", "rngSeed", "18446744073709551615"],
  ["--log-format", "LOG_FORMAT", "google-cloud", "logFormat", "google-cloud"],
  [
    "--otlp-grpc-endpoint",
    "OTLP_GRPC_ENDPOINT",
    "collector:4317",
    "otlpEndpoint",
    "collector:4317",
  ],
  ["--google-cloud-project-id", "GOOGLE_CLOUD_PROJECT_ID", "p", "googleCloudProjectId", "p"],
  ["--health-check-addr", "HEALTH_CHECK_ADDR", "0.0.0.0:81", "healthCheckAddr", "0.0.0.0:81"],
  ["--control-endpoint", "CONTROL_ENDPOINT", "[::1]:82", "controlEndpoint", "[::1]:82"],
  ["--num-worker-threads", "NUM_WORKER_THREADS", "2", "numWorkerThreads", "2"],
  ["--telemetry", "TELEMETRY", "true", "telemetry", "true"],
  ["--log-level", "RUST_LOG", "debug", "logLevel", "debug"],
  ["--drain-timeout", "DRAIN_TIMEOUT", "1m", "drainTimeout", "60000"],
  ["--allow-peer", "ALLOW_PEER", "10.1.2.3/8,::1", "allowPeer", "10.0.0.0/8,::1/128"],
  ["--deny-peer", "DENY_PEER", "10.1.2.3/32", "denyPeer", "10.1.2.3/32"],
];

for (const [flag, env, text, name, expected] of ROWS) {
  Deno.test(`${flag} and ${env} mean the same`, async () => {
    const isFlag = flag === "--telemetry";
    const byFlag = await configOf(isFlag ? [flag] : [flag, text]);
    const byEnv = await configOf([], { [env]: text });
    assertEquals([textOf(byFlag[name]), textOf(byEnv[name])], [expected, expected]);
    const unset = await configOf([], { [env]: "" });
    assertEquals(textOf(unset[name]), textOf((await configOf([]))[name]), "empty is not set");
  });
}

Deno.test("defaults are those of Firezone's relay, but for one worker per core", async () => {
  const config = await configOf([]);
  assertEquals(
    [config.listenPort, config.lowestPort, config.highestPort] as number[],
    [3478, 49152, 65535],
  );
  assertEquals(
    [config.logFormat, textOf(config.healthCheckAddr), config.telemetry],
    ["human", "0.0.0.0:8080", false],
  );
  assertEquals([config.numWorkerThreads, config.rngSeed, config.apiUrl], [
    undefined,
    undefined,
    undefined,
  ]);
  assertEquals([config.allowPeer, config.denyPeer], [[], []]);
});

Deno.test("token and name may be given by their places", async () => {
  let seen: RelayArguments | undefined;
  const command = relayCommand((_config, positionals) => {
    seen = positionals;
    return Promise.resolve(0);
  });
  await command.execute(["the-token", "the name"]);
  assertEquals([seen?.token?.reveal(), seen?.name], ["the-token", "the name"]);
  await command.execute([]);
  assertEquals([seen?.token, seen?.name], [undefined, undefined]);
});

Deno.test("peers that are no ranges are refused with where they came from", async () => {
  for (const wrong of ["10.0.0.0/33", "10.0.0.0/8,", "somewhere", "::/129"]) {
    await assertRejects(() => configOf(["--allow-peer", wrong]), ConfigError, "--allow-peer");
    await assertRejects(() => configOf([], { DENY_PEER: wrong }), ConfigError, "DENY_PEER");
  }
});

async function configOf(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<RelayConfig> {
  let seen: RelayConfig | undefined;
  const before = Object.keys(env).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(env)) Deno.env.set(name, value);
  try {
    await relayCommand((config) => {
      seen = config;
      return Promise.resolve(0);
    }).execute(args);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  }
  return seen!;
}

function textOf(value: unknown): string {
  if (value instanceof Secret) return value.reveal();
  if (value !== null && typeof value === "object" && "host" in value && "port" in value) {
    const { host, port } = value as { host: string; port: number };
    if (!(value instanceof URL)) return `${host}:${port}`;
  }
  return String(value);
}
