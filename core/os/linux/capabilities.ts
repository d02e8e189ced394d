/**
 * What this process may do (capabilities(7)).
 * @module
 */

/** Capabilities that programs here ask for, with their bit numbers. */
export const Capability = { NET_BIND_SERVICE: 10, NET_ADMIN: 12, NET_RAW: 13 } as const;

/** Whether the process has a capability now. False where /proc does not tell. */
export function hasCapability(capability: number): boolean {
  try {
    return capabilityIn(Deno.readTextFileSync("/proc/self/status"), capability);
  } catch {
    return false;
  }
}

/** Whether the text of /proc/PID/status grants a capability. */
export function capabilityIn(status: string, capability: number): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return effective !== undefined && (BigInt(`0x${effective}`) >> BigInt(capability) & 1n) === 1n;
}

/** Whether the process may create interfaces and change routes and packet filters. */
export function canAdministrateNetwork(): boolean {
  return hasCapability(Capability.NET_ADMIN);
}
