/**
 * Spans: what a program did, from when to when, and how it ended.
 *
 *     Tracer.start ──► Span ── end, fail ──► SpanQueue ──► an exporter takes them
 *
 * The queue is bounded: while nobody takes spans, new ones are counted and dropped.
 * @module
 */

import { hex } from "../bytes/mod.ts";
import type { RandomBytes } from "../random.ts";
import type { Attributes, AttributeValue } from "./attributes.ts";

/** A span that is over. */
export interface FinishedSpan {
  /** 16 bytes in hex, shared by all spans of a trace. */
  readonly traceId: string;
  /** 8 bytes in hex. */
  readonly spanId: string;
  /** The span that this one is part of. */
  readonly parentSpanId: string | undefined;
  /** What was done. */
  readonly name: string;
  /** Wall-clock milliseconds since 1970. */
  readonly startMs: number;
  /** Wall-clock milliseconds since 1970. */
  readonly endMs: number;
  /** What varies. */
  readonly attributes: Attributes;
  /** Why it failed, if it did. */
  readonly error: string | undefined;
}

/** Spans held until someone takes them. */
const QUEUE_LENGTH = 2048;

/** Spans that wait to be taken. */
export class SpanQueue {
  readonly #capacity: number;
  #spans: FinishedSpan[] = [];
  #dropped = 0;

  /** Empty.
   * @param capacity how many may wait; 0 keeps none */
  constructor(capacity: number = QUEUE_LENGTH) {
    this.#capacity = capacity;
  }

  /** How many wait. */
  get length(): number {
    return this.#spans.length;
  }

  /** How many found no room. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Adds one, if there is room. */
  push(span: FinishedSpan): void {
    if (this.#spans.length < this.#capacity) this.#spans.push(span);
    else this.#dropped++;
  }

  /** Takes all. */
  takeAll(): readonly FinishedSpan[] {
    const spans = this.#spans;
    this.#spans = [];
    return spans;
  }

  /** Puts back what was taken and could not be delivered, before those that came since. */
  giveBack(spans: readonly FinishedSpan[]): void {
    const all = [...spans, ...this.#spans];
    this.#spans = all.slice(0, this.#capacity);
    this.#dropped += all.length - this.#spans.length;
  }
}

/** What a {@link Tracer} is made of. */
export interface TracerOptions {
  /** Where spans go when they are over; undefined: nowhere. */
  readonly queue?: SpanQueue | undefined;
  /** For ids. */
  readonly random: RandomBytes;
  /** Wall-clock milliseconds since 1970. */
  readonly clock: () => number;
}

/** Starts spans. */
export class Tracer {
  readonly #options: TracerOptions;

  /** Costs nothing until a span starts. */
  constructor(options: TracerOptions) {
    this.#options = options;
  }

  /** Starts a span, as a part of `parent` if there is one. */
  start(name: string, attributes: Attributes = {}, parent?: Span): Span {
    return new Span(name, attributes, parent, this.#options);
  }
}

/** Something that is going on. */
export class Span {
  /** Of the trace that it belongs to; empty if nobody takes spans. */
  readonly traceId: string;
  /** Its own; empty if nobody takes spans. */
  readonly spanId: string;
  readonly #name: string;
  readonly #attributes: Record<string, AttributeValue>;
  readonly #parentSpanId: string | undefined;
  readonly #options: TracerOptions;
  readonly #startMs: number;
  #isOver = false;

  /** Made by {@link Tracer.start}. */
  constructor(
    name: string,
    attributes: Attributes,
    parent: Span | undefined,
    options: TracerOptions,
  ) {
    this.#name = name;
    this.#attributes = { ...attributes };
    this.#parentSpanId = parent?.spanId || undefined;
    this.#options = options;
    this.#startMs = options.clock();
    const id = (length: number) => options.queue ? hex(options.random(length)) : "";
    this.traceId = parent?.traceId || id(16);
    this.spanId = id(8);
  }

  /** Fields by which log lines are found from the span and back; none if nobody takes spans. */
  get logFields(): Readonly<Record<string, string>> {
    return this.traceId === "" ? {} : { trace_id: this.traceId, span_id: this.spanId };
  }

  /** Adds or replaces an attribute. */
  set(name: string, value: AttributeValue): void {
    this.#attributes[name] = value;
  }

  /** It is over, and went well. Only the first end counts. */
  end(): void {
    this.#end(undefined);
  }

  /** It is over, and went wrong. */
  fail(reason: string): void {
    this.#end(reason);
  }

  #end(error: string | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#options.queue?.push({
      traceId: this.traceId,
      spanId: this.spanId,
      parentSpanId: this.#parentSpanId,
      name: this.#name,
      startMs: this.#startMs,
      endMs: this.#options.clock(),
      attributes: this.#attributes,
      error,
    });
  }
}
