/**
 * Lets the kernel carry packets between the tunnel and the networks beside it: forwarding switched
 * on, and clients' addresses masqueraded, in a table of our own.
 *
 * The table belongs to this process: the kernel removes it when the process ends, however it ends.
 * Switches that were off are switched off again when the program ends; after one that was killed,
 * its successor does that.
 * @module
 */

import { prefix } from "@firezone/core/ip";
import { ConfigError } from "@firezone/core/cli";
import {
  networkNamespaceCookie,
  type NfChain,
  NfPriority,
  type NfRule,
  NfTables,
  OsError,
  Sysctls,
} from "@firezone/core/os/linux";
import { type Logger, logger } from "@firezone/core/telemetry";

/** The name of our table. */
export const TABLE_NAME = "firezone-gateway";

const CLIENTS = [prefix("100.64.0.0/11"), prefix("fd00:2021:1111::/107")];

const SWITCHES = [
  "net/ipv4/ip_forward",
  "net/ipv4/conf/all/src_valid_mark",
  "net/ipv6/conf/all/forwarding",
  "net/ipv6/conf/default/forwarding",
];

/**
 * Sets everything up for clients that come in by `interfaceName`; call the result to undo it.
 *
 * A switch that may not be set is the administrator's business, as in a container: it is logged.
 *
 * @param journal file for the switches' former values, see {@link Sysctls}
 * @throws ConfigError when the table cannot be written
 */
export function setUpForwarding(
  interfaceName: string,
  journal: string | undefined = defaultJournal(),
): () => void {
  const log = logger("gateway", "forwarding");
  const tables = writeTable(interfaceName, log);
  const switches = new Sysctls(journal === undefined ? {} : { journal });
  for (const name of SWITCHES) {
    try {
      switches.write(name, "1");
    } catch (error) {
      log.warn("Cannot switch forwarding on", { name, error: (error as Error).message });
    }
  }
  return () => {
    for (const name of switches.restore()) log.warn("Cannot switch forwarding back", { name });
    tables.removeTable("inet", TABLE_NAME);
    tables.close();
  };
}

/** Switches belong to a network namespace, and so does what they were. */
function defaultJournal(): string | undefined {
  const namespace = networkNamespaceCookie();
  return namespace && `/run/firezone/forwarding-${namespace}.json`;
}

/** Writes our table; the result keeps it alive. @throws ConfigError when that is not possible */
function writeTable(interfaceName: string, log: Logger): NfTables {
  let tables: NfTables | undefined;
  try {
    tables = new NfTables();
    const isOwned = tables.replaceTable(
      { family: "inet", name: TABLE_NAME, chains: [masquerade(interfaceName)] },
      true,
    );
    if (!isOwned) log.debug("The table outlives a killed process: the kernel is older than 5.12");
    return tables;
  } catch (error) {
    tables?.close();
    if (!(error instanceof OsError)) throw error;
    throw new ConfigError(
      `Cannot masquerade: ${error.message}; load nf_tables, or pass --no-masquerade and see to it`,
    );
  }
}

function masquerade(interfaceName: string): NfChain {
  return {
    name: "postrouting",
    type: "nat",
    hook: "postrouting",
    priority: NfPriority.sourceNat,
    rules: CLIENTS.map((clients): NfRule => ({
      matches: [
        { tag: "source", prefix: clients },
        { tag: "output-interface", name: interfaceName, not: true },
      ],
      action: { tag: "masquerade" },
    })),
  };
}
