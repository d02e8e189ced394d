/**
 * Metrics and traces for an OpenTelemetry collector, by OTLP over gRPC.
 * @module
 */
export * from "./exporter.ts";
export type { HostPort } from "./grpc_call.ts";
