/**
 * The control connection: what the portal says, what we say, and the channel between.
 * @module
 */
export * from "./backoff.ts";
export * from "./client_messages.ts";
export * from "./external_id.ts";
export * from "./gateway_messages.ts";
export type { HostInfo } from "./host_info.ts";
export * from "./login_url.ts";
export {
  type Filter,
  type IceCredentials,
  type IpStack,
  type MalformedMessage,
  type Relay,
  RELAY_REALM,
  type RelaysPresence,
  type Site,
  type UnknownMessage,
} from "./message_parts.ts";
export * from "./outgoing.ts";
export * from "./phoenix_channel.ts";
export * from "./portal_connection.ts";
export * from "./user_agent.ts";
export { type ResolveHost, trustedRoots } from "./websocket.ts";
