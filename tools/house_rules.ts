/**
 * House rules of this repository for `deno lint`: what `docs/ARCHITECTURE.md` says of rooms.
 *
 * - `house/layers`: imports only point down the floors below.
 * - `house/pure`: what is not named as a shell here takes time, randomness and bytes as arguments:
 *   it uses no clock, timer, socket, file or randomness, and imports nothing that does.
 *
 * Tests, benches and their fixtures may do as they like.
 * @module
 */

/** Rooms from the ground up; those of one line do not import each other, unless it is the last. */
export const FLOORS: readonly (readonly string[])[] = [
  ["core/units.ts", "core/random.ts", "core/bytes", "core/secret.ts", "core/config_error.ts"],
  ["core/deadlines.ts", "core/rate_limit.ts"],
  ["core/version.ts", "core/system_random.ts", "core/ip", "core/http2"],
  ["core/transmit.ts", "core/dns", "core/stun", "core/crypto", "core/control"],
  ["core/ice", "core/wireguard"],
  ["core/turn"],
  ["core/connectivity"],
  ["core/os", "core/telemetry"],
  ["core/cli", "core/portal"],
  ["core/runtime"],
  ["core/testing"],
  ["client", "gateway", "relay", "portal"],
  // Tests use the namespaces of `tools/netns`, benches the simulated world of `tests/simulation`.
  ["tools", "tests"],
];

/** Files and folders that meet the world: system calls, clocks, sockets, threads, files. */
export const SHELLS: readonly string[] = [
  ...["core/version.ts", "core/system_random.ts", "core/os", "core/cli", "core/runtime"],
  ...["core/testing", "tools", "tests"],
  ...inside("core/crypto", [
    "libcrypto.ts",
    "aead_libcrypto.ts",
    "ipsec_mb.ts",
    "native_library.ts",
    "aead_ipsec_mb.ts",
    "pointer_cache.ts",
    "select.ts",
  ]),
  ...inside("core/portal", ["portal_connection.ts", "websocket.ts", "host_info.ts"]),
  ...inside("core/telemetry", ["logging.ts", "log_directory.ts", "program_logging.ts"]),
  ...inside("core/telemetry/otlp", ["exporter.ts", "grpc_call.ts"]),
  ...inside("client", ["main.ts", "cli.ts", "os", "data_plane_worker.ts", "client_dns.ts"]),
  ...inside("client", ["sign_in.ts"]),
  ...inside("client/dns", ["dns_service.ts", "forwarders.ts", "doh_client.ts"]),
  ...inside("client/dns", ["askers.ts", "records_file.ts"]),
  ...inside("gateway", ["main.ts", "cli.ts", "os", "data_plane_worker.ts"]),
  ...inside("gateway/dns", ["exchange.ts", "name_servers.ts", "proxy.ts", "resolver.ts"]),
  ...inside("relay", ["main.ts", "cli.ts", "config.ts", "cloud_metadata.ts", "host.ts"]),
  ...inside("relay", ["operations.ts", "telemetry.ts", "control.ts", "report_collector.ts"]),
  ...inside("relay", ["relay_worker.ts", "loop.ts", "listen_port.ts", "buffered_sender.ts"]),
  ...inside("relay", ["worker_mailbox.ts", "forward_batch.ts", "sockets.ts"]),
  ...inside("portal", ["main.ts", "cli.ts", "server.ts", "config_file.ts", "sqlite_store.ts"]),
];

const HINT_FLOORS = "See FLOORS in tools/house_rules.ts";

const NOT_HELD_TO_RULES = /(_test|_bench)\.ts$|\/testing\/|\/testdata\/|fixtures/;

const GLOBALS: ReadonlySet<string> = new Set([
  ...["Deno", "process", "performance", "crypto", "console", "fetch", "WebSocket", "Worker"],
  ...["setTimeout", "setInterval", "queueMicrotask"],
]);

const NODE_MODULES =
  /^node:(net|tls|dgram|dns|fs|http|https|http2|os|process|child_process|timers|worker_threads|sqlite)\b/;

const plugin: Deno.lint.Plugin = {
  name: "house",
  rules: {
    layers: {
      create(context) {
        const path = pathOf(context.filename);
        if (path === undefined) return {};
        const floor = floorOf(path);
        if (floor === undefined) {
          const message = `${path} is on no floor`;
          return { Program: (node) => context.report({ node, message, hint: HINT_FLOORS }) };
        }
        const check = (node: ImportingNode) => {
          const target = node.source ? targetOf(path, node.source.value) : undefined;
          const below = target === undefined ? undefined : floorOf(target);
          if (target === undefined || below === undefined) return;
          if (roomOf(path) === roomOf(target) || below < floor) return;
          if (below === floor && floor === FLOORS.length - 1) return;
          const message = `${roomOf(path)} may not import ${roomOf(target)}: arrows point down`;
          context.report({ node, message, hint: HINT_FLOORS });
        };
        return onImports(check);
      },
    },
    pure: {
      create(context) {
        const path = pathOf(context.filename);
        // What a room shows is gathered from both kinds; who takes a value of it should know which.
        if (path === undefined || isShell(path) || path.endsWith("/mod.ts")) return {};
        const refuse = (node: Deno.lint.Node, what: string) =>
          context.report({
            node,
            message: `${what} in a pure file`,
            hint: "Take it as an argument, or move this to a shell: SHELLS in tools/house_rules.ts",
          });
        return {
          ...onImports((node) => {
            if (!node.source || isTypeOnly(node)) return;
            const specifier = node.source.value;
            const target = targetOf(path, specifier);
            if (target !== undefined && isShell(target)) refuse(node, `${target} is imported`);
            if (NODE_MODULES.test(specifier)) refuse(node, `${specifier} is imported`);
          }),
          MemberExpression(node) {
            if (node.object.type !== "Identifier") return;
            const { name } = node.object;
            const member = node.property.type === "Identifier" ? node.property.name : "";
            if (GLOBALS.has(name)) refuse(node, `${name}.${member}`);
            if (name === "Math" && member === "random") refuse(node, "Math.random");
            if (name === "Date" && member === "now") refuse(node, "Date.now");
          },
          CallExpression(node) {
            const { callee } = node;
            if (callee.type === "Identifier" && GLOBALS.has(callee.name)) refuse(node, callee.name);
          },
          NewExpression(node) {
            const { callee } = node;
            if (callee.type !== "Identifier") return;
            if (GLOBALS.has(callee.name)) refuse(node, `new ${callee.name}`);
            if (callee.name === "Date" && node.arguments.length === 0) refuse(node, "new Date()");
          },
          ImportSpecifier(node) {
            if (node.imported.type !== "Identifier") return;
            if (/^random(Bytes|UUID|Int|Fill)/.test(node.imported.name)) {
              refuse(node, node.imported.name);
            }
          },
        };
      },
    },
  },
};

export default plugin;

/** What imports, and what exports from elsewhere. */
type ImportingNode =
  | Deno.lint.ImportDeclaration
  | Deno.lint.ExportNamedDeclaration
  | Deno.lint.ExportAllDeclaration;

function onImports(check: (node: ImportingNode) => void): Deno.lint.LintVisitor {
  return {
    ImportDeclaration: check,
    ExportNamedDeclaration: check,
    ExportAllDeclaration: check,
  };
}

function isTypeOnly(node: ImportingNode): boolean {
  return (node.type === "ImportDeclaration" ? node.importKind : node.exportKind) === "type";
}

function inside(folder: string, names: readonly string[]): string[] {
  return names.map((name) => `${folder}/${name}`);
}

/** The path from the root of the repository; undefined for files that are not held to the rules. */
function pathOf(filename: string): string | undefined {
  const root = new URL("../", import.meta.url).pathname;
  const path = filename.startsWith(root) ? filename.slice(root.length) : filename;
  return NOT_HELD_TO_RULES.test(path) ? undefined : path;
}

/** What an import names, as a path from the root; undefined for packages and the runtime. */
function targetOf(path: string, specifier: string): string | undefined {
  if (specifier.startsWith("@firezone/")) return specifier.slice("@firezone/".length);
  if (!specifier.startsWith(".")) return undefined;
  return new URL(specifier, `file:///${path}`).pathname.slice(1);
}

function isIn(path: string, room: string): boolean {
  // Exports of a member leave the ending out: `@firezone/core/units`.
  return path === room || `${path}.ts` === room || path.startsWith(`${room}/`);
}

function isShell(path: string): boolean {
  return SHELLS.some((shell) => isIn(path, shell));
}

function floorOf(path: string): number | undefined {
  const floor = FLOORS.findIndex((rooms) => rooms.some((room) => isIn(path, room)));
  return floor < 0 ? undefined : floor;
}

function roomOf(path: string): string {
  return FLOORS.flat().find((room) => isIn(path, room)) ?? path;
}
