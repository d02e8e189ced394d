/**
 * The tunnel bench's figures: medians of alternating runs, as a table and as JSON.
 *
 * @module
 */

import { type MeasureName, MEASURES, median, type Sample } from "./tunnel_measures.ts";
import type { PathKind, SystemName } from "./tunnel_systems.ts";

/** A system over a path: what a column of the table shows. */
export interface Lane {
  /** The system. */
  readonly system: SystemName;
  /** The path. */
  readonly path: PathKind;
}

/** One run of one measure. */
export interface Run extends Lane {
  /** What was measured. */
  readonly measure: MeasureName;
  /** What it gave. */
  readonly sample: Sample;
}

/** The medians of all runs of one measure in one lane. */
export interface Cell extends Lane {
  /** What was measured. */
  readonly measure: MeasureName;
  /** How often. */
  readonly runs: number;
  /** Medians. */
  readonly median: Sample;
  /** Least and greatest of the first figure of the sample. */
  readonly range: readonly [number, number];
}

/** The figures of a sample, in the order of the table. */
export const FIGURES = {
  gbps: { unit: "Gbit/s", digits: 2 },
  lossPercent: { unit: "% lost", digits: 1 },
  cpuSecondsPerGb: { unit: "CPU s/GB", digits: 2 },
  busiestSecondsPerGb: { unit: "busiest thread s/GB", digits: 2 },
  medianUs: { unit: "µs median", digits: 0 },
  p99Us: { unit: "µs p99", digits: 0 },
} as const;

/** One of them. */
export type FigureName = keyof typeof FIGURES;

const FIGURE_NAMES = Object.keys(FIGURES) as readonly FigureName[];
/** What our figures are divided by. */
const REFERENCE: Lane = { system: "wireguard-go", path: "direct" };
const OURS: SystemName = "firezone";

/** Medians per measure and lane, in order of first appearance. */
export function summarise(runs: readonly Run[]): Cell[] {
  const groups = new Map<string, Run[]>();
  for (const run of runs) {
    const key = `${run.measure} ${laneName(run)}`;
    groups.set(key, [...groups.get(key) ?? [], run]);
  }
  return Array.from(groups.values(), (group) => {
    const { measure, system, path } = group[0]!;
    const medians: { -readonly [F in FigureName]?: number } = {};
    let range: readonly [number, number] | undefined;
    for (const figure of FIGURE_NAMES) {
      const values = group.flatMap(({ sample }) => sample[figure] ?? []);
      if (values.length === 0) continue;
      medians[figure] = median(values);
      range ??= [Math.min(...values), Math.max(...values)];
    }
    return { measure, system, path, runs: group.length, median: medians, range: range ?? [0, 0] };
  });
}

/** How a lane is called in the table. */
export function laneName({ system, path }: Lane): string {
  const name = system === "none" ? "no tunnel" : system;
  return path === "relayed" ? `${name}, relayed` : name;
}

/**
 * A table in Markdown that is also readable as it is.
 *
 * @param figures the rows of each measure; all of them if left out
 */
export function table(
  cells: readonly Cell[],
  figures: readonly FigureName[] = FIGURE_NAMES,
): string {
  const lanes = [...new Map(cells.map((cell) => [laneName(cell), cell])).values()];
  const measures = [...new Set(cells.map((cell) => cell.measure))];
  const find = (measure: MeasureName, lane: Lane) =>
    cells.find((cell) =>
      cell.measure === measure && cell.system === lane.system && cell.path === lane.path
    )?.median;
  const hasRatio = cells.some(({ system }) => system === REFERENCE.system) &&
    cells.some(({ system }) => system === OURS);
  const ratioTitle = `${OURS} ÷ ${REFERENCE.system}`;
  const rows = [["", ...lanes.map(laneName), ...hasRatio ? [ratioTitle] : []]];
  for (const measure of measures) {
    for (const figure of figures) {
      const values = lanes.map((lane) => find(measure, lane)?.[figure]);
      if (values.every((value) => value === undefined)) continue;
      const { unit, digits } = FIGURES[figure];
      const ours = find(measure, { system: OURS, path: "direct" })?.[figure];
      const theirs = find(measure, REFERENCE)?.[figure];
      const ratio = ours === undefined || !theirs ? "" : (ours / theirs).toFixed(2);
      rows.push([
        `${MEASURES[measure].title}, ${unit}`,
        ...values.map((value) => value?.toFixed(digits) ?? ""),
        ...hasRatio ? [ratio] : [],
      ]);
    }
  }
  return markdown(rows);
}

function markdown(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    `| ${
      row.map((text, i) => i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!)).join(
        " | ",
      )
    } |`;
  const rule = `| ${
    widths.map((width, i) => i === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`).join(" | ")
  } |`;
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join("\n");
}
