/**
 * The chart of the tunnel bench: one bar per system and measure, as SVG that reads well on light
 * and dark pages.
 *
 * @module
 */

import { type MeasureName, MEASURES } from "./tunnel_measures.ts";
import { type Cell, laneName } from "./tunnel_report.ts";

/** Measures that the chart shows, if they were taken. */
const CHARTED: readonly MeasureName[] = ["tcp-down", "tcp-up", "tcp8-down", "tcp8-up"];

/** What stands below the chart. */
export interface ChartNotes {
  /** Such as `21 November 2026`. */
  readonly date: string;
  /** Such as `medians of 5 alternating runs`. */
  readonly method: string;
}

const WIDTH = 760;
const LABEL_WIDTH = 170;
const VALUE_WIDTH = 60;
const BAR = { height: 18, gap: 5 };
const GROUP_GAP = 22;
const TOP = 62;
const BOTTOM = 46;

const COLOURS: Readonly<Record<string, string>> = {
  "firezone": "#5e00d6",
  "firezone, relayed": "#a376f0",
};
const OTHERS = "#9aa1ad";

/** The chart of the throughput measures among `cells`; a tunnel's peers, not the bare network. */
export function chart(cells: readonly Cell[], notes: ChartNotes): string {
  const shown = cells
    .filter(({ system, median }) => system !== "none" && median.gbps !== undefined)
    .sort((a, b) => Number(b.system === "firezone") - Number(a.system === "firezone"));
  const groups = CHARTED
    .map((measure) => ({ measure, bars: shown.filter((cell) => cell.measure === measure) }))
    .filter(({ bars }) => bars.length > 0);
  const greatest = Math.max(...groups.flatMap(({ bars }) => bars.map((b) => b.range[1])), 0.1);
  const scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / greatest;
  const lines: string[] = [];
  let y = TOP;
  for (const { measure, bars } of groups) {
    lines.push(text(0, y + 13, "group", MEASURES[measure].title));
    y += 24;
    for (const bar of bars) {
      lines.push(...barLines(bar, y, scale));
      y += BAR.height + BAR.gap;
    }
    y += GROUP_GAP - BAR.gap;
  }
  const height = y - GROUP_GAP + BOTTOM;
  const footY = height - 12;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" ` +
    `font-family="system-ui, -apple-system, 'Segoe UI', sans-serif">`,
    `<title>TCP through a tunnel, in Gbit/s: ${escape(describe(shown))}</title>`,
    `<style>${STYLE}</style>`,
    text(0, 20, "title", "TCP through a tunnel"),
    text(0, 42, "note", "Gbit/s, more is better"),
    ...lines,
    text(0, footY, "note", `${notes.method}, ${notes.date}`),
    "</svg>",
    "",
  ].join("\n");
}

const STYLE = [
  "text{fill:#1f2430;font-size:13px}",
  ".title{font-size:19px;font-weight:600}",
  ".group{font-weight:600}",
  ".note,.name{fill:#6a7180}",
  ".value{font-variant-numeric:tabular-nums}",
  "@media(prefers-color-scheme:dark){text{fill:#e8eaf0}.note,.name{fill:#a2a9b8}}",
].join("");

function barLines(cell: Cell, y: number, scale: number): string[] {
  const name = laneName(cell);
  const value = cell.median.gbps!;
  const width = Math.max(2, value * scale);
  const fill = COLOURS[name] ?? OTHERS;
  const [low, high] = cell.range;
  const middle = y + BAR.height / 2;
  const lines = [
    text(LABEL_WIDTH - 10, y + 14, "name", name, "end"),
    `<rect x="${LABEL_WIDTH}" y="${y}" width="${round(width)}" height="${BAR.height}" rx="3" ` +
    `fill="${fill}"/>`,
  ];
  // How far the runs lay apart.
  if (cell.runs > 1) {
    lines.push(
      `<path d="M${round(LABEL_WIDTH + low * scale)} ${middle}H${
        round(LABEL_WIDTH + high * scale)
      }" stroke="#808794" stroke-width="1.5"/>`,
    );
  }
  const end = Math.max(width, cell.runs > 1 ? high * scale : 0);
  lines.push(text(LABEL_WIDTH + end + 8, y + 14, "value", value.toFixed(2)));
  return lines;
}

function describe(cells: readonly Cell[]): string {
  return cells
    .filter(({ measure }) => measure === "tcp-down")
    .map((cell) => `${laneName(cell)} ${cell.median.gbps!.toFixed(2)}`)
    .join(", ");
}

function text(x: number, y: number, style: string, content: string, anchor = "start"): string {
  const end = anchor === "start" ? "" : ` text-anchor="${anchor}"`;
  return `<text x="${round(x)}" y="${round(y)}" class="${style}"${end}>${escape(content)}</text>`;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}
