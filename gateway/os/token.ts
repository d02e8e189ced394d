/**
 * Where the gateway's token comes from.
 * @module
 */

import { ConfigError, readCredential, type Secret, takeSecretEnv } from "@firezone/core/cli";

/** The variable that may hold the token, and the name of the systemd credential that may. */
export const TOKEN_VARIABLE = "FIREZONE_TOKEN";

/**
 * The token from the environment, which is cleared of it at once, or else from the credential that
 * systemd passes (`LoadCredential=FIREZONE_TOKEN:…`).
 *
 * @throws ConfigError if it is in neither place
 */
export function loadToken(): Secret {
  const token = takeSecretEnv(TOKEN_VARIABLE) ?? readCredential(TOKEN_VARIABLE);
  if (token !== undefined) return token;
  throw new ConfigError(
    `Can't find the Firezone token in $${TOKEN_VARIABLE} or in a systemd credential of that ` +
      "name: the admin portal shows it when a gateway is added to a site",
  );
}
