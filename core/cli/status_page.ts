/**
 * What a running program says about itself, as tables for people.
 *
 * Takes whatever JSON comes and shows what it understands: the program may be of another version.
 * @module
 */

type Fields = Readonly<Record<string, unknown>>;

/** Lines for a terminal, each with its newline. */
export function statusPage(program: string, status: unknown): string {
  const fields = toFields(status);
  const isGateway = Array.isArray(fields.peers);
  const sections = [
    headline(program, fields),
    table(
      isGateway ? "No resources are in use" : "No resources",
      isGateway ? USED_RESOURCE_COLUMNS : RESOURCE_COLUMNS,
      fields.resources,
    ),
    table("No clients", CLIENT_COLUMNS, fields.peers),
    table("No connections", CONNECTION_COLUMNS, fields.connections),
    drops(fields.drops),
  ];
  return sections.filter((section) => section !== "").join("\n");
}

interface Column {
  readonly title: string;
  readonly alignRight?: boolean;
  value(row: Fields): string;
}

const ANY_RESOURCE_COLUMNS: readonly Column[] = [
  { title: "RESOURCE", value: (row) => text(row.name || row.id) },
  { title: "TYPE", value: (row) => text(row.type) },
  { title: "ADDRESS", value: (row) => text(row.address) },
];

const USED_RESOURCE_COLUMNS: readonly Column[] = [
  ...ANY_RESOURCE_COLUMNS,
  { title: "CLIENTS", alignRight: true, value: (row) => text(row.clients) },
];

const RESOURCE_COLUMNS: readonly Column[] = [
  ...ANY_RESOURCE_COLUMNS,
  { title: "STATUS", value: (row) => text(row.status) },
  { title: "GATEWAY", value: (row) => text(row.gatewayId) },
];

const CLIENT_COLUMNS: readonly Column[] = [
  { title: "CLIENT", value: (row) => text(row.clientId) },
  { title: "IPV4", value: (row) => text(row.ipv4) },
  { title: "IPV6", value: (row) => text(row.ipv6) },
  { title: "RESOURCES", alignRight: true, value: (row) => count(row.resources) },
  { title: "FLOWS", alignRight: true, value: (row) => text(row.flows) },
];

const CONNECTION_COLUMNS: readonly Column[] = [
  { title: "CONNECTION", value: (row) => text(row.peerId) },
  { title: "STATE", value: (row) => text(row.state) },
  { title: "PATH", value: (row) => pathKind(toFields(row.path)) },
  { title: "FROM", value: (row) => text(toFields(row.path).local) },
  { title: "TO", value: (row) => text(toFields(row.path).remote) },
  { title: "RTT", alignRight: true, value: (row) => milliseconds(row.rttMs) },
  { title: "HANDSHAKE", alignRight: true, value: (row) => ago(row.lastHandshakeMs) },
  { title: "SENT", alignRight: true, value: (row) => bytes(row.txBytes) },
  { title: "RECEIVED", alignRight: true, value: (row) => bytes(row.rxBytes) },
  { title: "LOST", alignRight: true, value: (row) => lost(row) },
];

const NOTHING = "-";
const MAX_CELL = 45;

function headline(program: string, fields: Fields): string {
  const addresses = [fields.ipv4, fields.ipv6].filter((address) => typeof address === "string");
  const parts = [
    `${program}: ${session(fields)}`,
    addresses.length > 0 ? addresses.map(text).join(" and ") : "no addresses yet",
    typeof fields.uptimeMs === "number" ? `up ${duration(fields.uptimeMs)}` : "",
  ];
  return parts.filter((part) => part !== "").join(", ") + "\n";
}

/** `connected to wss://api.firezone.dev for 2h 1m`. */
function session({ portal, apiUrl, portalForMs }: Fields): string {
  const where = typeof apiUrl === "string" ? text(apiUrl) : "the portal";
  const since = typeof portalForMs === "number" ? ` for ${duration(portalForMs)}` : "";
  return `${portal === "connected" ? "connected" : "not connected"} to ${where}${since}`;
}

/** Nothing at all when the program has no such list, a sentence when it is empty. */
function table(whenEmpty: string, columns: readonly Column[], list: unknown): string {
  if (!Array.isArray(list)) return "";
  if (list.length === 0) return `${whenEmpty}\n`;
  const rows = list.map((item) => columns.map((column) => column.value(toFields(item))));
  const widths = columns.map(({ title }, i) =>
    Math.max(title.length, ...rows.map((row) => row[i]!.length))
  );
  return [columns.map(({ title }) => title), ...rows].map((row) =>
    row.map((cell, i) =>
      columns[i]!.alignRight ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)
    ).join("  ").trimEnd() + "\n"
  ).join("");
}

function drops(value: unknown): string {
  const parts = Object.entries(toFields(value))
    .filter(([, n]) => typeof n === "number" && n > 0)
    .map(([reason, n]) => `${text(reason)} ${n}`);
  return parts.length === 0 ? "" : `Dropped packets: ${parts.join(", ")}\n`;
}

function pathKind(path: Fields): string {
  switch (`${path.kind} ${path.remoteRelayed === true}`) {
    case "direct false":
      return "direct";
    case "direct true":
      return "relayed (their relay)";
    case "relayed false":
      return "relayed (our relay)";
    case "relayed true":
      return "relayed (both relays)";
    default:
      return NOTHING;
  }
}

function count(value: unknown): string {
  return Array.isArray(value) ? `${value.length}` : NOTHING;
}

function milliseconds(value: unknown): string {
  if (typeof value !== "number") return NOTHING;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

function ago(value: unknown): string {
  return typeof value === "number" ? `${duration(value)} ago` : "never";
}

/** The part of what the peer sent that did not arrive. */
function lost({ rxLost, rxPackets }: Fields): string {
  if (typeof rxLost !== "number" || typeof rxPackets !== "number") return NOTHING;
  const sent = rxLost + rxPackets;
  if (sent <= 0) return NOTHING;
  const percent = 100 * rxLost / sent;
  return `${percent === 0 || percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
}

/** The two largest units: `3d 4h`, `2m 5s`, `7s`. */
function duration(ms: number): string {
  let seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: string[] = [];
  for (const [unit, size] of [["d", 86_400], ["h", 3600], ["m", 60], ["s", 1]] as const) {
    const n = Math.floor(seconds / size);
    seconds -= n * size;
    if (n > 0 || parts.length > 0 || unit === "s") parts.push(`${n}${unit}`);
  }
  return parts.slice(0, 2).join(" ");
}

function bytes(value: unknown): string {
  if (typeof value !== "number") return NOTHING;
  let [amount, unit] = [value, "B"];
  for (const larger of ["kB", "MB", "GB", "TB"]) {
    if (amount < 999.5) break;
    [amount, unit] = [amount / 1000, larger];
  }
  return `${unit === "B" || amount >= 99.5 ? Math.round(amount) : amount.toFixed(1)} ${unit}`;
}

/** Names come from the portal: what they hold must not steer the terminal. */
function text(value: unknown): string {
  if (typeof value !== "string" && typeof value !== "number") return NOTHING;
  // deno-lint-ignore no-control-regex
  const clean = `${value}`.replace(/[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, "?");
  if (clean === "") return NOTHING;
  return clean.length > MAX_CELL ? `${clean.slice(0, MAX_CELL - 1)}…` : clean;
}

function toFields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? value as Fields
    : {};
}
